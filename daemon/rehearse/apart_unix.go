//go:build unix

package rehearse

import (
	"os/exec"
	"syscall"
)

// apart keeps a command out of our process group, so that a Ctrl-C is ours alone. Otherwise the
// command may end before we know of it, and its end looks like a fault.
func apart(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}
