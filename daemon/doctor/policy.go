package doctor

import (
	"fmt"
	"io"
	"strings"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
	"fieldpost/daemon/visible"
)

// checkPolicies evaluates policies for everything that the daemon needs. It assumes that the
// thing is registered and that the certificate is attached to it. If the board has no
// certificate yet, the policies are those of the claim certificate.
func checkPolicies(cfg *config.Config, files []string, w io.Writer) (bad int, err error) {
	p, err := need.Read(nil, files...)
	if err != nil {
		return 0, err
	}
	for _, a := range simulate(cfg, p) {
		if a.Allowed() {
			continue
		}
		bad++
		fmt.Fprintf(w, "error: policy: %s\n", visible.Text(fmt.Sprintf("%s on %s (%s): %s", a.Action, a.Resource, a.For, a.Why)))
	}
	for _, f := range p.Lint() {
		if f.Severity == awsiot.Trap {
			fmt.Fprintf(w, "warning: policy: %s\n", visible.Text(fmt.Sprintf("%s; %s", strings.TrimPrefix(f.String(), "trap: "), f.Advice)))
		}
	}
	return bad, nil
}
