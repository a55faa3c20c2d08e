package daemontest

import "os/exec"

// StartChild starts a program that a test needs. exited delivers once and is closed,
// when it has ended.
func StartChild(cmd *exec.Cmd) (exited <-chan error, err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		done <- cmd.Wait()
		close(done)
	}()
	return done, nil
}
