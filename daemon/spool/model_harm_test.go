package spool

import (
	"time"

	"fieldpost/daemon/message"
)

// forget takes note that what was done may come again.
func (m *model) forget() {
	m.crashes++
	clear(m.sure)
}

// harm damages one file while nobody uses it, once in a while.
func (m *model) harm() bool {
	files := m.d.Files("", "")
	if m.rnd.IntN(4) > 0 || len(files) == 0 {
		return false
	}
	name := files[m.rnd.IntN(len(files))]
	b := m.d.Data(name)
	at := m.rnd.IntN(len(b) + 1)
	switch k := m.rnd.IntN(4); {
	case k == 0:
		_ = m.d.Remove(name)
	case k == 1:
		m.d.Put(name, b[:at])
	case k == 2:
		clear(b[at:])
		m.d.Put(name, b)
	case at < len(b):
		b[at] ^= 1 << m.rnd.IntN(8)
		m.d.Put(name, b)
	}
	m.forget()
	m.harmed = true
	m.blank = m.blank || name == ackName
	m.note("harm %s at %d", name, at)
	return true
}

// crash ends the run badly, and checks that no more is missing than may be.
func (m *model) crash(power bool) {
	left, window := m.d.Kill(), m.r.s.writer.o.writeDelay()
	if power {
		left, window = m.d.Cut(m.rnd), m.o.AtRisk
	}
	m.d = m.r.crash(left)
	m.forget()
	m.blank = m.blank || power && m.failed
	now, failed := time.Now(), m.failed || m.r.s.Stats().Dropped > 0
	m.note("crash, power %v", power)
	run := m.r.s.RunNumber()
	failed = m.harm() || failed
	m.open()
	if m.rnd.IntN(2) == 0 {
		return // so that nothing is given
	}
	items := m.r.take(all)
	m.see(items)
	m.r.s.Rewind()
	there := map[name]bool{}
	gaps, full := map[origin][]loss{}, map[origin][]loss{}
	for _, x := range items {
		r := x.Record
		if r.Kind == message.Gap {
			o := origin{r.Sensor, r.Run}
			gaps[o] = append(gaps[o], claim(r))
			if r.Field("reason") == reasonFull { // what the crash had left the next run may drop
				full[o] = append(full[o], claim(r))
			}
		}
		there[name{r.Sensor, r.Run, r.Seq}] = true
	}
	for n, f := range m.fates {
		o := origin{n.sensor, n.run}
		if f.acked || f.refused || there[n] || told(m.gaps[o], n.seq) {
			continue
		}
		if now.Sub(f.at) > window && n.run == run && !failed && !told(full[o], n.seq) {
			m.fatalf("%+v was put in %v before the crash and is gone", n, now.Sub(f.at))
		}
		if !told(gaps[o], n.seq) {
			m.fatalf("%+v is gone and no gap tells it: %+v", n, gaps[o])
		}
	}
}
