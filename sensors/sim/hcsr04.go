package sim

import "time"

// HCSR04 is a simulated ultrasonic ranger between two lines.
type HCSR04 struct {
	b       *Board
	trigger *Line
	echo    *Line

	// Guarded by b.mu.
	metres float64 // negative: nothing in range
	away   bool
	since  time.Duration // when the trigger went high
	pings  int
}

// hcsr04 has the datasheet's times, and the speed of sound at 20 °C.
const (
	hcTrigger = 10 * time.Microsecond
	hcBegins  = 450 * time.Microsecond // the echo line goes high after the eight cycles
	hcSound   = 331.3 + 0.606*20
)

// AddHCSR04 puts an HC-SR04 between two lines, one metre from a wall.
func AddHCSR04(b *Board, trigger, echo string) *HCSR04 {
	d := &HCSR04{b: b, trigger: b.Line(trigger), echo: b.Line(echo), metres: 1}
	d.echo.Drive(false)
	b.mu.Lock()
	defer b.mu.Unlock()
	d.trigger.watch = d.triggered
	return d
}

// SetDistance sets the distance in metres. Beyond 5.5 m nothing is in range: the echo line
// is high for 38 ms.
func (d *HCSR04) SetDistance(metres float64) { d.update(func() { d.metres = metres }) }

// Unplug takes the module away, or puts it back.
func (d *HCSR04) Unplug(away bool) { d.update(func() { d.away = away }) }

// Pings counts the trigger pulses that were long enough.
func (d *HCSR04) Pings() (n int) {
	d.update(func() { n = d.pings })
	return n
}

func (d *HCSR04) update(fn func()) {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	fn()
}

// triggered sees the trigger change, under the board's lock. Both edges of the echo are
// queued at once, with the times that they will have: timers are too coarse for them.
func (d *HCSR04) triggered(high bool) {
	now := d.b.mono()
	if high {
		d.since = now
		return
	}
	if now-d.since < hcTrigger || d.away {
		return
	}
	d.pings++
	long := time.Duration(2 * d.metres / hcSound * float64(time.Second))
	if d.metres > 5.5 {
		long = 38 * time.Millisecond
	}
	in := d.echo.in
	if in == nil || in.active != in.c.ActiveLow {
		return
	}
	in.flipAt(now + hcBegins)
	in.flipAt(now + hcBegins + long)
}
