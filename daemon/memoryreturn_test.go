package daemon

import "testing"

// Memory is given back once after the start and once after each reload, when the link is up.
func TestMemoryIsReturnedOncePerConfiguration(t *testing.T) {
	var r memoryReturn
	first, second := &generation{}, &generation{}
	for i, x := range []struct {
		present   *generation
		connected bool
		due       bool
	}{
		{first, false, false}, // the first handshake is still to come
		{first, true, true},
		{first, true, false},
		{first, false, false}, // a lost connection is no reason
		{first, true, false},
		{second, false, false}, // the reload changed the link, which is not up yet
		{second, true, true},
		{second, true, false},
	} {
		if due := r.isDue(x.present, x.connected); due != x.due {
			t.Errorf("look %d: due %v, want %v", i+1, due, x.due)
		}
	}
}
