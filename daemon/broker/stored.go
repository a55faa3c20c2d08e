package broker

import (
	"context"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// stored are the messages that sessions kept while their clients were away, and that their new
// connections get one by one. The server would send them all at once, so they are taken out of
// its session before a connection takes that over. Any goroutine.
type stored struct {
	mu       sync.Mutex
	messages map[string][]packets.Packet // by client id, the oldest first
	owner    map[string]*mqtt.Client     // the connection that gets them
}

// take makes a connection the one that gets the messages of its session: those that are left of
// an earlier connection, and those that old has kept since. A clean session has none. old may be
// nil.
func (s *stored) take(cl, old *mqtt.Client, clean bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.messages == nil {
		s.messages, s.owner = map[string][]packets.Packet{}, map[string]*mqtt.Client{}
	}
	s.owner[cl.ID] = cl
	if clean || old == nil {
		delete(s.messages, cl.ID)
		return
	}
	for _, pk := range old.State.Inflight.GetAll(false) {
		if pk.FixedHeader.Type == packets.Publish && old.State.Inflight.Delete(pk.PacketID) {
			s.messages[cl.ID] = append(s.messages[cl.ID], pk)
		}
	}
}

// forget drops the messages of a session that has ended. Where cl is not nil, only if no other
// connection gets them.
func (s *stored) forget(id string, cl *mqtt.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cl == nil || s.owner[id] == cl {
		delete(s.messages, id)
		delete(s.owner, id)
	}
}

// next moves the next message into the session of cl, under a new packet id. ok is false if
// there is none, or another connection gets it.
func (s *stored) next(cl *mqtt.Client) (pk packets.Packet, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.messages[cl.ID]
	if s.owner[cl.ID] != cl || len(waiting) == 0 {
		return pk, false
	}
	id, err := cl.NextPacketID()
	if err != nil {
		return pk, false
	}
	pk = waiting[0]
	pk.PacketID, pk.Expiry = uint16(id), max(pk.Expiry, 0)
	if s.messages[cl.ID] = waiting[1:]; len(waiting) == 1 {
		delete(s.messages, cl.ID)
	}
	cl.State.Inflight.Set(pk)
	return pk, true
}

// sendStored sends a client what its session kept, until ctx ends.
func (r *rules) sendStored(ctx context.Context, cl *mqtt.Client) {
	for {
		pk, ok := r.stored.next(cl)
		switch {
		case !ok:
			return
		case r.expired(pk):
			cl.State.Inflight.Delete(pk.PacketID)
			continue
		}
		if err := cl.WritePacket(pk); err != nil && ctx.Err() != nil {
			return // it is in the session, for the next connection
		}
		if r.nap(ctx, time.Second/awsiot.StoredRate) != nil {
			return
		}
	}
}
