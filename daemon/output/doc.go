// Package output drives pins under a safety contract.
//
// Every output has a declared safe level. A [Bank] holds the lines of all outputs and
// drives each of them safe when it is no longer controlled:
//
//   - The level is part of the request of a line, so a relay does not click when
//     the daemon starts.
//   - An order may have a duration. After that, and after a pulse, the line goes
//     back to safe.
//   - min_on and min_off keep a level for some time. An order to the safe level
//     waits for the end of that time; any other order is refused until then.
//     The time counts from the last change of the level, from a failed attempt to
//     change it, and from the request of the line, since the level before is unknown.
//   - interlock lets an output leave its safe level only while others are known
//     to be at theirs.
//   - max_on limits how long an output is on, whatever switched it on.
//   - safe_after makes the line safe when the link has been down for that time.
//     A link that has not come up since the start counts as down since the start.
//   - refresh makes the line safe when no order was carried out for it for that
//     time: a watchdog on the controller.
//   - Each level is read back from the kernel. A line that did not take its
//     level is driven safe, and this is repeated until it succeeds.
//   - A stop drives every line safe. Orders are refused from then on.
//   - Every change of a level is an event with its cause.
//
// An output with safe: keep stays as it is on stop, crash and lost link, and every order
// energises it.
//
// [Bank.Reconfigure] gives a running bank another set of outputs. Outputs that are the
// same in both sets are not touched.
//
// The crash record makes lines safe after the process was killed. Before a line is
// requested, its chip, offset, flags and safe level are written to this file. After the
// daemon has ended in any way, systemd runs `fieldpost safe`. It reads only this file
// ([MakeSafe]), requests each line at its safe level and passes the line handles to
// systemd, which keeps them open. The next start takes them over ([TakeOver]) before it
// reads its configuration. For a line with safe: keep, systemd has a copy of the handle
// from the start. A copy keeps the line driven at its last level, so a crash does not
// change it.
//
// # Levels at the start
//
// The level of initial: last comes from the journal of [Options]. It is the last level
// that an order, a timer or a failure led to, not the safe level of a stop. So an output
// with a safe level has that from the end of a run until its line is requested again, and
// then its last level. If the journal cannot be read completely, none of it is used. With
// initial: keep the line is requested without a direction, its level is read, and it is
// driven at that level.
//
// # What remains
//
// Nothing drives lines safe while the kernel hangs. From power-on to the first start the
// pins are as the boot firmware leaves them. Between the end of the daemon and the
// request by `fieldpost safe` the kernel decides: Raspberry Pi kernels keep the level,
// others return the line to its pull. If this matters, wire a resistor that pulls the
// line to its safe level.
package output
