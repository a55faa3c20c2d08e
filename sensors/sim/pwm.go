package sim

import (
	"fmt"
	"slices"
	"time"

	"fieldpost/sensors/board"
)

// PWMLabel is the label of the simulated board's PWM chip, pwmchip0, with two channels.
const PWMLabel = "fieldpost-pwm"

// PWMChannel is a channel of the simulated board, seen from outside.
type PWMChannel struct {
	b  *Board
	id board.LineID

	// Guarded by b.mu.
	share   float64 // of each period that it is active, 0 to 1
	fail    error
	history []float64
}

// Channel returns the PWM channel of that name. It panics if there is none.
func (b *Board) Channel(name string) *PWMChannel {
	id, err := b.FindPWM(name)
	if err != nil {
		panic(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.channel(id)
}

// channel returns a channel. The caller holds the lock.
func (b *Board) channel(id board.LineID) *PWMChannel {
	i := slices.IndexFunc(b.channels, func(c *PWMChannel) bool { return c.id == id })
	if i < 0 {
		b.channels = append(b.channels, &PWMChannel{b: b, id: id})
		i = len(b.channels) - 1
	}
	return b.channels[i]
}

// Share returns the share of each period that the channel is active, 0 to 1.
func (c *PWMChannel) Share() float64 {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	return c.share
}

// History lists every share that was set.
func (c *PWMChannel) History() []float64 {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	return slices.Clone(c.history)
}

// Disturb sets the share, as another program may do.
func (c *PWMChannel) Disturb(share float64) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.share = share
}

// Fail makes all calls on the channel fail with err; nil repairs it.
func (c *PWMChannel) Fail(err error) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.fail = err
}

// pwmChip is a PWM chip of the board.
type pwmChip struct {
	label, chip string
	channels    int
}

// AddPWM makes sure that the board has the PWM channel that a configuration names.
func AddPWM(b *Board, name string) error {
	chip, channel, err := board.ParsePWM(name)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, c := range b.pwms {
		if chip == c.label || chip == c.chip {
			b.pwms[i].channels = max(c.channels, channel+1)
			return nil
		}
	}
	number := fmt.Sprintf("pwmchip%d", 100+len(b.pwms)) // no user's pwmchip1
	b.pwms = append(b.pwms, pwmChip{chip, number, channel + 1})
	return nil
}

// FindPWM returns the PWM channel that a name means.
func (b *Board) FindPWM(name string) (board.LineID, error) {
	chip, channel, err := board.ParsePWM(name)
	if err != nil {
		return board.LineID{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.pwms {
		if (chip == c.label || chip == c.chip) && channel < c.channels {
			return board.LineID{Label: c.label, Chip: c.chip, Offset: channel}, nil
		}
	}
	return board.LineID{}, fmt.Errorf("find PWM channel %q on the %s: %w", name, b, board.ErrAbsent)
}

// pwm is a channel that somebody drives.
type pwm struct {
	channel *PWMChannel
	c       board.PWMConfig
}

// PWM drives a PWM channel.
func (b *Board) PWM(c board.PWMConfig) (board.PWM, error) {
	id, err := b.FindPWM(c.Channel)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	p := &pwm{b.channel(id), c}
	share := p.channel.share
	b.mu.Unlock()
	if c.Keep {
		c.On = time.Duration(share * float64(c.Period))
	}
	return p, p.Set(c.On)
}

// Set sets the time on.
func (p *pwm) Set(on time.Duration) error {
	p.channel.b.mu.Lock()
	defer p.channel.b.mu.Unlock()
	if err := p.channel.fail; err != nil {
		return fmt.Errorf("set PWM channel %s: %w", p.channel.id, err)
	}
	p.channel.share = float64(on) / float64(p.c.Period)
	p.channel.history = append(p.channel.history, p.channel.share)
	return nil
}

// On reads the time on.
func (p *pwm) On() (time.Duration, error) {
	p.channel.b.mu.Lock()
	defer p.channel.b.mu.Unlock()
	if err := p.channel.fail; err != nil {
		return 0, fmt.Errorf("read PWM channel %s: %w", p.channel.id, err)
	}
	return time.Duration(p.channel.share * float64(p.c.Period)), nil
}
