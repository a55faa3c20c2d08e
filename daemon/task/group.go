package task

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ownerKey is the key of a task in the contexts that it gives.
type ownerKey struct{}

// Group is goroutines of a [Task] besides its first. A panic of one of them is reported
// at once, with its stack, on the channel that the task was started with; the task and
// the other goroutines go on until the task's owner stops it. So the owner decides what
// ends in which order, and needs to wait for nobody. The methods may be called from any
// goroutine.
//
// All goroutines of the daemon are started in a Group. A test of package daemon lists
// the exceptions.
type Group struct {
	owner   *Task // nil is none
	running sync.WaitGroup
}

// NewGroup returns a group of the task that ctx, or a context that it comes from, was
// given by. If no task was, nothing is caught: a panic ends the process, as it does in
// tests and in commands that somebody watches.
func NewGroup(ctx context.Context) *Group {
	owner, _ := ctx.Value(ownerKey{}).(*Task)
	return &Group{owner: owner}
}

// Go calls f on a goroutine of its own. name says in the report of a panic which it was.
func (g *Group) Go(name string, f func()) {
	g.running.Go(func() { g.Call(name, f) })
}

// Call calls f on this goroutine, which is somebody else's: a library's, or a timer's. ok
// is false if f panicked, which is reported like a panic in [Group.Go]. A nil Group
// catches nothing.
func (g *Group) Call(name string, f func()) (ok bool) {
	if g == nil || g.owner == nil {
		f()
		return true
	}
	err := Guard(func() error {
		Rehearse(name)
		f()
		return nil
	})
	if err != nil {
		g.owner.note(fmt.Errorf("%s: %w", name, err))
	}
	return err == nil
}

// Wait waits until all functions that Go was given have returned or panicked.
func (g *Group) Wait() { g.running.Wait() }

// note reports that a goroutine of the task's has panicked.
func (t *Task) note(err error) {
	err = fmt.Errorf("%s: %w", t.name, err)
	t.mu.Lock()
	t.panicked = errors.Join(t.panicked, err)
	t.mu.Unlock()
	t.report(err)
}
