package spool

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// benchOptions are those of a spool that is measured.
func benchOptions(dir string, atRisk time.Duration) Options {
	return Options{Dir: dir, AtRisk: atRisk, MaxBytes: 256 << 20, Clock: clock.Fake(), Health: health.New(func(health.Change) {})}
}

// benchSpool opens a spool that nobody runs: the benchmark does what is due.
func benchSpool(b *testing.B, o Options) *Spool {
	b.Helper()
	s, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// sample is a record of every kind of value.
func sample() message.Record {
	return message.Record{
		Kind: message.Reading, Sensor: "air", Run: 7, Seq: 41,
		Stamp: clock.Stamp{
			Boot: "3a1f6c9e-0000-4b7d-9c1d-0123456789ab", Mono: 90 * time.Second,
			Wall: time.Date(2026, 11, 21, 19, 2, 11, 123_456_789, time.UTC), Synced: true,
		},
		Fields: []sensors.Field{
			{Name: "temperature", Value: 21.53}, {Name: "count", Value: int64(-1042)},
			{Name: "active", Value: true}, {Name: "wet", Value: false}, {Name: "text", Value: "a \"ü\"\n"},
		},
	}
}

// reading is what a BME280 gives.
func reading(run, seq uint64) message.Record {
	return message.Record{Kind: message.Reading, Sensor: "air", Run: run, Seq: seq, Stamp: sample().Stamp, Fields: []sensors.Field{
		{Name: "temperature", Value: 21.53}, {Name: "humidity", Value: 48.2}, {Name: "pressure", Value: 101325.0},
	}}
}

// fill appends n readings from seq on.
func fill(b *testing.B, s *Spool, seq uint64, n int) {
	b.Helper()
	for k := range uint64(n) {
		if err := appendTo(s, reading(s.RunNumber(), seq+k)); err != nil {
			b.Fatal(err)
		}
	}
}

// due does all that will ever be due.
func (s *Spool) due() { s.writer.step(time.Now().Add(time.Hour)) }

// written is how many bytes this process has had written to disks, as the
// kernel counts them: whole pages (proc_pid_io(5), write_bytes). It is 0 where
// it is not counted.
func written() (n int64) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	return 0
}

func BenchmarkAppendAck(b *testing.B) {
	s := benchSpool(b, benchOptions(b.TempDir(), 5*time.Second))
	b.ReportAllocs()
	for b.Loop() {
		if err := appendTo(s, sample()); err != nil {
			b.Fatal(err)
		}
		x, _ := nextOf(s)
		s.Ack(x.ID)
	}
}

// A tick of ten sensors while the link is up, without a risk file and with one.
func BenchmarkTick(b *testing.B) {
	for _, noted := range []bool{false, true} {
		b.Run(fmt.Sprint("noted=", noted), func(b *testing.B) {
			o := benchOptions(b.TempDir(), 5*time.Second)
			if noted {
				o.RuntimeDir = b.TempDir()
			}
			s := benchSpool(b, o)
			records := make([]message.Record, 10)
			for k := range records {
				records[k] = reading(s.RunNumber(), 0)
				records[k].Sensor = fmt.Sprint("sensor-", k)
			}
			entries := make([]Entry, len(records))
			b.ReportAllocs()
			for b.Loop() {
				for k := range records {
					records[k].Seq++
					var err error
					if entries[k], err = entryOf(records[k]); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.AppendAll(entries); err != nil {
					b.Fatal(err)
				}
				for x, ok := nextOf(s); ok; x, ok = nextOf(s) {
					s.Ack(x.ID)
				}
			}
		})
	}
}

// Readings that are on disk before they are given, a sync for each batch.
func BenchmarkDurable(b *testing.B) {
	for _, n := range []int{1, 20, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchSpool(b, benchOptions(b.TempDir(), 0))
			seq := uint64(1)
			for b.Loop() {
				fill(b, s, seq, n)
				seq += uint64(n)
				s.due()
				for range n {
					x, ok := nextOf(s)
					if !ok {
						b.Fatal("not durable")
					}
					s.Ack(x.ID)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "readings/s")
		})
	}
}

// What an outage writes, by how many readings a sync covers. The payload is the
// message as it is sent.
func BenchmarkOutage(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchSpool(b, benchOptions(b.TempDir(), 5*time.Second))
			payload := len(message.Encode("thing-greenhouse", reading(7, 100000)))
			fill(b, s, 1, n)
			s.due()
			before, had, seq := written(), s.Stats().Bytes, uint64(n)
			for b.Loop() {
				fill(b, s, seq+1, n)
				seq += uint64(n)
				s.due()
			}
			all := float64(b.N * n)
			b.ReportMetric(float64(s.Stats().Bytes-had)/all, "file-B/reading")
			b.ReportMetric(float64(written()-before)/all, "disk-B/reading")
			b.ReportMetric(float64(written()-before)/all/float64(payload), "x-payload")
		})
	}
}

// A million readings that an outage leaves on disk, and then their way out.
func BenchmarkMillion(b *testing.B) {
	const million = 1_000_000
	for b.Loop() {
		o := benchOptions(b.TempDir(), 5*time.Second)
		s, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		base, began := heap(), time.Now()
		for seq := uint64(1); seq < million; seq += 1000 {
			fill(b, s, seq, 1000)
			s.due()
		}
		b.ReportMetric(million/time.Since(began).Seconds(), "stored/s")
		b.ReportMetric(heap()-base, "MB-stored")
		began = time.Now()
		most := 0.0
		for n := range million {
			x, ok := readNext(s)
			if !ok || x.Record.Seq != uint64(n+1) {
				b.Fatalf("%d: got %+v, %v", n+1, x, ok)
			}
			s.Ack(x.ID)
			if n%1000 == 0 {
				s.due()
			}
			if n == million/2 {
				most = heap()
			}
		}
		b.ReportMetric(million/time.Since(began).Seconds(), "drained/s")
		b.ReportMetric(most-base, "MB-draining")
		b.ReportMetric(heap()-base, "MB-drained")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// heap is how much memory is in use, in MB.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse) / 1e6
}

func BenchmarkOpen64MiB(b *testing.B) {
	o := benchOptions(b.TempDir(), 5*time.Second)
	s, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	for seq := uint64(1); s.Stats().Samples.Bytes < 64<<20; seq += 1000 {
		fill(b, s, seq, 1000)
		s.due()
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// An outage with ten inputs at 1 kHz beside ten sensors at 1 Hz and a bound of
// 1 MiB; then what the link takes, of 80 messages a second, while they go on. A
// turn is a second of it.
func BenchmarkCrowd(b *testing.B) {
	for _, link := range []int{0, 80} {
		b.Run(fmt.Sprint(link), func(b *testing.B) {
			o := benchOptions(b.TempDir(), 5*time.Second)
			o.MaxBytes = 1 << 20
			s := benchSpool(b, o)
			seq, readings := uint64(0), 0
			before := written()
			for b.Loop() {
				for i := range 10_000 {
					x := reading(s.RunNumber(), seq/10+1)
					x.Kind, x.Sensor, x.Fields = message.Edge, fmt.Sprint("loose", i%10), []sensors.Field{{Name: "active", Value: i%20 < 10}}
					if i%1000 == 0 {
						y := reading(s.RunNumber(), seq/10_000+1)
						y.Sensor = fmt.Sprint("air", i/1000)
						if err := appendTo(s, y); err != nil {
							b.Fatal(err)
						}
					}
					if err := appendTo(s, x); err != nil {
						b.Fatal(err)
					}
					seq++
				}
				for range link {
					if x, ok := readNext(s); ok {
						s.Ack(x.ID)
						if x.Record.Kind == message.Reading {
							readings++
						}
					}
				}
				s.due()
			}
			b.ReportMetric(float64(b.N*10_010)/b.Elapsed().Seconds(), "taken/s")
			b.ReportMetric(float64(written()-before)/float64(b.N*10_010), "disk-B/record")
			if link > 0 {
				b.ReportMetric(float64(readings)/float64(b.N), "readings-of-10")
			}
		})
	}
}

// A burst of edges of six inputs while the link is down, with a risk file: nothing is on
// disk before all have come.
func BenchmarkBurst(b *testing.B) {
	o := benchOptions(b.TempDir(), 5*time.Second)
	o.RuntimeDir, o.Memory = b.TempDir(), 64<<20
	s := benchSpool(b, o)
	x := sample()
	x.Kind, x.Run, x.Fields = message.Edge, s.RunNumber(), x.Fields[:1]
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		if n%12000 == 0 {
			b.StopTimer()
			s.due()
			b.StartTimer()
		}
		x.Sensor, x.Seq = fmt.Sprint("gate-", n%6), n/6+1
		if err := appendTo(s, x); err != nil {
			b.Fatal(err)
		}
	}
}
