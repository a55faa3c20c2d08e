package command

// Code names the reason why an order is not done, in messages and in the documentation.
type Code string

// The codes.
const (
	Malformed     Code = "malformed"
	TooLarge      Code = "too_large"
	UnknownAction Code = "unknown_action"
	Retained      Code = "retained"
	UnknownOutput Code = "unknown_output"
	NoLevels      Code = "no_levels"
	Unstamped     Code = "unstamped"
	ClockUnsynced Code = "clock_unsynced"
	Expired       Code = "expired"
	TooFarAhead   Code = "too_far_ahead"
	Forgotten     Code = "forgotten"
	TooMany       Code = "too_many"
	NoLedger      Code = "no_ledger"
	Busy          Code = "busy"
	Overtaken     Code = "overtaken"
	Reloaded      Code = "reloaded"
	TooSoon       Code = "too_soon"
	Interlocked   Code = "interlocked"
	OutputFailed  Code = "output_failed"
	Hangs         Code = "hangs"
	Stopping      Code = "stopping"
	NoResult      Code = "no_result"
	NotAnswered   Code = "not_answered"
)

// Reason describes a reason why an order is not done.
type Reason struct {
	Code   Code
	Status Status // of the answers with this reason
	Means  string // one or two sentences: why
	Do     string // one or two sentences: what to do
}

// Reasons lists all reasons, in the order of the documentation.
var Reasons = []Reason{
	{Malformed, Refused, "The order cannot be parsed.", "Send a JSON object with id, output, action or level, and expires, and for and thing if needed: each key once, each value a string, but for level, a number."},
	{TooLarge, Refused, "The order is larger than 64 KiB.", "Send one order per message and nothing else."},
	{UnknownAction, Refused, "Outputs do not know this action.", "Use on, off, toggle, pulse or set."},
	{Retained, Refused, "The order is a retained message, which may be of any age.", "Publish orders with the retain flag off. Publish an empty retained message to delete the retained order."},
	{UnknownOutput, Refused, "This board has no output of that name.", "Use one of the names under outputs in the configuration."},
	{NoLevels, Refused, "The output is a line, which is only on or off.", "Use the actions on and off, or the levels 100 and 0. Other levels need a PWM output (`pwm` in the configuration)."},
	{Unstamped, Refused, "The order has no id or no expires, so fieldpost cannot tell whether it is a duplicate or late.", "Give every order its own id and an expiry time. Only orders to the safe level work without them, unless the configuration has `commands.unstamped: accept`."},
	{ClockUnsynced, Refused, "This board's clock is not synchronised yet, so fieldpost cannot tell whether the order is late.", "Send it again under a new id once the clock is synchronised: `timedatectl status`."},
	{Expired, Refused, "The order expired before it could act.", "Send it again under a new id. If it was sent in time, compare the clocks of sender and board, and look for faults of the output."},
	{TooFarAhead, Refused, "The order expires later than `commands.max_life` allows.", "Send it closer to the time when it should act, or increase `commands.max_life`."},
	{Forgotten, Refused, "The board's clock was wrong for a while, and orders with this expiry may have been forgotten. This one might act twice.", "Send it again under a new id, with an expiry a few minutes later, and check the board's clock: `timedatectl status`."},
	{TooMany, Refused, "Too many orders came within a day to remember more ids.", "Send fewer orders. Orders to the safe level still work."},
	{NoLedger, Refused, "The order cannot be recorded on disk, so it might be carried out twice.", "Free some space on the disk or replace the SD card, and send it again under a new id. Orders to the safe level still work."},
	{Busy, Refused, "Too many orders are waiting for this output.", "Wait for their answers before you send more. If no answers come, the line hangs: see the output's faults in the journal."},
	{Overtaken, Refused, "A later order to the safe level was carried out before this one could begin.", "Send it again under a new id if you still want it."},
	{Reloaded, Refused, "The configuration was reloaded while this order was under way, and its output has another safe level now.", "Send it again under a new id if it is still wanted."},
	{TooSoon, Refused, "The output has to keep its level for some time yet.", "Send it again under a new id after that time; the output's min_on and min_off say how long it is."},
	{Interlocked, Refused, "Another output must be at its safe level before this one may leave its own.", "Make the other output safe first, and send this order again under a new id. If the other level is unknown, see its faults in the journal."},
	{OutputFailed, Failed, "The line did not take the level. It was driven to safe as far as that works.", "See the output's faults in the journal: `journalctl -u fieldpost -p warning`."},
	{Hangs, Failed, "Earlier orders block the output's line, so this one could not begin.", "See the output's faults in the journal. Cut its power if it must be safe now."},
	{Stopping, Failed, "The daemon is stopping and has made its outputs safe.", "Send the order again under a new id when the daemon is back."},
	{NoResult, Unknown, "The order was begun, but its result was not recorded. It is not begun again.", "Query the output's state, and send a new order if it is wrong."},
	{NotAnswered, Refused, "More orders are refused than can be answered one by one. These were only counted.", "Find out who sends them and fix that. Orders that are carried out are always answered."},
}

// lookup returns the registered reason of a code.
func lookup(c Code) Reason {
	for _, r := range Reasons {
		if r.Code == c {
			return r
		}
	}
	return Reason{Code: c, Status: Refused, Means: "Unregistered reason.", Do: "Report this as a bug in fieldpost."}
}
