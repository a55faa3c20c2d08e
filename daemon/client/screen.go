package client

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/api"
	"fieldpost/daemon/output"
	"fieldpost/daemon/visible"
)

// Screen is the live view of a daemon in a terminal. The caller passes it each new status,
// each key and the answer to each order, and draws it. Only one goroutine may use it.
type Screen struct {
	status    api.Status
	at        time.Time // when status came; zero before the first
	err       error     // why the last request for the status failed
	now       time.Time // when the last request was answered or failed
	plots     map[plotOf]*plot
	selected  string        // the output that keys act on
	asking    *OrderRequest // an order that a key has selected, not confirmed yet
	askingFor string        // the thing that the order is for
	sending   bool          // an order was sent and is not answered
	result    string        // the outcome of the last key or order
	top       int           // the first line of the body that is shown
	room      int           // number of body lines that the last drawing had room for
}

// Style says what a terminal can show.
type Style struct {
	Color   bool // colours and bold text
	Unicode bool // characters other than ASCII in plots and marks
}

// Key is a key that was pressed: its character, or one of the constants.
type Key rune

// The keys without a character.
const (
	KeyUp Key = -1 - iota
	KeyDown
	KeyPageUp
	KeyPageDown
	KeyEscape
)

// orderLife is how long an order from the screen is valid.
const orderLife = 10 * time.Second

// plotLength is how many values of a quantity are kept for its plot.
const plotLength = 120

type plotOf struct{ sensor, quantity string }

// plot keeps the last values of one quantity, the oldest first.
type plot struct {
	seq    uint64
	at     time.Time
	values []float64
}

func (p *plot) add(v float64) {
	if len(p.values) == plotLength {
		p.values = append(p.values[:0], p.values[1:]...)
	}
	p.values = append(p.values, v)
}

// Update gives the screen a status, or the reason why there is none. at is the time now.
func (s *Screen) Update(r api.Status, err error, at time.Time) {
	s.err, s.now = err, at
	if err != nil {
		return
	}
	if s.plots == nil || r.PID != s.status.PID {
		s.plots = map[plotOf]*plot{} // another run starts its counts again
	}
	s.status, s.at = r, at
	if !slices.ContainsFunc(r.Outputs, func(o api.Output) bool { return o.Name == s.selected }) {
		// The output is gone. A key that was meant for it must not act on another one.
		s.selected, s.asking = "", nil
		if len(r.Outputs) > 0 {
			s.selected = r.Outputs[0].Name
		}
	}
	kept := map[plotOf]*plot{}
	for _, one := range r.Sensors {
		for _, f := range one.Values {
			of := plotOf{one.Name, f.Name}
			p := cmp.Or(s.plots[of], &plot{})
			kept[of] = p
			v, ok := f.Value.(float64)
			if ok && (one.Seq != p.seq || !one.Time.Equal(p.at)) {
				p.seq, p.at = one.Seq, one.Time
				p.add(v)
			}
		}
	}
	s.plots = kept
}

// Press handles a key. send is a confirmed order that must be sent now, to the board called
// thing; the caller passes its answer to [Screen.Answered]. quit says that the user wants to
// leave.
func (s *Screen) Press(k Key) (send *OrderRequest, thing string, quit bool) {
	if asked := s.asking; asked != nil {
		s.asking = nil
		if k == 'y' || k == 'Y' {
			s.sending, s.result = true, ""
			return asked, s.askingFor, false
		}
		s.result = "not sent"
		return nil, "", false
	}
	switch k {
	case 'q', 'Q', 3: // Ctrl-C
		return nil, "", true
	case KeyUp, 'k':
		s.selectOutput(-1)
	case KeyDown, 'j':
		s.selectOutput(1)
	case KeyPageUp, 'b':
		s.top = max(0, s.top-max(1, s.room-1))
	case KeyPageDown, ' ':
		s.top += max(1, s.room-1) // bounded when it is drawn
	case 'o':
		s.ask("on")
	case 'f':
		s.ask("off")
	case 't':
		s.ask("toggle")
	}
	return nil, "", false
}

func (s *Screen) selectOutput(by int) {
	all := s.status.Outputs
	i := slices.IndexFunc(all, func(o api.Output) bool { return o.Name == s.selected })
	if i+by >= 0 && i+by < len(all) {
		s.selected = all[i+by].Name
	}
}

// ask selects an order, which the next key confirms or cancels.
func (s *Screen) ask(action string) {
	switch {
	case s.selected == "":
		s.result = "there is no output"
	case s.err != nil:
		s.result = "not sent: the daemon does not answer"
	case s.sending:
		s.result = "not sent: the last order has no answer yet"
	default:
		s.asking, s.askingFor = &OrderRequest{Output: s.selected, Action: action, Life: orderLife}, s.status.Thing
	}
}

// Answered passes the answer to the order that [Screen.Press] returned.
func (s *Screen) Answered(a api.OrderAnswer, err error) {
	s.sending = false
	s.result = AnswerText(a)
	if err != nil {
		s.result = cmp.Or(visible.Text(a.Status), "not carried out") + ": " + visible.Text(err.Error())
	}
}

// Draw returns rows lines of at most cols characters, colours not counted.
func (s *Screen) Draw(cols, rows int, style Style) []string {
	c := canvas{cols: max(cols, 1), style: style}
	s.header(&c)
	head := len(c.lines)
	s.faults(&c)
	s.outputs(&c)
	s.sensors(&c)
	body := c.lines[head:]

	s.room = max(0, rows-head-2)
	s.top = min(s.top, max(0, len(body)-s.room))
	end := min(len(body), s.top+s.room)
	out := append(slices.Clone(c.lines[:head]), body[s.top:end]...)
	for len(out) < rows-2 {
		out = append(out, "")
	}
	c.lines = nil
	s.footer(&c, len(body)-end)
	out = append(out, c.lines...)
	return out[:min(len(out), max(rows, 0))]
}

func (s *Screen) header(c *canvas) {
	if s.at.IsZero() {
		what := "waiting for the daemon"
		if s.err != nil {
			what = s.err.Error()
		}
		c.wrap(alarm, "", what)
		return
	}
	r := s.status
	c.line(strong, fmt.Sprintf("%s  fieldpost %s, up %s", r.Thing, r.Version, span(r.Uptime)))
	if s.err != nil {
		c.wrap(alarm, "", fmt.Sprintf("no answer for %s: %v", span(s.now.Sub(s.at).Seconds()), s.err))
	}
	l := r.Link
	state, how := "connected to ", plainText
	if !l.Connected {
		state, how = "NOT connected to ", alarm
	}
	next := ""
	if !l.Next.IsZero() {
		next = ", next try in " + span(max(0, l.Next.Sub(r.Time).Seconds()))
	}
	c.wrap(how, "link   ", state+l.Endpoint+" as "+l.ClientID+" for "+span(l.For)+next)
	waiting := "nothing waits"
	if r.Spool.Waiting > 0 {
		waiting = fmt.Sprintf("%d waiting, the oldest for %s", r.Spool.Waiting, span(r.Spool.Oldest))
	}
	c.line(plainText, fmt.Sprintf("spool  %s; %s of %s; %d dropped", waiting, size(r.Spool.Bytes), size(r.Spool.MaxBytes), r.Spool.Dropped))
	if !r.ClockSynced {
		c.line(warning, "clock  not synchronised: orders that switch on are refused")
	}
}

// faults come first, because they are what a person must know.
func (s *Screen) faults(c *canvas) {
	c.line(plainText, "")
	if len(s.status.Faults) == 0 {
		if !s.at.IsZero() {
			c.line(good, "ALL WELL")
		}
		return
	}
	c.line(strong, fmt.Sprintf("FAULTS (%d)", len(s.status.Faults)))
	for _, f := range s.status.Faults {
		how := warning
		if f.Error {
			how = alarm
		}
		c.wrap(how, "! ", fmt.Sprintf("%s: %s, for %s", f.Subject, f.Title, span(f.For)))
		if by := f.Because; by != nil {
			c.wrap(faint, "  ", fmt.Sprintf("because of %s: %s", by.Subject, by.Code))
			continue
		}
		for _, more := range nonempty(f.Detail, f.Hint) {
			c.wrap(faint, "  ", more)
		}
	}
}

func (s *Screen) outputs(c *canvas) {
	all := s.status.Outputs
	if len(all) == 0 {
		return
	}
	c.line(plainText, "")
	c.line(strong, "OUTPUTS")
	wide := 0
	for _, o := range all {
		wide = max(wide, utf8.RuneCountInString(o.Name))
	}
	for _, o := range all {
		mark := "  "
		if o.Name == s.selected {
			mark = "> "
		}
		since := ""
		if o.State != "" {
			since = fmt.Sprintf(" for %s, by %s", span(o.For), output.State{Cause: o.Cause, Order: o.Order}.By())
		}
		how := plainText
		switch {
		case o.Error != "" || len(o.Faults) > 0:
			how = alarm
		case o.State == "on":
			how = strong
		}
		state := fmt.Sprintf("%-3s", cmp.Or(o.State, "not ours")) + since
		c.line(how, mark+pad(o.Name, min(wide, 24))+"  "+strings.Join(append(nonempty(state, o.Error), o.Faults...), "; "))
	}
}

// row is one line of the table of sensors.
type row struct {
	name, quantity, value, age string
	plot                       *plot
	how                        look
}

func (s *Screen) sensors(c *canvas) {
	var rows []row
	for _, one := range s.status.Sensors {
		r := row{name: one.Name, age: "never read"}
		if !one.Time.IsZero() {
			r.age = span(one.Age) + " ago"
		}
		if len(one.Faults) > 0 {
			r.age, r.how = strings.Join(append([]string{r.age}, one.Faults...), "; "), alarm
		}
		if len(one.Values) == 0 {
			rows = append(rows, r)
		}
		for _, f := range one.Values {
			r.quantity = f.Name
			r.value = strings.TrimSpace(plain(f.Value) + " " + symbol(f.Name, one.Chip, one.Units))
			r.plot = s.plots[plotOf{one.Name, f.Name}]
			rows = append(rows, r)
			r.name, r.age = "", ""
		}
	}
	if len(rows) == 0 {
		return
	}
	c.line(plainText, "")
	c.line(strong, "SENSORS")
	var name, quantity, value, age int
	for _, r := range rows {
		name, quantity = max(name, utf8.RuneCountInString(r.name)), max(quantity, utf8.RuneCountInString(r.quantity))
		value = max(value, utf8.RuneCountInString(r.value))
		if r.quantity != "" {
			age = max(age, utf8.RuneCountInString(r.age))
		}
	}
	name, quantity, value, age = min(name, 24), min(quantity, 20), min(value, 20), min(age, 14)
	left := min(c.cols-2-name-2-quantity-2-value-2-age-2, plotLength)
	for _, r := range rows {
		text := "  " + pad(r.name, name) + "  "
		if r.quantity != "" {
			text += pad(r.quantity, quantity) + "  " + pad(r.value, value) + "  "
			if left >= 8 {
				text += pad(draw(r.plot, left, c.style.Unicode), left) + "  "
			}
		}
		c.line(r.how, text+r.age)
	}
}

func (s *Screen) footer(c *canvas, below int) {
	switch {
	case s.asking != nil:
		c.line(warning, fmt.Sprintf("%s: %s?  y sends the order, any other key does not", s.asking.Output, s.asking.Action))
	case s.sending:
		c.line(plainText, "waiting for the answer")
	default:
		c.line(plainText, s.result)
	}
	keys := "q quit"
	if below > 0 || s.top > 0 {
		keys += fmt.Sprintf("  space/b page (%d more)", below)
	}
	if len(s.status.Outputs) > 0 {
		keys += "  up/down choose  o on  f off  t toggle"
	}
	c.line(faint, keys)
}

// look is how a line is shown.
type look int

const (
	plainText look = iota
	strong
	faint
	good
	warning
	alarm
)

// codes are the parameters of Select Graphic Rendition, ECMA-48 section 8.3.117.
var codes = map[look]string{strong: "1", faint: "2", good: "32", warning: "33", alarm: "1;31"}

// canvas collects lines that fit the terminal.
type canvas struct {
	cols  int
	style Style
	lines []string
}

// line adds one line, cut off where the terminal ends. Nothing in text can move the cursor.
func (c *canvas) line(how look, text string) {
	text = strings.Map(func(r rune) rune {
		switch {
		case visible.Hidden(r):
			return '?'
		case c.style.Unicode:
			return r
		}
		return ascii(r)
	}, strings.TrimRight(text, " "))
	if r := []rune(text); len(r) > c.cols {
		text = string(r[:c.cols])
	}
	if code := codes[how]; c.style.Color && code != "" && text != "" {
		text = "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	c.lines = append(c.lines, text)
}

// wrap adds a text in as many lines as it needs, broken between words. The first begins with
// mark, the others with as many spaces.
func (c *canvas) wrap(how look, mark, text string) {
	line, fresh := mark, true
	for word := range strings.FieldsSeq(text) {
		if !fresh && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > c.cols {
			c.line(how, line)
			line, fresh = strings.Repeat(" ", len(mark)), true
		}
		if !fresh {
			line += " "
		}
		line, fresh = line+word, false
	}
	c.line(how, line)
}

// ascii replaces what a terminal without UTF-8 cannot show.
func ascii(r rune) rune {
	switch {
	case r == '°':
		return -1 // 21.5 C
	case r == 'µ' || r == 'μ':
		return 'u'
	case r > 126:
		return '?'
	}
	return r
}

// pad makes a text n characters long.
func pad(text string, n int) string {
	r := []rune(text)
	if len(r) > n {
		return string(r[:n])
	}
	return text + strings.Repeat(" ", n-len(r))
}

// Plots are drawn with eight heights, from the lowest value in view to the highest.
var (
	blocks = []rune("▁▂▃▄▅▆▇█")
	dots   = []rune("_.,-~+*#")
)

// draw draws the last values of a plot, one character each.
func draw(p *plot, width int, unicode bool) string {
	if p == nil || len(p.values) < 2 {
		return ""
	}
	marks := dots
	if unicode {
		marks = blocks
	}
	values := p.values[max(0, len(p.values)-width):]
	least, most := slices.Min(values), slices.Max(values)
	out := make([]rune, len(values))
	for i, v := range values {
		height := 0.0
		if most > least {
			if height = (v - least) / (most - least); math.IsInf(most-least, 0) {
				height = (v/2 - least/2) / (most/2 - least/2)
			}
		}
		out[i] = marks[min(int(math.Max(height, 0)*float64(len(marks))), len(marks)-1)]
	}
	return string(out)
}
