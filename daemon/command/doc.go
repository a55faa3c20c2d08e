// Package command carries out orders. Each order acts at most once, never late, and is always
// answered.
//
// An order is a JSON object on a topic, which others may use too, also for our own messages:
//
//	{"id":"c-81","output":"pump","action":"on","for":"30s","expires":"2026-11-21T19:05:00Z"}
//
// id identifies the order in its answer; it has 1 to 128 characters. action is on, off, toggle or
// pulse. for is a duration in Go's format ("1m30s"), after which the output goes back to its safe
// level. expires is the time, in RFC 3339, from which on the order must not act. thing names the
// board, if several boards share the topic. An order energises if it leads to another level than
// the output's safe one; toggle and pulse always energise.
//
// The answer is a record of kind answer. Its status is done, refused, failed or unknown; all except
// done have a reason, one of [Reasons], and a hint. Done means that the line has its level. The end
// of a for or of a pulse is an event of package output.
//
// # From message to answer
//
// Each step is a file: [Dispatcher.Serve] receives messages (serve.go), decodes them
// (decode.go) and admits orders to the queue of their output (dispatch.go, queue.go), if
// they pass the gate (gate.go). A job executes its order (execute.go): it waits for
// its turn, records the intent (ledger.go, ledger_writer.go), sets the line and records
// the result. Then the answer is delivered (answer.go) and the message
// acknowledged (acks.go).
//
// # The gate
//
// The rules, in the order in which they are applied, except CMD-18, which comes
// first. The code and the tests have the tags.
//
//   - [CMD-1] A message is an order only if it is one JSON object with an action, without a
//     kind, and without another board's thing. Everything else, also our own answers and readings,
//     is acknowledged and ignored without an answer.
//   - [CMD-2] A malformed order is refused: larger than 64 KiB, a duplicate key, an unknown key, a
//     value of a wrong type or form, an unknown action. Its answer has its id if that can be read.
//     Of a message of more than 64 KiB only the first KiB is kept and parsed: it is an order if
//     that contains an action. Of an object with more than 16 members the first 16 are parsed.
//   - [CMD-3] A retained order is refused: it may be of any age.
//   - [CMD-4] A known id gets its first answer again, and nothing is done. If that order is still
//     pending, its answer is given when it is known. There is one exception: an order to the safe
//     level that differs from the first order with its id is carried out. Somebody who writes
//     orders by hand and forgets to change the id must still be able to switch off.
//   - [CMD-5] An order for an unknown output is refused.
//   - [CMD-6] The rules below do not refuse an order to the safe level. It is carried out without
//     id, without expires, and when it is late, because the safe level is always right. It never
//     waits for the disk: it acts first and is recorded after that.
//   - [CMD-7] An energising order without id or expires is refused. With commands.unstamped: accept
//     one or both may be missing, if no broker can have stored the order: if it came at QoS 0, or
//     not from a broker. What the order has is checked nevertheless: an id acts once, and an expiry
//     is kept. Without expires the order must act within 10 s after it came; without id it is not
//     recorded.
//   - [CMD-8] While the clock is not synchronised, an energising order with expires is refused,
//     because it may have expired.
//   - [CMD-9] An energising order is refused when it has expired, also while it waits for its turn
//     or for the disk.
//   - [CMD-10] It is refused if it expires further ahead than MaxLife.
//   - [CMD-11] An id is known until a day after its expiry, whatever its first answer was. This
//     counts on the wall clock and, in the same boot, also on the time since boot. No id is
//     forgotten while the clock is not synchronised. In a later boot the latest 256 ids are known
//     for MaxLife and a day of that boot, whatever the clock says. There are two exceptions. The id
//     of an order refused by CMD-2 or CMD-3 is not recorded. The id of a carried-out order is known
//     for at most MaxLife and a day by the clock at its arrival; only an order to the safe level can
//     expire later. The ids of carried-out orders are limited in number and bytes: when there is no
//     more room, energising orders are refused. Of refused orders some 4000 are known; see CMD-20.
//   - [CMD-12] The intent of an energising order is on disk before it acts, and the result before
//     it is answered. An intent without a result is answered unknown and never carried out again.
//   - [CMD-13] A message is acknowledged when its answer is safe from a crash, or after 10 s while
//     the spool's disk fails and the broker takes no answers. If the answer would not certainly be
//     the same for a repeated message, a refusal is acknowledged before it is answered, and
//     anything else as soon as it is answered. If the connection of a message has ended before it
//     was begun, the message is dropped: the broker sends it again.
//   - [CMD-14] While orders cannot be recorded, energising orders are refused: at once if the disk
//     returns an error, after 10 s if it does not answer, and from then on at once until it
//     answers. Answers given meanwhile are written to the runtime journal first, so that they are
//     also valid after a kill.
//   - [CMD-15] Orders for one output are carried out one after the other, in the order in which
//     they came. Orders for different outputs do not wait for each other. Only an order to the safe
//     level overtakes energising ones that have not begun; those are refused, because they came
//     before it.
//   - [CMD-16] At most 64 orders wait for an output, and after 5 s at most eight. An energising
//     order is refused if there is no room, or if it expires before its turn. An order to the safe
//     level fails if there is no room, or after a minute; its id is not recorded, so that it can be
//     sent again. None acts later.
//   - [CMD-17] An energising order is refused while its output must keep its level (min_on,
//     min_off), and while an interlocked output may be away from its safe level. An order to the
//     safe level waits for the end of min_on or min_off, and is answered when the line is safe;
//     other orders for its output do not wait for it.
//   - [CMD-18] Before all other rules: a message over MQTT is decoded only if it came on the topic
//     that the present configuration names for orders; without such a topic, or without outputs,
//     none is. A broker keeps the subscriptions that an earlier configuration made in the session.
//     All other messages are acknowledged, counted and ignored without an answer, with one warning
//     for each topic (at most 64).
//   - [CMD-19] Of refused orders from the broker, 256 are answered at once and then five a second;
//     of repeated ones as many; of malformed ones 32, and then one a second. The others are
//     acknowledged at once, and are neither logged nor recorded, but counted: every 10 s an answer
//     without id, with the reason not_answered, has their number. [health.OrderFlood] is raised
//     until a minute has passed without any. Orders that are carried out are always answered. Of
//     all waiting messages, orders to the safe level begin first; they overtake earlier ones for
//     their output (CMD-15).
//   - [CMD-20] An order that was carried out, or was answered refused, does not act if it is
//     repeated, even if its id was forgotten, and whatever the clock says. The expiries of forgotten
//     orders are kept for ever, as ranges, and an energising order that expires in such a range is
//     refused. Refused orders are evicted if they have expired or expire in such a range. If none
//     can be evicted, further refusals are counted as in CMD-19 and not answered, because such an
//     order might act if it is repeated. Orders that expire further ahead than MaxLife and a day
//     take at most half of the room.
//   - [CMD-21] A journal that cannot be read for MaxLife is begun anew, once the clock is true and
//     if it can be written. Then all orders that it may have are expired, and those that expire
//     before that moment count as forgotten.
//
// # The ledger
//
// Orders are recorded in the journal of [Options], "orders.journal" in the spool directory. The
// intent contains the whole order, not a hash, so that a later order with its id can be compared
// with it. One goroutine writes everything that waits with one sync, in the order of the decisions.
// The journal is rewritten at the start, and when it is more than twice as large as needed; it has
// at most 10 MB.
//
// The effect of a crash depends on when it comes. Before the intent is on disk it has none: the
// broker sends the order again. Between intent and result, the next start answers unknown. Between
// result and acknowledgement, the broker sends the order again, and it gets its first answer. An
// order to the safe level that is interrupted before it was recorded is carried out again when it
// is repeated; no later order for its output has acted in between.
//
// A journal that cannot be read or written raises [health.LedgerUnavailable] and is retried with
// every order and every 10 s. Meanwhile orders to the safe level are carried out, and everything
// else is refused. A daemon without a spool directory is always in that state. It does not fall back
// to memory, because an order could then act once in every run.
//
// What cannot be written to such a journal (a refusal, a result, an order to the safe level) is
// written to a second one in the runtime directory, [Options].RuntimeJournal, before it is answered.
// That journal outlives the process but not a power cut, so it never lets an order act. The next
// start reads it, copies it to the ledger when that can be written, and then empties it. It has at
// most 4096 entries and 2 MB; the oldest are dropped. Decisions made while the ledger could not be
// read are replaced by what the ledger contains.
//
// If the runtime directory cannot be written either, a refused order is known only while the
// process runs. It is acknowledged before it is answered, so after a kill it comes again only if the
// broker did not get the acknowledgement. The same applies to a power cut while the disk fails,
// which may also lose the answers of that time.
//
// Every readable entry of a damaged journal is used. A result without its intent still makes its id
// known. An incomplete last entry is what a power cut leaves of an intent that was not begun, and is
// only logged.
//
// # Wrong clocks
//
// No order acts a second time, or after it was answered refused, if the same message comes again
// while
//
//   - the clock is known not to be synchronised: nothing is forgotten, and no order with expires
//     acts;
//   - the clock is wrong without being known to be: ahead or behind, by seconds or years, for a
//     minute or for months, in one boot or over several, or jumping back and forth. It may make the
//     ledger forget ids too early, but not the expiries of these orders (CMD-20). Those are near the
//     time at which the orders were sent, so few other orders are refused because of them: those
//     that expire within an hour of a forgotten one, until that time has passed;
//   - the clock was behind when an order was refused as too far ahead, and is corrected: the refusal
//     is known until that order has expired.
//
// This does not hold if the journal is lost, damaged or replaced by an older copy. For orders
// without expires, or with a reused id, it does not hold if the clock is more than a day ahead over a
// reboot and more than 256 other orders came after them. Forgotten orders to the safe level act
// again. Only the clock decides whether an order is late: if it is behind, an old order counts as
// in time, and acts once.
//
// # Acknowledgements
//
// An answer is first in the spool's memory, where a crash would lose it. So the broker keeps its
// order until the answer has arrived or is on disk, which [Options].Answer reports. After a crash the
// broker sends the order again, and it gets its first answer from the ledger. So answers may come
// twice, but none is lost.
//
// Some orders might not get the same answer if they came again, and might act: a retained message
// may be sent again as one that is not, an order without an id is not known, and what is not in the
// ledger on disk is lost in a power cut. If they are refused, they are acknowledged first and then
// answered, because an order that acts after it was refused is worse than a lost answer. The next
// run gives the answers in the runtime journal again, unless they are known to have arrived. A crash
// within the following second can lose the others, and also those to orders at QoS 0.
//
// Messages are acknowledged in the order in which they came (MQTT 3.1.1, section 4.6), when they are
// finished. A message that takes more than 5 s, because its line hangs, no longer delays later ones:
// a broker stops sending when some twenty messages are not acknowledged, and then no output would
// get orders.
package command
