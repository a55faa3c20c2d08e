// Package footprint measures what the daemon costs: memory, processor time,
// wake-ups and writes of a daemon in a process of its own, at rest, with ten
// sensors, with inputs that chatter, in an outage, with a backlog and under
// orders. All of it is benchmarks for `make bench`. What one part costs is
// measured beside that part.
package footprint
