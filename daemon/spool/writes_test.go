package spool

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// A day of ten sensors, each read every ten seconds, with a link whose acks come
// within a second: nothing is written but at the start, when the sensors are
// first seen, and at the stop.
func TestADayWithTheLinkUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: 5 * time.Second, MaxAge: 7 * 24 * time.Hour}
		for i := range 10 {
			o.Sensors = append(o.Sensors, fmt.Sprintf("s%d", i))
		}
		d := newMemDisk()
		r := newRig(t, d, o).start()
		const every, day = 10 * time.Second, 24 * time.Hour
		began := int64(0)
		for at := time.Duration(0); at < day; at += every {
			for _, sensor := range o.Sensors {
				r.add(message.Reading, sensor)
			}
			wait(900 * time.Millisecond)
			for _, x := range r.take(all) {
				r.s.Ack(x.ID)
			}
			wait(every - 900*time.Millisecond)
			if at == 0 {
				began = d.Written
			}
		}
		if d.Written != began {
			t.Errorf("%d bytes while the link was up", d.Written-began)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
		if d.Written > 4096 || d.SyncCount() > 16 {
			t.Errorf("%d bytes and %d syncs in all", d.Written, d.SyncCount())
		}
		if files := d.Files("", segmentExt); len(files) > 0 {
			t.Errorf("files: %q", files)
		}
	})
}
