package output

import (
	"errors"
	"time"

	"fieldpost/sensors/board"
)

// ErrNoLevels is the reason when an order wants a line at a level between off and on.
// Nothing was done.
var ErrNoLevels = errors.New("a line is only on or off")

// rampStep is how often a ramp changes the level.
const rampStep = 50 * time.Millisecond

// pwmActuator is a PWM channel. Its methods are called with the pin's mu held.
type pwmActuator struct {
	channel board.PWM
	period  time.Duration
	full    time.Duration // how long a ramp takes from 0 to 100 %

	target Level // where a ramp leads; now, if there is none
	now    Level // what is set
	from   Level // where the ramp began
	began  time.Time
}

// onTime returns for how long a channel is active in each period.
func onTime(l Level, period time.Duration) time.Duration {
	return (period*time.Duration(l) + time.Duration(On)/2) / time.Duration(On)
}

// levelOn returns the level of a time on.
func levelOn(on, period time.Duration) Level {
	return Level(min(max((on*time.Duration(On)+period/2)/period, 0), time.Duration(On)))
}

// pwmConfig returns the request of an output's channel at a level.
func pwmConfig(c Config, l Level, keep bool) board.PWMConfig {
	period := c.Frequency.Period()
	return board.PWMConfig{Channel: c.PWM, Period: period, On: onTime(l, period), ActiveLow: c.ActiveLow, Keep: keep}
}

// claimPWM drives the output's channel.
func claimPWM(b board.Board, c Config, l Level, keep bool) (actuator, error) {
	config := pwmConfig(c, l, keep)
	channel, err := b.PWM(config)
	if err != nil {
		return nil, err
	}
	a := &pwmActuator{channel: channel, period: config.Period, full: c.Ramp, target: l, now: l}
	if keep {
		on, err := channel.On()
		if err != nil {
			return nil, err
		}
		a.now = levelOn(on, a.period)
		a.target = a.now
	}
	return a, nil
}

// set sets a level at once.
func (a *pwmActuator) set(l Level) error {
	a.target, a.now = l, l
	return a.channel.Set(onTime(l, a.period))
}

func (a *pwmActuator) prepare(Level) {}

// ramp begins to go to a level.
func (a *pwmActuator) ramp(l Level) error {
	if a.full <= 0 {
		return a.set(l)
	}
	a.target, a.from, a.began = l, a.now, time.Now()
	return a.channel.Set(onTime(a.now, a.period))
}

// step goes on with a ramp. It returns when it must be called again; zero is never.
func (a *pwmActuator) step(now time.Time) (next time.Time, err error) {
	if a.now == a.target {
		return time.Time{}, nil
	}
	way := Level(min(int64(now.Sub(a.began))*int64(On)/int64(a.full), int64(On)))
	switch {
	case a.target > a.from:
		a.now = min(a.from+way, a.target)
	case way > a.from:
		a.now = a.target
	default:
		a.now = max(a.from-way, a.target)
	}
	if err := a.channel.Set(onTime(a.now, a.period)); err != nil {
		return time.Time{}, err
	}
	if a.now == a.target {
		return time.Time{}, nil
	}
	return now.Add(rampStep), nil
}

// coarse is how far a level may be from the one that was set. Newer drivers report what the
// chip makes of it: one with 8 bits has steps of 0.4 %.
const coarse Level = 50

// level returns where the ramp leads as long as the channel has what was set.
func (a *pwmActuator) level() (Level, error) {
	on, err := a.channel.On()
	if err != nil {
		return Off, err
	}
	l := levelOn(on, a.period)
	if away := max(l, a.now) - min(l, a.now); away > coarse || a.now == Off && l != Off {
		return l, nil
	}
	return a.target, nil
}

// release leaves the channel as it is: the kernel goes on with it.
func (a *pwmActuator) release() error { return nil }

// stepRamp goes on with the ramp of an output, which the caller has locked. It returns
// when it must be called again; zero is never. If that fails, the output is made safe.
func stepRamp(p *pin, now time.Time) time.Time {
	a, ok := p.line.(*pwmActuator)
	if !ok {
		return time.Time{}
	}
	next, err := a.step(now)
	if err != nil {
		level := p.state.Load().Level
		_ = p.noteSetFailed(level, err)
		p.driveFailed(level, Off, why{cause: CauseFailed}, err)
	}
	return next
}
