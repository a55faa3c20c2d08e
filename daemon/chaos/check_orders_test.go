//go:build chaos && linux

package chaos

import "time"

// checkOrders checks the finished orders, and drops them when all their answers must have
// arrived.
func (b *checker) checkOrders() {
	for id, e := range b.sent {
		if !e.over {
			continue
		}
		b.checkOrder(e)
		if b.now()-e.sent > remembered {
			delete(b.sent, id)
		}
	}
}

// remembered is how long after an order was sent an answer may still come.
const remembered = 10 * time.Minute

func (b *checker) checkOrder(e *sentOrder) {
	if e.retained {
		if e.copies == 0 && e.answers == 0 {
			b.complain("retained order %s was not answered", e.id)
		}
		if e.answers > 0 && !e.strange {
			b.complain("retained order %s was answered %+v", e.id, *e.reply)
		}
		return
	}
	if e.reply == nil {
		return // no broker accepted it
	}
	wrong := func(why string) {
		b.complain("%s: order %v", why, e)
	}
	if e.energises && len(e.replies) == 1 {
		switch s := e.reply.Status; {
		case s == "done" && e.acts != 1, (s == "refused" || s == "failed") && e.acts != 0:
			wrong("answer and line differ")
		}
	}
	switch e.window {
	case "act", "acted":
		if e.reply.Status != "unknown" || e.acts != map[string]int{"act": 0, "acted": 1}[e.window] {
			wrong("intent without result")
		}
	case "answer":
		if e.reply.Status != "done" {
			wrong("result without answer")
		}
	}
	if why := b.wrongAnswer(e); why != "" {
		wrong(why)
	}
}

// wrongAnswer returns the reason why an answer is wrong.
func (b *checker) wrongAnswer(e *sentOrder) string {
	if e.reply.Status == "refused" && !e.energises {
		return "an order to safe was refused"
	}
	at, known := e.reply.at()
	switch ok := map[string]bool{
		"":               e.reply.Status == "done",
		"expired":        known && !at.Before(e.expires.Truncate(time.Millisecond)) || e.page && e.stepped,
		"clock_unsynced": e.unsynced,
		"too_far_ahead":  e.stepped,
		"forgotten":      b.wasOff,
		"no_ledger":      e.failed,
		"overtaken":      e.weak || e.repeated, // otherwise one comes after the other
		"stopping":       e.stopped,
		"no_result":      e.killed || e.weak,
	}[e.reply.Reason]; {
	case !ok:
		return "no reason for this answer"
	case e.reply.Status == "done" && e.energises && known && at.Before(e.expires.Add(-2*time.Hour)) && !e.stepped:
		return "done long before it can have been sent"
	}
	return ""
}
