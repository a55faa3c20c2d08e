package command

// Code names the reason of an answer that is not done, in messages and in the
// documentation.
type Code string

// The codes.
const (
	Malformed     Code = "malformed"
	TooLarge      Code = "too_large"
	UnknownAction Code = "unknown_action"
	Retained      Code = "retained"
	UnknownOutput Code = "unknown_output"
	Unstamped     Code = "unstamped"
	ClockUnsynced Code = "clock_unsynced"
	Expired       Code = "expired"
	TooFarAhead   Code = "too_far_ahead"
	Forgotten     Code = "forgotten"
	TooMany       Code = "too_many"
	NoLedger      Code = "no_ledger"
	Busy          Code = "busy"
	Overtaken     Code = "overtaken"
	TooSoon       Code = "too_soon"
	Interlocked   Code = "interlocked"
	OutputFailed  Code = "output_failed"
	Hangs         Code = "hangs"
	Stopping      Code = "stopping"
	NoResult      Code = "no_result"
	NotAnswered   Code = "not_answered"
)

// Reason describes one reason for which an order is not done.
type Reason struct {
	Code   Code
	Status Status // of the answers that carry it
	Means  string // one sentence: why
	Do     string // one sentence: what to do
}

// Reasons is the list of all reasons, in the order of the documentation.
var Reasons = []Reason{
	{Malformed, Refused, "The order cannot be understood.", "Send an object with id, output, action, expires, and for and thing if needed, each once and each a string."},
	{TooLarge, Refused, "The order is larger than 64 KiB.", "Send the order alone in its message."},
	{UnknownAction, Refused, "The action is none that an output knows.", "Use on, off, toggle or pulse."},
	{Retained, Refused, "The order is a retained copy, which may be of any age.", "Publish orders with the retain flag off, and clear the retained one with an empty retained message."},
	{UnknownOutput, Refused, "This board has no output of that name.", "Use a name that stands under outputs in the configuration."},
	{Unstamped, Refused, "The order has no id or no expires, so that nobody can tell whether it comes twice or late.", "Give it an id of its own and a time when it expires; only orders to the safe level go without, unless the configuration has `commands.unstamped: accept`."},
	{ClockUnsynced, Refused, "This board's clock is not yet known to be true, so that it cannot tell whether the order comes late.", "Send it again under a new id when the clock is synchronised: `timedatectl status`."},
	{Expired, Refused, "The order's time was over before it could act.", "Send it again under a new id; if it was in time, compare the clocks of sender and board, and look for faults of the output."},
	{TooFarAhead, Refused, "The order expires further ahead than commands.max_life allows.", "Send it closer to when it is to act, or raise commands.max_life."},
	{Forgotten, Refused, "Orders that expire then are not remembered any more, because this board's clock was wrong for a while, so that this one might act twice.", "Send it again under a new id, to expire a few minutes later, and look at the board's clock: `timedatectl status`."},
	{TooMany, Refused, "So many orders came within a day that no more ids can be remembered.", "Send fewer; orders to the safe level still go through."},
	{NoLedger, Refused, "It cannot be recorded that the order is carried out, so that it might be carried out twice.", "Make room on the disk or replace the card, and send it again under a new id; orders to the safe level still go through."},
	{Busy, Refused, "So many orders wait for this output that there is no room for another.", "Wait for their answers before sending more; if none come, its line hangs: see the output's faults in the journal."},
	{Overtaken, Refused, "An order to the safe level that came later was carried out before this one had begun.", "Send it again under a new id if it is still wanted."},
	{TooSoon, Refused, "The output has to keep its level for a while yet.", "Send it again under a new id when that time is over; min_on and min_off of the output say how long it is."},
	{Interlocked, Refused, "Another output must be at its safe level before this one may leave its own.", "Make the other one safe first, and send this again under a new id; where its level is not known, see its faults in the journal."},
	{OutputFailed, Failed, "The line did not take its level, and was driven to safe as far as it obeys.", "See the output's faults in the journal: `journalctl -u fieldpost -p warning`."},
	{Hangs, Failed, "The output's line is held up by orders before this one, so that it could not begin.", "See the output's faults in the journal; cut its power if it must be safe now."},
	{Stopping, Failed, "The daemon is stopping and has made its outputs safe.", "Send the order again, under a new id, when it is back."},
	{NoResult, Unknown, "This order was begun, and it is not recorded how it ended; it is not begun again.", "Ask for the output's state, and send a new order if it is not what it should be."},
	{NotAnswered, Refused, "More orders were refused than are answered one by one, so these are only counted.", "Find who sends them and mend that; orders that are carried out are always answered."},
}

// lookup gives the registered reason of a code.
func lookup(c Code) Reason {
	for _, r := range Reasons {
		if r.Code == c {
			return r
		}
	}
	return Reason{Code: c, Status: Refused, Means: "Unregistered reason.", Do: "Report this as a bug of fieldpost."}
}
