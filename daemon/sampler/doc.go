// Package sampler reads the sensors when they are due and emits their readings.
//
// [Sampler.Run] owns three kinds of goroutine:
//
//   - The scheduler knows when each sensor is due. It waits for nothing but time, so its
//     heartbeat shows that the daemon is alive.
//   - A bus worker is the only goroutine that uses the hardware of its bus. There is one for
//     each bus, and one for each sensor that is not on a bus. The kernel may block it for any
//     length of time.
//   - A runner for each sensor asks the bus worker for a read, stops waiting when the read
//     takes too long, and decides what the result means.
//
// While sensors work, they are read without their runners: the scheduler hands all sensors of
// a bus that are due to its worker, which reads them in one pass. While a driver waits for a
// conversion, the pass reads the next sensor. If a read fails in a pass, or the pass takes
// too long, the sensor's runner takes over.
//
// The readings of a tick are emitted together, when the last of them is made. A reading waits
// for the others for at most the linger time, so a slow or stuck bus delays the others by no
// more than that. An edge is emitted immediately.
//
// A read that fails is repeated once, immediately. If that fails too, the runner raises a
// fault for the sensor; a failed read is never published as a value. After three failures in
// a row the sensor is left alone for a second, then two, and so on up to a minute (the
// circuit breaker of M. Nygard, Release It!, chapter 5). The first good reading clears the
// fault.
//
// After any read that fails the sensor is opened again, because its chip may have lost its
// power and settings, or may be another one by now. A line is opened again only after three
// failures, because a new request loses edges.
//
// A follower goroutine of each input emits the edges of its line, each as a record of its
// own, up to a rate (max_edges, a token bucket). Above that rate the line chatters, which is
// a fault. Then the changes are counted, including those that the kernel dropped. One record
// per second has their number and the level after the last of them. This ends when there have
// been at most half as many changes as the rate allows for ten seconds. So a receiver that
// counts misses no change, and the last level that it gets is always the current one.
//
// A read that falls due while the last one is still running is skipped. Nothing queues up
// behind a stuck bus.
package sampler
