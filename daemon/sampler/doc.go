// Package sampler reads the sensors when they are due and emits their readings.
//
// [Sampler.Run] owns three kinds of goroutine:
//
//   - The scheduler knows when each sensor is due. It waits for nothing but time, so
//     its heartbeat shows that the daemon is alive.
//   - A bus worker for each I2C bus, and one for each sensor that is on no bus, is the
//     only goroutine that touches that hardware. The kernel may block it for any time.
//   - A runner for each sensor asks the bus worker for a read, stops waiting when the
//     read takes too long, and decides what the result means.
//
// Sensors that were well are read without their runners: the scheduler hands all that are
// due on a bus to its worker, which reads them in one pass. While a driver waits for a
// conversion, the pass reads the next sensor. If a read fails in a pass, or the pass takes
// too long, the sensor's runner goes on.
//
// The readings of a tick are emitted at once, when the last of them is made. A reading waits
// for the others for at most the linger time, so a slow or stuck bus delays none for longer.
// An edge is emitted at once.
//
// A read that fails is repeated once, at once. If that fails too, the runner raises a
// fault about the sensor; a failed read is never published as a value. After three
// failures in a row the sensor is left alone for a second, then two, and so on up to a
// minute (the circuit breaker of M. Nygard, Release It!, chapter 5). The first good
// reading clears the fault.
//
// After any read that fails the sensor is opened again, because its chip may have lost
// its power and settings, or may be another one by now. A line is opened again only
// after three failures, because a new request loses edges.
//
// A follower goroutine of each input emits the edges of its line, each as a record of its
// own, up to a rate (max_edges, a token bucket). Above that rate the line chatters, which
// is a fault. Then the changes are counted, including those that the kernel dropped, and
// one record a second has their number and the level after the last of them. That ends
// when for ten seconds there were at most half as many changes as the rate allows. So a
// receiver that counts misses no change, and the last level it gets is always the present
// one.
//
// A read that falls due while the last one is still under way is skipped. Nothing queues
// up behind a stuck bus.
package sampler
