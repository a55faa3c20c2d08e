package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/local"
	"fieldpost/daemon/uplink"
)

// reconnectPatience is how long the answer to that may take: more than an attempt.
const reconnectPatience = 45 * time.Second

// localReconnect has the link connect now, for somebody on the socket.
func (d socketCalls) localReconnect(ctx context.Context, body json.RawMessage, from string) (any, error) {
	var call api.ReconnectRequest
	if body != nil {
		if err := local.Arguments(body, &call); err != nil {
			return nil, err
		}
	}
	if call.Thing != "" && call.Thing != d.config().Thing {
		return nil, d.notOurs("request")
	}
	d.log.Info("connecting on request", "cause", from)
	ctx, cancel := context.WithTimeout(ctx, reconnectPatience)
	defer cancel()
	s, err := d.link.Reconnect(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, &api.Error{Code: api.Busy, Text: fmt.Sprintf("the attempt to connect has not ended in %v", reconnectPatience), Hint: "`fieldpost status` shows how it ends."}
	}
	if err != nil {
		return nil, err
	}
	a := api.ReconnectAnswer{Connected: s.Connected, Endpoint: s.Endpoint, ClientID: s.ClientID}
	if s.Err != nil {
		a.Code, a.Text = string(codeOf(s.Err)), s.Err.Error()
	}
	var why *uplink.Explained
	if errors.As(s.Err, &why) {
		a.Hint = why.Hint
	}
	return a, nil
}
