package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/local"
	"fieldpost/daemon/visible"
)

// AskReload makes the daemon whose socket is at path read its configuration file again, and
// waits until that is done or ctx ends. If the daemon refuses the configuration, the error
// wraps [config.Errors]. Other errors are or wrap one of package local's, or are an [*api.Error].
func AskReload(ctx context.Context, path string) (api.Changes, error) {
	var c api.Changes
	err := local.Do(ctx, path, api.PostReload, nil, &c)
	return c, badConfiguration(err, "nothing has changed: the daemon keeps its present configuration")
}

// AskDiff asks the daemon whose socket is at path what a reload would change. Its errors are
// those of [AskReload].
func AskDiff(ctx context.Context, path string) (api.Changes, error) {
	var c api.Changes
	err := local.Do(ctx, path, api.PostDiff, nil, &c)
	return c, badConfiguration(err, "a reload would be refused")
}

// badConfiguration returns the problems of a configuration that the daemon refused as
// [config.Errors], followed by meaning. It returns other errors unchanged.
func badConfiguration(err error, meaning string) error {
	var said *api.Error
	if !errors.As(err, &said) || said.Code != api.BadConfiguration {
		return err
	}
	var problems config.Errors
	for _, p := range said.Problems {
		problems = append(problems, &config.Error{File: p.File, Line: p.Line, Path: p.Key, Reason: p.Reason, Value: p.Value})
	}
	return fmt.Errorf("%w\n%s", problems, meaning)
}

// PrintChanges writes for people what a reload has changed, or would change: a title, and one
// line per change. The title is done, or none if nothing changes. The error is w's.
func PrintChanges(w io.Writer, c api.Changes, done, none string) error {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, kind := range []struct {
		what    string
		changes []api.Change
	}{{"sensor", c.Sensors}, {"output", c.Outputs}} {
		for _, x := range kind.changes {
			if x.Change != api.Kept {
				add("%s %s: %s", kind.what, visible.Text(x.Name), visible.Text(x.Change))
			}
		}
	}
	for _, s := range c.Settings {
		add("%s: %s -> %s", s.Key, shown(s.Before), shown(s.After))
	}
	if c.Reconnects != nil {
		add("new connection, because of: %s", strings.Join(c.Reconnects, ", "))
	}
	title := done
	if lines == nil {
		title = none
	}
	text := visible.Text(c.File) + ": " + title + "\n"
	for _, l := range lines {
		text += "  " + l + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// shown returns a value for printing; "nothing" stands for an empty one.
func shown(value string) string {
	if value == "" {
		return "nothing"
	}
	return visible.Text(value)
}
