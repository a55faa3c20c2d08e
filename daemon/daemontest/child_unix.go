//go:build unix

package daemontest

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// StartChild starts a program that a test needs, such as a broker, in a process group of its
// own. The group is killed when the program ends, and when this process ends, however it does: a
// shell that leads the group waits at a pipe that only this process has the other end of. The
// program gets no files of this process but those that cmd names; so it cannot hold a lock that
// whoever started the test has left open. exited delivers once and is closed, when the program
// has ended.
func StartChild(cmd *exec.Cmd) (exited <-chan error, err error) {
	closeInherited()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	leader := exec.Command("/bin/sh", "-c", `trap "" HUP INT TERM; read -r line; kill -s KILL 0`)
	leader.Stdin, leader.SysProcAttr = read, &syscall.SysProcAttr{Setpgid: true}
	if err := leader.Start(); err != nil {
		_ = write.Close()
		return nil, err
	}
	endGroup := func() {
		_ = syscall.Kill(-leader.Process.Pid, syscall.SIGKILL) // it is there until Wait
		_ = leader.Wait()                                      // it was killed
		_ = write.Close()
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pgid = true, leader.Process.Pid
	if err := cmd.Start(); err != nil {
		endGroup()
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		endGroup()
		done <- err
		close(done)
	}()
	return done, nil
}

// closeInherited has no program that is started from now on inherit a file that this process
// has inherited.
func closeInherited() {
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd) // it does no harm if it is closed already
		}
	}
}
