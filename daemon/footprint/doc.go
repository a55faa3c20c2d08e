// Package footprint measures what the whole daemon costs and how long it takes:
// memory, processor time, wake-ups and writes of a daemon in a process of its
// own, at rest, with ten sensors, with inputs that chatter, in an outage, with a
// backlog and under orders; the time from a reading to its PUBACK and from an
// order to its line. All of it is benchmarks for `make bench`. What one part
// costs is measured beside that part.
package footprint
