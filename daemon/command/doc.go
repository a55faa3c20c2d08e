// Package command carries out orders, each at most once, never late, and
// answers every one of them.
//
// An order is a JSON object on a topic that may be shared with anybody, our
// own messages included:
//
//	{"id":"c-81","output":"pump","action":"on","for":"30s","expires":"2026-11-21T19:05:00Z"}
//
// id names the order in its answer, 1 to 128 characters. action is on, off,
// toggle or pulse. for is how long, as Go writes durations ("1m30s"); then the
// output goes back to safe. expires is when the order has lost its meaning, a
// time of RFC 3339. thing, where several boards share the topic, is the board
// it is for. An order energises when it asks for any level but the output's
// safe one; toggle and pulse always do.
//
// The answer is a record of kind answer. Its status is done, refused, failed
// or unknown; all but done carry a reason, one of [Reasons], and a hint.
// Done means that the line has its level. The end of a for or of a pulse is an
// event of package output.
//
// # The way of an order
//
// Each step is a file: [Dispatcher.Serve] receives messages (serve.go), decodes them
// (decode.go) and admits orders to the queue of their output (dispatch.go, queue.go), if
// the gate lets them (gate.go). A job executes its order (execute.go): it waits for
// its turn, has the intent recorded (ledger.go, ledger_writer.go), moves the line and has
// the result recorded. Then the answer is delivered (answer.go) and the message
// acknowledged (acks.go).
//
// # The gate
//
// The rules, in the order in which they are applied, except CMD-18, which comes
// first. Each is tagged where it is coded and where it is tested.
//
//   - [CMD-1] A message is an order only if it is one JSON object with action,
//     without kind, and with no thing but ours. All else, our own answers and
//     readings included, is acknowledged and passed over, unanswered.
//   - [CMD-2] A malformed order is refused: larger than 64 KiB, a key twice, an
//     unknown key, a value of a wrong type or form, an unknown action. Its
//     answer carries its id where that can be read. Of a message of more than 64 KiB
//     only the first KiB is kept and looked at: it is an order if action stands
//     there. Of an object with more than 16 members the first 16 are.
//   - [CMD-3] A retained order is refused: it is a copy of something said at
//     some time to somebody.
//   - [CMD-4] A known id gets its first answer again, and nothing is done; while
//     that order is under way, it gets its answer when that stands. Only an order
//     to the safe level that differs from the one first sent under its id is
//     carried out all the same: who writes orders by hand and forgets to change
//     the id must still be able to switch off.
//   - [CMD-5] An order for an unknown output is refused.
//   - [CMD-6] An order to the safe level is refused for none of the reasons
//     below. It is carried out without id, without expires, and late too: safe
//     is right at any time. It never waits for the disk: it acts, and is recorded
//     after that.
//   - [CMD-7] Without id and expires an order that energises is refused. With
//     commands.unstamped: accept it may lack either or both, if nobody can have
//     stored it on its way: if it came at QoS 0, or not from a broker. What it
//     has is looked at all the same: an id acts once, an expiry is kept. What
//     it lacks is made up for as far as it goes: without expires it must act
//     within 10 s after it came; without id it is not remembered.
//   - [CMD-8] While the clock is not known to be true, an order with expires that
//     energises is refused: whether it has expired cannot be told.
//   - [CMD-9] An order that energises is refused when its expiry has come, also
//     when that is while it waits for its turn or for the disk.
//   - [CMD-10] It is refused when its expiry is further ahead than MaxLife.
//   - [CMD-11] An id is known, whatever its first answer was, until its expiry
//     and a day, by the wall clock and, in the same boot, by the time since
//     boot too; while the clock is not true no id is forgotten. In a later boot
//     the latest 256 are known for MaxLife and a day of that boot besides,
//     whatever the clock says. But not the id of an order refused by CMD-2 or
//     CMD-3, which was not looked at, and that of one carried out no longer than
//     MaxLife and a day by the clock that it came by: only one to the safe level
//     can expire later. The ids of orders carried out are bounded in number and
//     bytes: when no more fit, an order that energises is refused. Of orders
//     refused some 4000 are known; see CMD-20.
//   - [CMD-12] The intent of an order that energises is on disk before it acts,
//     and the result before it is answered. An intent without a result is
//     answered unknown and never carried out again.
//   - [CMD-13] A message is acknowledged when a crash cannot cost its answer any
//     more, or after 10 s while the spool's disk fails and the broker takes no
//     answers; without an answer that is sure to be the same if it came again,
//     before it is answered if that is a refusal, and else as soon as it is
//     answered. One whose connection has ended before it was begun is dropped: the
//     broker sends it again.
//   - [CMD-14] While orders cannot be recorded, an order that energises is
//     refused: at once where the disk says so, after 10 s where it says nothing,
//     and from then on at once until it answers. What is answered meanwhile is
//     put into the runtime journal before, so that it holds after a kill too.
//   - [CMD-15] Orders for one output are carried out one after the other, in the
//     order in which they came; those for different outputs do not wait for each
//     other. Only an order to the safe level goes ahead of those that energise
//     and have not begun: they are refused, for they came before it.
//   - [CMD-16] At most 64 orders wait for an output, and after 5 s at most eight.
//     An order that energises is refused when there is no room, or when its expiry
//     has come before its turn. One to the safe level fails when there is no room,
//     or after a minute; its id is not remembered, so that it may be tried again.
//     None acts later.
//   - [CMD-17] An order that energises is refused while its output has to keep its
//     level (min_on, min_off), while one to the safe level waits for that to end,
//     and while an output that it is interlocked with may be away from its safe
//     level. An order to the safe level that has to wait for min_on or min_off is
//     answered when the line is safe; others for its output do not wait for it.
//   - [CMD-18] Before all others: what comes by MQTT is looked at only if it came on
//     the topic that this configuration names for orders; without such a topic, or
//     without outputs, nothing is. A broker keeps the subscriptions that an earlier
//     configuration made for a session. All else is acknowledged, counted and passed
//     over, unanswered, with one warning a topic (at most 64).
//   - [CMD-19] Of orders from the broker that are refused, 256 are answered at once
//     and then five a second; of those that came before, as many again; of
//     malformed ones 32, and then one a second. The rest is acknowledged at once, is
//     neither logged nor remembered, and is counted: every 10 s an answer without
//     id, with the reason not_answered, says how many there were. Meanwhile
//     [health.OrderFlood] is raised, until a minute has passed without. What is done is
//     always answered. Of all messages that wait, orders to the safe level are
//     begun first; they overtake those before them for their output (CMD-15).
//   - [CMD-20] An order that was carried out, or was answered refused, does not act
//     when it comes again, also when its id is forgotten, whatever the clock said:
//     the expiries of orders that were forgotten are known for ever, as ranges, and
//     an order that energises and expires in one of these is refused. Of orders
//     refused, those give way that have expired or whose expiry is in such a range;
//     where there is none, what is refused is counted as in CMD-19 and not
//     answered, for it might act if it came again. Orders that expire further ahead
//     than MaxLife and a day take half of the room at most.
//
// # The ledger
//
// Orders are recorded in the journal of [Options], "orders.journal" in the spool's
// directory. The intent holds the whole order, not a hash of it, so that a later order
// under its id can be compared word by word. One goroutine writes, all that waits with
// one sync, in the order in which it was decided. At the start, and when it is more than
// twice as large as needed, the journal is rewritten, at most 10 MB.
//
// What a crash costs, by where it came: before the intent is on disk, nothing,
// the broker sends the order again; between intent and result, the next start
// answers it unknown; between result and acknowledgement, the broker sends it
// again and it gets its first answer. An order to the safe level that is
// cut short before it was recorded is carried out again when it comes again; no
// later order for its output has acted in between.
//
// A journal that cannot be read or written raises [health.LedgerUnavailable]
// and is tried again with every order and every 10 s. Meanwhile orders to the
// safe level are carried out, and all else is refused. A daemon without a
// directory for its spool is in that state: it does not fall back to memory,
// because an order would then act once in every run.
//
// What such a journal cannot take (a refusal, a result, an order to the safe
// level) is put into a second one, [Options].RuntimeJournal, in the runtime directory,
// before it is answered. That outlives the process and not a power cut, so it
// never lets an order act. The next start knows what stands there, writes it into
// the ledger when that can be written, and then empties it. It holds at most 4096
// entries and 2 MB; the oldest give way. What was decided while the ledger could
// not be read gives way to what it holds.
//
// Where the runtime directory cannot be written either, an order that is refused
// is known as long as the process runs. It is acknowledged before it is answered,
// so it comes again after a kill only if the broker did not get that. A power cut
// while the disk fails is like that too, and may cost the answers of that time.
//
// Of a journal that was damaged every entry that can be read is used. An intent
// whose result is left still makes its id known. A torn end is what a power cut
// leaves of an intent that was not begun, and is only logged.
//
// # Clocks that lie
//
// The ledger outlives these, so that no order acts a second time, or after it was
// answered refused, if the same message comes again:
//
//   - A clock that says that it is not true: nothing is forgotten, and nothing that
//     expires acts.
//   - One that is wrong and does not say so, ahead or behind, by seconds or years, for
//     a minute or for months, in one boot or over any number of them, and one that
//     jumps to and fro. Ids may be forgotten too early by it; the expiries of these
//     orders are not (CMD-20), and those lie near the time at which they were given, so
//     that little else is refused for it: what expires within an hour of an order
//     that was forgotten, until that time is over.
//   - One that was behind when an order was refused as too far ahead, and is set
//     right: the refusal is known until that order has expired.
//
// It does not outlive a journal that is lost, damaged or replaced by an older copy;
// nor, for orders that are given without expires or under an old id in new words, a
// clock that runs more than a day ahead over a reboot, when more than 256 others came
// after them. Orders to the safe level that are forgotten are done again. Whether an
// order is late the clock alone tells: one that is behind takes an old order to be in
// time, and that acts once.
//
// # Acknowledgements
//
// An answer is in the spool's memory at first, where a crash costs it. So its
// order stays with the broker until the answer has arrived or is on disk, which
// [Options].Answer tells. After a crash the broker sends the order again, and it
// gets its first answer from the ledger: answers may come twice, but none is
// lost. The ledger does not know of this.
//
// Some orders would not get the same answer if they came again, and might act: a
// retained copy need not come as one, an order without an id is not known, and
// what the ledger on disk does not have is gone after a power cut. Where they are
// refused they are acknowledged first and answered then, for an order that acts
// after it was refused is worse than a lost answer. The answers that are in
// the runtime journal are given again by the next run, unless they are known to
// have arrived. The others can be lost by a crash in the second after them; so can
// those to orders at QoS 0.
//
// Messages are acknowledged in the order in which they came (MQTT 3.1.1, section
// 4.6), each when it is finished. One that takes more than 5 s, because its line
// hangs, does not hold up those after it any more: a broker stops sending when
// some twenty are not acknowledged, and then no order would come for any output.
package command
