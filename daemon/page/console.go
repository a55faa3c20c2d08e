package page

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"fieldpost/daemon/api"
	"fieldpost/daemon/topic"
	"fieldpost/daemon/visible"
)

// Console lets the page subscribe and publish like the MQTT test client of the AWS console. It
// is for a demo, with its own broker: it is no client of the daemon's, and no policy limits it.
// The functions may be called from several goroutines at a time.
type Console struct {
	// Watch has see called with each message whose topic matches a filter, the retained ones
	// first, until stop is called. see does not block.
	Watch func(filter string, see func(Message)) (stop func(), err error)
	// Publish publishes a message.
	Publish func(Message) error
}

// Message is an MQTT message.
type Message struct {
	Topic    string
	Payload  []byte
	QoS      byte // 0 or 1
	Retained bool // asks to be retained; or, seen: it was, before the subscription
}

const (
	mostWaiting   = 32       // messages that a browser has yet to be sent
	mostPerSecond = 20       // messages that a browser is sent
	mostShown     = 4 << 10  // bytes of a payload that a browser is sent
	mostPretty    = 16 << 10 // bytes of that with its indents
	mostPublished = 10       // messages that all browsers publish in a second
)

// seen is a message as the page shows it.
type seen struct {
	Time     time.Time `json:"time"`
	Topic    string    `json:"topic"`
	QoS      byte      `json:"qos"`
	Retained bool      `json:"retained,omitzero"`
	Size     int       `json:"size"`
	Text     string    `json:"text"`             // JSON with indents, plain text, or a dump of bytes
	Kind     string    `json:"kind"`             // JSON, text, bytes
	Cut      bool      `json:"cut,omitzero"`     // there is more than Text has
	Skipped  int       `json:"skipped,omitzero"` // messages that came before this one and were too many
}

// show makes a message what the page shows of it.
func show(m Message, now time.Time) seen {
	s := seen{Time: api.Time(now), Topic: visible.Text(m.Topic), QoS: m.QoS, Retained: m.Retained, Size: len(m.Payload)}
	part := m.Payload[:min(len(m.Payload), mostShown)]
	s.Cut = len(part) < len(m.Payload)
	var pretty bytes.Buffer
	if !s.Cut && json.Valid(part) && json.Indent(&pretty, part, "", "  ") == nil && pretty.Len() <= mostPretty {
		s.Kind, s.Text = "JSON", visible.Lines(pretty.String())
		return s
	}
	text := part
	for n := 0; s.Cut && n < utf8.UTFMax && len(text) > 0 && !utf8.Valid(text); n++ { // a character was cut in two
		text = text[:len(text)-1]
	}
	if utf8.Valid(text) {
		s.Kind, s.Text = "text", visible.Lines(string(text))
		return s
	}
	s.Kind, s.Text = "bytes", hex.Dump(part[:min(len(part), 512)])
	s.Cut = s.Cut || len(part) > 512
	return s
}

// subscription is what a browser that has subscribed has yet to be sent. The broker adds, and
// never waits.
type subscription struct {
	now  func() time.Time
	more chan struct{} // room for one

	mu      sync.Mutex
	waiting []seen
	skipped int // since the last that waits
	second  int64
	inIt    int // messages taken in this second
}

func (s *subscription) add(m Message) {
	now := s.now()
	s.mu.Lock()
	if now.Unix() != s.second {
		s.second, s.inIt = now.Unix(), 0
	}
	if len(s.waiting) >= mostWaiting || s.inIt >= mostPerSecond {
		s.skipped++
		s.mu.Unlock()
		return
	}
	s.inIt++
	one := show(m, now)
	one.Skipped, s.skipped = s.skipped, 0
	s.waiting = append(s.waiting, one)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *subscription) take() (all []seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, s.waiting = s.waiting, nil
	return all
}

// getMQTT sends the messages that match the filter of the query until the browser goes.
func (s *Server) getMQTT(w http.ResponseWriter, r *http.Request) {
	filter := r.URL.Query().Get("filter")
	if err := topic.CheckFilter(filter); err != nil {
		refuse(w, http.StatusBadRequest, "filter: "+err.Error())
		return
	}
	known, here := s.hasSession(r), s.seatOf(r)
	if !s.places.enterStream(here) {
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusServiceUnavailable, "too many pages are open")
		return
	}
	defer s.places.leaveStream(here)
	sub := &subscription{now: s.o.Now, more: make(chan struct{}, 1)}
	stop, err := s.o.Console.Watch(filter, sub.add)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	defer stop()
	out := beginEvents(w)
	beat := time.NewTicker(10 * time.Second) // finds out who has gone
	defer beat.Stop()
	text := []byte(": subscribed\n\n")
	for {
		_ = out.SetWriteDeadline(time.Now().Add(patience)) // where it fails, so does the writing
		if _, err := w.Write(text); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-sub.more:
		case <-beat.C:
		}
		if known && !s.hasSession(r) {
			return // another token, or its time is over
		}
		text = []byte(":\n\n")
		for _, m := range sub.take() {
			b, err := json.Marshal(m)
			if err != nil {
				return
			}
			text = append(append(append(text, "data: "...), b...), "\n\n"...)
		}
	}
}

// postMQTT publishes a message.
func (s *Server) postMQTT(w http.ResponseWriter, r *http.Request) {
	if !s.mayOrder(r) { // a message may be an order
		refuse(w, http.StatusUnauthorized, "show the token first")
		return
	}
	var m struct {
		Topic   string `json:"topic"`
		Payload string `json:"payload"`
		QoS     byte   `json:"qos"`
		Retain  bool   `json:"retain"`
	}
	if !arguments(w, r, &m) {
		return
	}
	if err := topic.Check(m.Topic); err != nil {
		refuse(w, http.StatusBadRequest, "topic: "+err.Error())
		return
	}
	if m.QoS > 1 {
		refuse(w, http.StatusBadRequest, "qos: want 0 or 1, as AWS IoT Core does")
		return
	}
	if !s.mayPublish() {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, "too many messages in this second; try again")
		return
	}
	if err := s.o.Console.Publish(Message{Topic: m.Topic, Payload: []byte(m.Payload), QoS: m.QoS, Retained: m.Retain}); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, struct{}{})
}

// mayPublish counts a message that is about to be published, unless there were too many in
// this second.
func (s *Server) mayPublish() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.o.Now().Unix(); now != s.second {
		s.second, s.published = now, 0
	}
	if s.published >= mostPublished {
		return false
	}
	s.published++
	return true
}
