package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"fieldpost/daemon/local"
	"fieldpost/daemon/uplink"
)

// callReconnect takes a [reconnectCall], gives a [LinkAnswer].
const callReconnect = "reconnect"

// reconnectPatience is how long the answer to that may take: more than an attempt.
const reconnectPatience = 45 * time.Second

// reconnectCall says whose link is meant.
type reconnectCall struct {
	Thing string `json:"thing,omitempty"` // the board; "" is ours
}

// LinkAnswer is what became of an attempt to connect.
type LinkAnswer struct {
	Connected bool   `json:"connected"`
	Endpoint  string `json:"endpoint"`
	ClientID  string `json:"client_id"`
	// What is wrong, or amiss although it is connected; empty where nothing is.
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
	Hint string `json:"hint,omitempty"`
}

// Print writes the answer for people. The error is w's.
func (a LinkAnswer) Print(w io.Writer) error {
	state := "not connected"
	if a.Connected {
		state = "connected"
	}
	_, err := fmt.Fprintf(w, "%s to %s as %s\n", state, a.Endpoint, a.ClientID)
	return err
}

// Err says what is wrong, as an [*uplink.Explained]; nil where nothing is.
func (a LinkAnswer) Err() error {
	if a.Code == "" {
		return nil
	}
	return &uplink.Explained{Code: a.Code, What: a.Text, Hint: a.Hint}
}

// localReconnect has the link connect now, for somebody on the socket.
func (d *Daemon) localReconnect(ctx context.Context, with json.RawMessage, from string) (any, error) {
	var call reconnectCall
	if with != nil {
		if err := local.Arguments(with, &call); err != nil {
			return nil, err
		}
	}
	if call.Thing != "" && call.Thing != d.o.Config.Thing {
		return nil, d.notOurs("request")
	}
	d.log.Info("link is to connect now", "cause", from)
	ctx, cancel := context.WithTimeout(ctx, reconnectPatience)
	defer cancel()
	s, err := d.link.Reconnect(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, &local.Error{Code: local.Busy, Text: fmt.Sprintf("the attempt to connect has not ended in %v", reconnectPatience), Hint: "`fieldpost status` tells how it ends."}
	}
	if err != nil {
		return nil, err
	}
	a := LinkAnswer{Connected: s.Connected, Endpoint: s.Endpoint, ClientID: s.ClientID}
	if s.Err != nil {
		a.Code, a.Text = string(codeOf(s.Err)), s.Err.Error()
	}
	var why *uplink.Explained
	if errors.As(s.Err, &why) {
		a.Hint = why.Hint
	}
	return a, nil
}

// AskReconnect has the daemon whose socket is at path connect to its broker now, and
// waits for what comes of it until ctx ends. thing is the board that is meant; "" is
// the daemon's. The error is or wraps [ErrNotOurs] or one of package local's.
func AskReconnect(ctx context.Context, path, thing string) (LinkAnswer, error) {
	var a LinkAnswer
	err := local.Do(ctx, path, callReconnect, reconnectCall{thing}, &a)
	return a, foreign(err, thing)
}
