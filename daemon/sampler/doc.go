// Package sampler reads the sensors when they are due and hands on what they
// say.
//
// There are three kinds of goroutine, all owned by [Sampler.Run]. One
// scheduler knows when each sensor is due; it waits for nothing but time, so
// its turning is proof that the daemon lives. One worker per I2C bus (and one
// for each sensor that is on none) is the only goroutine that touches the
// hardware, and may be caught there for as long as the kernel likes. Between
// them stands one runner per sensor: it asks the worker, gives up waiting when
// the time is out, and decides what the outcome means.
//
// A read that fails is tried once more at once. If that fails too a fault is
// raised about the sensor, and never a value published. After three failures
// in a row the sensor is left alone for a second, then two, and so on up to a
// minute (the circuit breaker of M. Nygard, Release It!, chapter 5). The first
// good reading clears the fault.
//
// After any read that fails a sensor is opened anew, because its chip may have
// lost its power and its settings with it, or be another one by now; a line only
// after three, because one that is requested anew loses edges.
//
// The edges of a line are handed on by a goroutine of their sensor's, each as a
// record of its own, up to a rate (max_edges; a token bucket). Beyond that the
// line chatters, which is a fault: its changes are counted, also those that the
// kernel had to drop, and one record a second tells their number and the level
// since the last of them, until for ten seconds there were at most half as many
// as the rate allows. So no change is lost to whoever counts, and the level told
// last is always the present one.
//
// A read that falls due while the one before is still under way is left out.
// Nothing queues up behind a stuck bus.
package sampler
