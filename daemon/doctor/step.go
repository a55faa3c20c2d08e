package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/visible"
)

// Outcome is how a step ended.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Noted   Outcome = "noted"   // not ideal, but the daemon works
	Skipped Outcome = "skipped" // not done; Found says why
)

// Step is one step of an examination and its result.
type Step struct {
	Name    string   `json:"name"`
	Outcome Outcome  `json:"outcome"`
	Seconds float64  `json:"took_s"`
	Found   string   `json:"found,omitempty"`  // what was found
	Detail  []string `json:"detail,omitempty"` // further lines
	// What is wrong if the step failed. Code is the code of a fault in package health; empty
	// if the daemon has no such fault.
	Code    string `json:"code,omitempty"`
	Meaning string `json:"meaning,omitempty"`
	Cure    string `json:"cure,omitempty"`
	// Inferred says that the broker gave no reason, so the meaning is a conclusion.
	Inferred bool `json:"inferred,omitempty"`
}

// Report is the result of an examination.
type Report struct {
	Config   string `json:"config"`
	Endpoint string `json:"endpoint"`
	// ClientID is the client id that the doctor used; OwnID says whether it is the daemon's.
	ClientID string `json:"client_id"`
	OwnID    bool   `json:"own_id"`
	Steps    []Step `json:"steps"`
	Failed   int    `json:"failed"`
}

// WriteJSON writes the report as one JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

var marks = map[Outcome]string{Passed: "✓", Failed: "✗", Noted: "!", Skipped: "-"}

// Write writes the step for people: a mark, the name, the time it took and what was found.
// For a failed step it adds the meaning and what to do.
func (s Step) Write(w io.Writer) {
	took := ""
	if s.Outcome != Skipped {
		took = time.Duration(s.Seconds * float64(time.Second)).Round(time.Millisecond).String()
	}
	fmt.Fprintf(w, "%s %-24s %7s  %s\n", marks[s.Outcome], visible.Text(s.Name), took, visible.Text(s.Found))
	for _, d := range s.Detail {
		fmt.Fprintf(w, "    %s\n", visible.Text(d))
	}
	if s.Outcome != Failed {
		return
	}
	if s.Inferred {
		fmt.Fprintln(w, "    inferred: the broker closed the connection without a reason")
	}
	for _, line := range []struct{ label, text string }{{"means", s.Meaning}, {"do", s.Cure}} {
		if line.text != "" {
			fmt.Fprintf(w, "    %s: %s\n", line.label, visible.Text(line.text))
		}
	}
	if s.Code != "" {
		fmt.Fprintf(w, "    fault: %s\n", s.Code)
	}
}

// finding is a problem that has no error of its own.
type finding struct {
	outcome             Outcome
	code                health.Code
	what, meaning, cure string
}

func (f *finding) Error() string { return f.what }

// skip returns the error of a step that was not done.
func skip(why string, args ...any) error {
	return &finding{outcome: Skipped, what: fmt.Sprintf(why, args...)}
}

// note returns the error of a step that found something worth a remark, but not a failure.
func note(what string, args ...any) error {
	return &finding{outcome: Noted, what: fmt.Sprintf(what, args...)}
}

// fault returns the error of a failed step, with a fault of the registry, which describes it.
func fault(code health.Code, what string, args ...any) error {
	return &finding{outcome: Failed, code: code, what: fmt.Sprintf(what, args...)}
}

// setResult fills in the result of a step from its error.
func (s *Step) setResult(found string, err error) {
	s.Outcome, s.Found = Passed, found
	if err == nil {
		return
	}
	s.Outcome, s.Found = Failed, err.Error()
	var own *finding
	var why *uplink.Explained
	switch {
	case errors.As(err, &own):
		s.Outcome, s.Code, s.Meaning, s.Cure = own.outcome, string(own.code), own.meaning, own.cure
	case errors.As(err, &why):
		s.Code, s.Cure, s.Inferred = why.Code, why.Hint, uplink.Inferred(err)
	case errors.Is(err, context.DeadlineExceeded):
		s.Meaning, s.Cure = "There was no answer in time.", "Check the network; run it again."
	}
	if s.Outcome != Failed || s.Code == "" {
		return
	}
	f := health.Lookup(health.Code(s.Code))
	if s.Meaning == "" {
		s.Meaning = strings.TrimSuffix(f.Title, ".") + ". " + f.Meaning
	}
	if s.Cure == "" {
		s.Cure = f.Cure
	}
}
