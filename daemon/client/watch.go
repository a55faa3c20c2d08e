package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/health"
	"fieldpost/daemon/visible"
)

// Watch calls read again and again, with a pause of every after each, and writes a line with
// the time of day for each reading. If a sensor or bus fails, it writes that too, and the
// remedy only if that has changed, and goes on; so one can look for a loose wire. It returns
// nil when ctx ends, and immediately any other error of read and every error of w.
func Watch(ctx context.Context, w io.Writer, every time.Duration, read func(context.Context) (api.Reading, error)) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	hint := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		r, err := read(ctx)
		var failed *api.Error
		at := time.Now().Format(time.TimeOnly)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			hint = ""
			_, err = fmt.Fprintf(w, "%s  %s\n", at, strings.Join(texts(r.Values, r.Chip, r.Units), ", "))
		case errors.As(err, &failed) && isReadFault(failed.Code):
			_, err = fmt.Fprintf(w, "%s  %s\n", at, visible.Text(failed.Text))
			if failed.Hint != hint && err == nil {
				hint = failed.Hint
				_, err = fmt.Fprintf(w, "          hint: %s\n", visible.Text(hint))
			}
		}
		if err != nil {
			return err
		}
		pause.Reset(every)
	}
}

// isReadFault reports whether a code is a fault of a sensor or of its bus.
func isReadFault(code string) bool {
	return slices.Contains(health.Codes(health.Reading), health.Code(code)) || slices.Contains(health.Codes(health.Bus), health.Code(code))
}
