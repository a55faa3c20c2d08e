// Package output drives pins under a safety contract.
//
// Every output has a declared safe level. A [Bank] holds the lines of all
// outputs and sees to it that each of them is safe when nobody watches over
// it any more:
//
//   - The level travels with the request, so that a relay does not click when
//     the daemon starts.
//   - An order may say for how long. Then, and after a pulse, the line goes
//     back to safe.
//   - min_on and min_off keep a level for a while. An order to the safe level
//     waits for the end of that, any other that comes too early is refused.
//     They count from the last change of the level, from an attempt at one that
//     failed, and from the request of the line, as nobody knows what was before.
//   - interlock lets an output leave its safe level only while others are known
//     to be at theirs.
//   - max_on ends every stay at on, whoever asked for it.
//   - safe_after makes the line safe when the link has been down for so long.
//     A link that never came up since the start counts as down since then.
//   - refresh makes the line safe when no order was carried out for it for so
//     long: a watchdog of whoever controls it.
//   - Each level is read back from the kernel. A line that did not take its
//     level is driven safe, again and again until it is.
//   - A stop drives every line safe. Orders are refused from then on.
//   - Every change of a level is an event with its cause.
//
// An output with safe: keep is safe as it is: nobody drives it on stop, crash or
// lost link, and every order energises.
//
// A bank that runs takes another set of outputs ([Bank.Reconfigure]); an output that
// is the same in both is not touched.
//
// What the process cannot do for itself, because it was killed, is done from
// the crash record. Before a line is requested, its chip, offset, flags and
// safe level are written to a file. systemd runs `fieldpost safe` after the
// daemon ended in whatever way; that reads only this file ([MakeSafe]),
// requests each line at its safe level and hands the line handles to systemd,
// which keeps them open. The next start takes them over ([TakeOver]) before
// it reads its configuration. systemd has a handle of a line with safe: keep from
// the start, so that a crash does not end what drives it; copies of a handle drive
// a line at whatever it was set to last.
//
// # Levels at the start
//
// The level of initial: last comes from the journal of [Options]: the last that
// an order, a timer or a failure led to, but not the stop. So an output with a
// safe level is at that from the end of a run to the next request of its line, and
// then at its last. Where the journal cannot be read whole nothing of it is
// believed. initial: keep has the line requested without a direction, its level
// read, and driven at that.
//
// # What remains
//
// A kernel that hangs drives nothing. From power-on until the first start the
// pins are as the boot firmware leaves them. From the death of the daemon to
// the request of `fieldpost safe` the kernel decides: Raspberry Pi kernels
// keep the level, others return the line to its pull. Where this matters, wire
// a resistor that pulls the line to its safe level.
package output
