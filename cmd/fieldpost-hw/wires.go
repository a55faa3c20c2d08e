package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fieldpost/sensors/board"
)

// consumer is what gpioinfo shows for the lines that this program holds.
const consumer = "fieldpost-hw"

// prober finds out what is connected to the lines of a board.
type prober struct {
	board  board.Board
	settle time.Duration // how long a level takes to get through a wire, at most
}

// examine checks the wires, and reports whether the kernel keeps the level of a line that
// is released. Every line is an input again afterwards. The error names each line that is
// not as it should be, and what to do.
func (p *prober) examine(ctx context.Context, wires []wire) (keeps bool, err error) {
	var lines []string
	for _, w := range wires {
		lines = append(lines, w.out, w.in)
	}
	defer func() {
		for _, line := range lines {
			var busy *board.BusyError
			if e := release(p.board, line, powerOnPull(line)); e != nil && !errors.As(e, &busy) {
				err = errors.Join(err, e)
			}
		}
	}()
	for _, high := range []bool{false, true} {
		if err := p.followPulls(ctx, lines, high); err != nil {
			return false, err
		}
	}
	var missing []error
	kept := map[bool]int{}
	for i := range wires {
		for _, high := range []bool{true, false} {
			keeps, err := p.followWire(ctx, wires, i, high)
			switch {
			case ctx.Err() != nil:
				return false, ctx.Err()
			case err != nil:
				missing = append(missing, err)
			default:
				kept[keeps]++
			}
			if err != nil {
				break // the other level would only say the same
			}
		}
	}
	if err := errors.Join(missing...); err != nil {
		return false, err
	}
	if kept[true] > 0 && kept[false] > 0 {
		return false, errors.New("a released line keeps its level at one time and not at another: is a contact loose?")
	}
	return kept[true] > 0, nil
}

// followPulls checks that each line has the level of its own pull resistors. One that has
// not is driven by something else.
func (p *prober) followPulls(ctx context.Context, lines []string, high bool) error {
	inputs, err := p.inputs(lines, high)
	defer closeAll(inputs)
	if err != nil {
		return err
	}
	if err := p.wait(ctx); err != nil {
		return err
	}
	var failed []error
	for i, in := range inputs {
		active, err := in.Active()
		switch {
		case err != nil:
			failed = append(failed, err)
		case active != high:
			failed = append(failed, fmt.Errorf("%s is %s though it is pulled %s: something else is connected to it; take it off", name(lines[i]), level(active), upDown(high)))
		}
	}
	return errors.Join(failed...)
}

// followWire drives the output of wire i, while every other line is pulled to the opposite
// level, and then releases it. It reports whether the wire kept its level after that.
func (p *prober) followWire(ctx context.Context, wires []wire, i int, high bool) (keeps bool, err error) {
	driven := wires[i]
	if err := release(p.board, driven.out, pullTo(!high)); err != nil {
		return false, err
	}
	lines := []string{driven.in}
	for j, w := range wires {
		if j != i {
			lines = append(lines, w.in, w.out)
		}
	}
	inputs, err := p.inputs(lines, !high)
	defer closeAll(inputs)
	if err != nil {
		return false, err
	}
	out, err := p.board.Output(board.OutputConfig{Line: driven.out, Active: high, Consumer: consumer})
	if err != nil {
		return false, err
	}
	err = errors.Join(p.wait(ctx), followed(driven, lines, inputs, high))
	err = errors.Join(err, out.Close())
	if err != nil {
		return false, err
	}
	if err := p.wait(ctx); err != nil {
		return false, err
	}
	active, err := inputs[0].Active()
	return active == high, err
}

// followed checks that the first line has the level of the driven one, and no other has.
func followed(driven wire, lines []string, inputs []board.Input, high bool) error {
	alone := true
	var failed []error
	for i, in := range inputs {
		active, err := in.Active()
		switch {
		case err != nil:
			failed = append(failed, err)
		case i == 0 && active != high:
			alone = false
		case i > 0 && active == high:
			failed = append(failed, fmt.Errorf("%s follows %s, which should be joined to %s alone: the wires are exchanged, or a wire is in the wrong hole", name(lines[i]), name(driven.out), name(driven.in)))
		}
	}
	if !alone && len(failed) == 0 {
		failed = append(failed, fmt.Errorf("%s does not follow %s: no wire joins them", name(driven.in), name(driven.out)))
	}
	return errors.Join(failed...)
}

// inputs requests lines, pulled to a level. It returns those that it has got, also when
// one is refused.
func (p *prober) inputs(lines []string, high bool) ([]board.Input, error) {
	var inputs []board.Input
	var failed []error
	for _, line := range lines {
		in, err := p.board.Input(board.InputConfig{Line: line, Pull: pullTo(high), Consumer: consumer})
		if err != nil {
			failed = append(failed, refused(line, err))
			continue
		}
		inputs = append(inputs, in)
	}
	return inputs, errors.Join(failed...)
}

// refused says what to do about a line that somebody else holds.
func refused(line string, err error) error {
	var busy *board.BusyError
	if !errors.As(err, &busy) {
		return err
	}
	return fmt.Errorf("%s is in use: %w; stop what uses it, or remove it from config.txt and reboot", name(line), err)
}

func (p *prober) wait(ctx context.Context) error {
	t := time.NewTimer(p.settle)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release makes an input of a line and gives it back to the kernel. The pull stays.
func release(b board.Board, line string, pull board.Pull) error {
	in, err := b.Input(board.InputConfig{Line: line, Pull: pull, Consumer: consumer})
	if err != nil {
		return refused(line, err)
	}
	return in.Close()
}

func closeAll(inputs []board.Input) {
	for _, in := range inputs {
		_ = in.Close() // there is nothing to do about it: the process ends
	}
}

// powerOnPull is the pull that a Raspberry Pi's line has after power-on: up for GPIO0 to 8,
// down for the others of the header.
//
// Source: BCM2711 ARM Peripherals, table "GPIO Pins Alternative Function Assignment",
// column "Default Pull".
func powerOnPull(line string) board.Pull {
	if l, err := board.ParseLine(line); err == nil && l.GPIO >= 0 && l.GPIO <= 8 {
		return board.PullUp
	}
	return board.PullDown
}

// name is the line's name with its pin on the 40-pin header: "GPIO22 (pin 15)".
func name(line string) string {
	l, err := board.ParseLine(line)
	if err != nil {
		return line
	}
	for pin := 1; pin <= 40; pin++ {
		if p, err := board.ParseLine(fmt.Sprintf("P1_%d", pin)); err == nil && p.GPIO == l.GPIO {
			return fmt.Sprintf("%s (pin %d)", line, pin)
		}
	}
	return line
}

func pullTo(high bool) board.Pull {
	if high {
		return board.PullUp
	}
	return board.PullDown
}

func level(high bool) string {
	if high {
		return "high"
	}
	return "low"
}

func upDown(high bool) string {
	if high {
		return "up"
	}
	return "down"
}
