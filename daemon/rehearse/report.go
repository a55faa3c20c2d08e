package rehearse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// Verdict is what a fault made of a promise.
type Verdict string

// The verdicts.
const (
	Held     Verdict = "held"
	Broken   Verdict = "broken"
	NotTried Verdict = "not tried"
)

// Outcome is what a fault made of one promise.
type Outcome struct {
	Fault    string  `json:"fault"`
	Happened string  `json:"happened"` // what happened, for people
	Promise  int     `json:"promise"`  // its number in [Promises]; 0: none was tried
	Verdict  Verdict `json:"verdict"`
	Why      string  `json:"why,omitempty"` // why it is broken or was not tried, or what to know
}

// Promises are the promises of daemon/DESIGN.md by their numbers, from 1.
var Promises = []string{1: "messages get through", 2: "orders cannot misfire", 3: "pins fail safe", 4: "one bad wire stops nothing else", 5: "refusals are explained"}

// Report is the result of a rehearsal.
type Report struct {
	Thing        string    `json:"thing"`
	NotSimulated []string  `json:"not_simulated"`
	NotRead      []string  `json:"not_read"` // sensors whose first value was not waited for
	SpedUp       []string  `json:"sped_up"`  // what differs from the configuration, to save time
	Outcomes     []Outcome `json:"outcomes"`
	Interrupted  bool      `json:"interrupted,omitempty"`
}

// ErrBroken is the error of a rehearsal in which a promise was broken.
var ErrBroken = errors.New("a promise was broken")

// Err returns [ErrBroken] if a promise was broken.
func (r Report) Err() error {
	for _, o := range r.Outcomes {
		if o.Verdict == Broken {
			return ErrBroken
		}
	}
	return nil
}

// PrintJSON prints the report as one JSON object.
func (r Report) PrintJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return nil
}

// Print prints the report as a table.
func (r Report) Print(w io.Writer) error {
	for _, s := range r.SpedUp {
		fmt.Fprintf(w, "to save time: %s\n", s)
	}
	for _, s := range r.NotSimulated {
		fmt.Fprintf(w, "NOT SIMULATED: %s\n", s)
	}
	for _, s := range r.NotRead {
		fmt.Fprintf(w, "NOT WAITED FOR: %s\n", s)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FAULT\tVERDICT\tPROMISE\tWHAT HAPPENED")
	for _, o := range r.Outcomes {
		promise, happened := "-", o.Happened
		if o.Promise > 0 {
			promise = fmt.Sprintf("%d %s", o.Promise, Promises[o.Promise])
		}
		switch {
		case happened == "":
			happened = o.Why
		case o.Why != "" && o.Verdict == Broken:
			happened += "; BUT " + o.Why
		case o.Why != "":
			happened += "; " + o.Why
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", o.Fault, o.Verdict, promise, happened)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	counts := map[Verdict]int{}
	for _, o := range r.Outcomes {
		counts[o.Verdict]++
	}
	_, err := fmt.Fprintf(w, "\nheld %d, broken %d, not tried %d\n", counts[Held], counts[Broken], counts[NotTried])
	return err
}
