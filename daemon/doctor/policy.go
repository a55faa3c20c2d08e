package doctor

import (
	"fmt"
	"io"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
)

// checkPolicies asks policies for all that the daemon needs. It takes the thing as
// registered, and the certificate as attached to it.
func checkPolicies(cfg *config.Config, files []string, w io.Writer) (bad int, err error) {
	p, err := need.Read(files...)
	if err != nil {
		return 0, err
	}
	by := need.Connection(cfg)
	by.Certificate = need.Certificate(cfg.Broker.Certificate)
	for _, a := range need.Simulate(cfg, p, by, "", false).Needs {
		if a.Allowed() {
			continue
		}
		bad++
		fmt.Fprintf(w, "error: policy: %s on %s (%s): %s\n", a.Action, a.Resource, a.For, a.Why)
	}
	for _, f := range p.Lint() {
		if f.Severity == awsiot.Trap {
			fmt.Fprintf(w, "warning: policy: %s: %s; %s\n", f.Statement, f.Text, f.Advice)
		}
	}
	return bad, nil
}
