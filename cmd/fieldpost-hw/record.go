package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"fieldpost/sensors/board"
)

// recorder writes down the levels of wires.
type recorder struct {
	board board.Board
	now   func() (time.Duration, error) // CLOCK_MONOTONIC
	ready func() error                  // called when all wires are watched

	mu sync.Mutex
	to io.Writer // each event is one write
}

// run writes events until ctx ends, and those that wait in the kernel then. It ends early
// when an event cannot be written.
func (r *recorder) run(ctx context.Context, wires []wire) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var inputs []board.Input
	defer func() { closeAll(inputs) }()
	for _, w := range wires {
		in, err := r.watch(w)
		if err != nil {
			return err
		}
		inputs = append(inputs, in)
	}
	if err := r.ready(); err != nil {
		return err
	}
	failed := make([]error, len(wires))
	var group sync.WaitGroup
	for i, in := range inputs {
		group.Go(func() {
			for e := range in.Edges() {
				if err := r.edge(wires[i].number, e); err != nil && failed[i] == nil {
					failed[i] = err
					cancel()
				}
			}
		})
	}
	<-ctx.Done()
	closeAll(inputs)
	inputs = nil
	group.Wait()
	return errors.Join(failed...)
}

// watch sets the wire's pull at both ends and writes its level.
func (r *recorder) watch(w wire) (board.Input, error) {
	var busy *board.BusyError
	if err := release(r.board, w.out, w.pull); err != nil && !errors.As(err, &busy) {
		return nil, err
	}
	in, err := r.board.Input(board.InputConfig{Line: w.in, Pull: w.pull, Consumer: consumer})
	if err != nil {
		return nil, refused(w.in, err)
	}
	high, err := in.Active()
	now, failed := r.now()
	if err := errors.Join(err, failed); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	if err := r.write("%s line %d %d\n", milliseconds(now), w.number, bit(high)); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// edge writes an edge, and how many were lost before it.
func (r *recorder) edge(number int, e board.Edge) error {
	at := milliseconds(e.Mono)
	if e.Lost > 0 {
		if err := r.write("%s lost %d %d\n", at, number, e.Lost); err != nil {
			return err
		}
	}
	return r.write("%s level %d %d wire\n", at, number, bit(e.Active))
}

func (r *recorder) write(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := fmt.Fprintf(r.to, format, args...)
	return err
}

func bit(high bool) int {
	if high {
		return 1
	}
	return 0
}
