package board

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warthog618/go-gpiocdev/uapi"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func benchMachine(t *testing.T) (*Machine, *fakeGPIO, []*fakeLine) {
	t.Helper()
	chip := bench("bench-gpio", "DOOR", "PUMP", "", "LED")
	m, k := newFakeMachine(t, map[string]*fakeChip{"gpiochip0": chip})
	return m, k, chip.lines
}

func TestChips(t *testing.T) {
	m, k := newFakeMachine(t, map[string]*fakeChip{
		"gpiochip10": bench("expander", ""),
		"gpiochip2":  bench("", "A", "B"),
		"gpiochip3":  bench("locked", "X"),
	})
	k.opening["gpiochip3"] = unix.EACCES
	k.chips["gpiochip2"].lines[1].holder = "gpio-keys"
	if err := os.Symlink("gpiochip10", filepath.Join(k.dev, "gpiochip4")); err != nil {
		t.Fatal(err)
	}
	chips := m.Chips()
	if len(chips) != 3 {
		t.Fatalf("%d chips: %+v", len(chips), chips)
	}
	plain, locked, linked := chips[0], chips[1], chips[2]
	if plain.Device != "gpiochip2" || plain.Label != "gpiochip2" || len(plain.Lines) != 2 {
		t.Errorf("chip without a label: %+v", plain)
	}
	if l := plain.Lines[1]; l.Name != "B" || !l.Used || l.Holder != "gpio-keys" {
		t.Errorf("held line: %+v", l)
	}
	if !errors.Is(locked.Err, fs.ErrPermission) || !strings.Contains(locked.Err.Error(), "group gpio") || !strings.Contains(locked.Err.Error(), "/gpiochip3") {
		t.Errorf("locked chip: %v", locked.Err)
	}
	if linked.Device != "gpiochip10" || len(linked.Links) != 1 || linked.Links[0] != "gpiochip4" {
		t.Errorf("linked chip: %+v", linked)
	}
	if id, err := m.Find("gpiochip4:0"); err != nil || id.Chip != "gpiochip10" {
		t.Errorf("Find by link: %v, %v", id, err)
	}
}

func TestChipErrors(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		unix.EINVAL: "Linux 5.10 or later",
		unix.ENOTTY: "Linux 5.10 or later",
		unix.ENODEV: "not there",
		unix.EIO:    "read GPIO chip",
	} {
		m, _ := newFakeMachine(t, map[string]*fakeChip{"gpiochip0": {fail: errno}})
		_, err := m.Find("GPIO17")
		if !errors.Is(err, errno) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want the errno and %q", errno, err, want)
		}
	}
}

func TestFindOnMachine(t *testing.T) {
	m, _, _ := benchMachine(t)
	if id, err := m.Find("PUMP"); err != nil || id != (LineID{"bench-gpio", "gpiochip0", 1, "PUMP"}) {
		t.Errorf("Find = %+v, %v", id, err)
	}
	if _, err := m.Find("P1_1"); err == nil || !strings.Contains(err.Error(), "3.3 V") {
		t.Errorf("Find P1_1 = %v", err)
	}
	if _, err := m.Find("P5_3"); !errors.Is(err, ErrAbsent) {
		t.Errorf("Find P5_3 = %v, want absent", err)
	}
	none, _ := newFakeMachine(t, nil)
	if _, err := none.Find("GPIO17"); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "no GPIO chip") {
		t.Errorf("Find without chips = %v", err)
	}
}

func TestInput(t *testing.T) {
	defer goleak.VerifyNone(t)
	m, k, lines := benchMachine(t)
	in, err := m.Input(InputConfig{Line: "DOOR", ActiveLow: true, Pull: PullUp, Debounce: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if in.ID() != (LineID{"bench-gpio", "gpiochip0", 0, "DOOR"}) {
		t.Errorf("ID() = %v", in.ID())
	}
	r := lines[0].request
	want := uapi.LineFlagV2Input | uapi.LineFlagV2EdgeBoth | uapi.LineFlagV2ActiveLow | uapi.LineFlagV2BiasPullUp
	if r.Config.Flags != want {
		t.Errorf("flags %b, want %b", r.Config.Flags, want)
	}
	if r.EventBufferSize != kernelQueue || uapi.BytesToString(r.Consumer[:]) != "fieldpost" {
		t.Errorf("queue of %d for %q", r.EventBufferSize, r.Consumer)
	}
	if a := r.Config.Attrs[0]; r.Config.NumAttrs != 1 || a.Attr.ID != uapi.LineAttributeIDDebounce || a.Attr.Value32() != 20000 || a.Mask != 1 {
		t.Errorf("attributes %+v, want a debounce of 20000 us", r.Config.Attrs[:r.Config.NumAttrs])
	}

	if active, err := in.Active(); err != nil || !active {
		t.Errorf("Active() = %v, %v with the line low", active, err)
	}
	k.wire("gpiochip0", 0, true, time.Second, 0)
	k.wire("gpiochip0", 0, false, 2*time.Second, 3)
	for _, want := range []Edge{{false, time.Second, 0}, {true, 2 * time.Second, 3}} {
		if got := <-in.Edges(); got != want {
			t.Errorf("edge %+v, want %+v", got, want)
		}
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, open := <-in.Edges(); open {
		t.Error("Edges is open after Close")
	}
	if err := in.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close = %v", err)
	}
	if _, err := in.Active(); err == nil || !strings.Contains(err.Error(), "read line bench-gpio:0 (DOOR)") {
		t.Errorf("Active() after Close = %v", err)
	}
	if again, err := m.Input(InputConfig{Line: "DOOR"}); err != nil {
		t.Errorf("request after Close: %v", err)
	} else if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestInputRequests(t *testing.T) {
	for pull, want := range map[Pull]uapi.LineFlagV2{
		PullAsIs: 0, PullNone: uapi.LineFlagV2BiasDisabled, PullUp: uapi.LineFlagV2BiasPullUp, PullDown: uapi.LineFlagV2BiasPullDown,
	} {
		r, err := inputRequest(5, InputConfig{Pull: pull, Consumer: "door"}, false)
		if err != nil || r.Config.Flags != uapi.LineFlagV2Input|want || r.EventBufferSize != 0 || r.Config.NumAttrs != 0 {
			t.Errorf("pull %q: %+v, %v", pull, r, err)
		}
		if r.Offsets[0] != 5 || r.Lines != 1 || uapi.BytesToString(r.Consumer[:]) != "door" {
			t.Errorf("pull %q: offset %d of %d for %q", pull, r.Offsets[0], r.Lines, r.Consumer)
		}
	}
	r, err := inputRequest(0, InputConfig{Debounce: 1, Consumer: strings.Repeat("x", 40)}, true)
	if err != nil || r.Config.Attrs[0].Attr.Value32() != 1 || len(uapi.BytesToString(r.Consumer[:])) != 31 {
		t.Errorf("shortest debounce: %+v, %v", r, err)
	}
	for want, c := range map[string]InputConfig{
		"want up, down or none":    {Pull: "sideways"},
		"want 0 to":                {Debounce: -1},
		"debounce 2h0m0s: want 0 ": {Debounce: 2 * time.Hour},
	} {
		if _, err := inputRequest(0, c, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

// After a chip is unplugged Active returns an error and Edges stays open.
func TestInputGone(t *testing.T) {
	defer goleak.VerifyNone(t)
	m, k, _ := benchMachine(t)
	in, err := m.Input(InputConfig{Line: "DOOR"})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.gone("gpiochip0", 0); err != nil {
		t.Fatal(err)
	}
	<-in.(*inputLine).ended
	if _, err := in.Active(); !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "edges have ended") {
		t.Errorf("Active() = %v", err)
	}
	select {
	case e, open := <-in.Edges():
		t.Errorf("Edges gave %v, %v", e, open)
	default:
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}

// A chip that is plugged in again with another number is found by its label, and its line
// works again.
func TestInputComesBack(t *testing.T) {
	m, k := newFakeMachine(t, map[string]*fakeChip{"gpiochip5": bench("mcp2221_gpio", "A", "B")})
	cfg := InputConfig{Line: "mcp2221_gpio:1"}
	in, err := m.Input(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k.chips["gpiochip5"].lines[1].broken = unix.ENODEV
	if _, err := in.Active(); !errors.Is(err, ErrAbsent) {
		t.Errorf("unplugged: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Rename(filepath.Join(k.dev, "gpiochip5"), filepath.Join(k.dev, "gpiochip6")); err != nil {
		t.Fatal(err)
	}
	k.chips = map[string]*fakeChip{"gpiochip6": bench("mcp2221_gpio", "A", "B")}
	if in, err = m.Input(cfg); err != nil {
		t.Fatalf("plugged in again: %v", err)
	}
	if _, err := in.Active(); err != nil || in.ID().Chip != "gpiochip6" {
		t.Errorf("plugged in again: %v, %v", in.ID(), err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}

func TestOutput(t *testing.T) {
	m, _, lines := benchMachine(t)
	out, err := m.Output(OutputConfig{Line: "gpiochip0:1", ActiveLow: true, Drive: OpenDrain, Active: true})
	if err != nil {
		t.Fatal(err)
	}
	pump := lines[1]
	if want := uapi.LineFlagV2Output | uapi.LineFlagV2ActiveLow | uapi.LineFlagV2OpenDrain; pump.request.Config.Flags != want {
		t.Errorf("flags %b, want %b", pump.request.Config.Flags, want)
	}
	if a := pump.request.Config.Attrs[0]; pump.request.Config.NumAttrs != 1 || a.Attr.ID != uapi.LineAttributeIDOutputValues || a.Attr.Value64() != 1 || a.Mask != 1 {
		t.Errorf("the level did not travel with the request: %+v", a)
	}
	if pump.high {
		t.Error("an active-low output that is on is high")
	}
	for _, active := range []bool{false, true, true, false} {
		if err := out.Set(active); err != nil {
			t.Error(err)
		}
		if pump.high == active {
			t.Errorf("Set(%v) made the active-low line high %v", active, pump.high)
		}
		if got, err := out.Active(); err != nil || got != active {
			t.Errorf("Active() = %v, %v after Set(%v)", got, err, active)
		}
	}
	if out.ID().Name != "PUMP" || pump.requests != 1 {
		t.Errorf("ID() = %v after %d requests", out.ID(), pump.requests)
	}
	pump.broken = unix.EIO
	if err := out.Set(true); !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), "set line bench-gpio:1 (PUMP)") {
		t.Errorf("Set on a broken line = %v", err)
	}
	if _, err := out.Active(); !errors.Is(err, unix.EIO) {
		t.Errorf("Active() of a broken line = %v", err)
	}
	pump.broken = unix.ENODEV // on USB
	for verb, err := range map[string]error{"set": out.Set(true), "read": second(out.Active())} {
		if !errors.Is(err, ErrAbsent) || !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), verb+" line bench-gpio:1 (PUMP): not there: its chip was unplugged") {
			t.Errorf("%s a line that was unplugged = %v", verb, err)
		}
	}
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	if err := out.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close = %v", err)
	}
	if err := out.Set(true); err == nil {
		t.Error("Set after Close succeeded")
	}
}

func TestOutputDrives(t *testing.T) {
	for drive, want := range map[Drive]uapi.LineFlagV2{
		"": 0, PushPull: 0, OpenDrain: uapi.LineFlagV2OpenDrain, OpenSource: uapi.LineFlagV2OpenSource,
	} {
		r, err := outputRequest(3, OutputConfig{Drive: drive})
		if err != nil || r.Config.Flags != uapi.LineFlagV2Output|want || r.Config.Attrs[0].Attr.Value64() != 0 {
			t.Errorf("drive %q: %+v, %v", drive, r, err)
		}
	}
	m, _, lines := benchMachine(t)
	if _, err := m.Output(OutputConfig{Line: "PUMP", Drive: "push"}); err == nil || !strings.Contains(err.Error(), "want push-pull") {
		t.Errorf("drive push: %v", err)
	}
	if lines[1].requests != 0 {
		t.Error("a line was requested with a wrong drive")
	}
}

func TestBusyLine(t *testing.T) {
	m, _, lines := benchMachine(t)
	lines[3].holder = "gpio-leds"
	for _, err := range []error{
		second(m.Input(InputConfig{Line: "LED"})),
		second(m.Output(OutputConfig{Line: "LED"})),
		second(m.hold(OutputConfig{Line: "LED"})),
	} {
		var busy *BusyError
		if !errors.As(err, &busy) || busy.Holder != "gpio-leds" || busy.Line.Name != "LED" {
			t.Errorf("%v, want a BusyError with the holder", err)
		}
	}
	out, err := m.Output(OutputConfig{Line: "PUMP", Consumer: "the pump"})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := m.Output(OutputConfig{Line: "PUMP"}); err == nil || err.Error() != "line bench-gpio:1 (PUMP) is held by the pump" {
		t.Errorf("twice: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// Free names the holder of a line without requesting it. A line that we hold counts as
// free, because our own daemon holds it.
func TestHolder(t *testing.T) {
	m, k := newFakeMachine(t, map[string]*fakeChip{"gpiochip0": bench("pinctrl-bcm2711", "A", "B", "C")})
	k.chips["gpiochip0"].lines[0].holder = "gpio-keys"
	k.chips["gpiochip0"].lines[1].holder = Consumer
	for name, want := range map[string]string{"A": "gpio-keys", "B": "", "C": ""} {
		id, err := m.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		var busy *BusyError
		if err := Free(m, id); want == "" && err != nil || want != "" && (!errors.As(err, &busy) || busy.Holder != want) {
			t.Errorf("%s: %v, want the holder %q", name, err, want)
		}
	}
	if name, held := m.Holder(LineID{Chip: "gpiochip9", Offset: 3}); held || name != "" {
		t.Errorf("a line that is not there is held by %q", name)
	}
	if k.chips["gpiochip0"].lines[0].requests != 0 {
		t.Error("a line was requested")
	}
}

func TestRequestErrors(t *testing.T) {
	for _, c := range []struct {
		errno       unix.Errno
		input, text string
	}{
		{unix.ENODEV, "unplugged", "unplugged"},
		{unix.EPERM, "keeps it for itself", "keeps it for itself"},
		{unix.ENXIO, "cannot report changes", "request line"},
		{unix.EINVAL, "cannot report changes", "does not offer"},
		{unix.EOPNOTSUPP, "cannot report changes", "does not offer"},
		{unix.ENOMEM, "request line", "request line"},
	} {
		m, k, _ := benchMachine(t)
		k.chips["gpiochip0"].fail = c.errno
		for want, err := range map[string]error{
			c.input: second(m.Input(InputConfig{Line: "DOOR"})),
			c.text:  second(m.Output(OutputConfig{Line: "DOOR"})),
		} {
			if !errors.Is(err, c.errno) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v, want the errno and %q", c.errno, err, want)
			}
			if errors.Is(err, ErrAbsent) != (c.errno == unix.ENODEV) {
				t.Errorf("%v: %v wraps ErrAbsent wrongly", c.errno, err)
			}
		}
	}
	m, k, _ := benchMachine(t)
	id, err := m.Find("DOOR")
	if err != nil {
		t.Fatal(err)
	}
	k.opening["gpiochip0"] = unix.EACCES
	if _, err := m.output(id, OutputConfig{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("chip locked meanwhile: %v", err)
	}
}

// The handle alone keeps a held line driven, and works in another process too.
func TestHoldAndAdopt(t *testing.T) {
	m, k, lines := benchMachine(t)
	f, err := m.hold(OutputConfig{Line: "bench-gpio:1", ActiveLow: true, Active: false})
	if err != nil {
		t.Fatal(err)
	}
	if !lines[1].high || f.Name() != "bench-gpio:1 (PUMP)" {
		t.Errorf("held %s, high %v, want high", f.Name(), lines[1].high)
	}
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	inherited := os.NewFile(uintptr(fd), "safe-pump")
	if _, err := m.Output(OutputConfig{Line: "PUMP"}); err == nil {
		t.Error("the line is free while a copy of its handle is open")
	}
	if err := adopt(k, inherited, true); err != nil || lines[1].high {
		t.Errorf("adopt on: %v, high %v", err, lines[1].high)
	}
	if err := adopt(k, inherited, false); err != nil || !lines[1].high {
		t.Errorf("adopt off: %v, high %v", err, lines[1].high)
	}
	if err := inherited.Close(); err != nil {
		t.Error(err)
	}
	if err := adopt(k, inherited, false); err == nil || !strings.Contains(err.Error(), "set inherited line safe-pump") {
		t.Errorf("adopt of a closed handle: %v", err)
	}
	out, err := m.Output(OutputConfig{Line: "PUMP"})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Error(err)
	}
}

// The real system calls fail on files that are no GPIO device.
func TestCharDevRefusals(t *testing.T) {
	f, err := charDev{}.open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, errChip := charDev{}.chip(f)
	_, errInfo := charDev{}.info(f, 0)
	_, errGet := charDev{}.get(f)
	for name, err := range map[string]error{
		"chip": errChip, "info": errInfo, "get": errGet,
		"request": charDev{}.request(f, &uapi.LineRequest{Lines: 1}),
		"set":     charDev{}.set(f, values(true)),
		"Adopt":   Adopt(f, true),
	} {
		if !errors.Is(err, unix.ENOTTY) {
			t.Errorf("%s: %v, want %v", name, err, unix.ENOTTY)
		}
	}
	if _, err := (charDev{}).open("/dev/gpiochip-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
}

// A copy of an output's handle keeps the line driven when the output is closed.
func TestOutputHandle(t *testing.T) {
	m, k, lines := benchMachine(t)
	o, err := m.drive(OutputConfig{Line: "bench-gpio:1", ActiveLow: true})
	if err != nil {
		t.Fatal(err)
	}
	f, err := o.Handle()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	if _, err := m.Output(OutputConfig{Line: "PUMP"}); err == nil {
		t.Error("the line is free while a copy of its handle is open")
	}
	if err := adopt(k, f, true); err != nil || lines[1].high {
		t.Errorf("adopt on: %v, high %v", err, lines[1].high)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := o.Handle(); err == nil {
		t.Error("a closed output gave a handle")
	}
}
