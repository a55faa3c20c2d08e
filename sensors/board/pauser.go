package board

import "time"

// Pauser is a [Board] whose owner can use a bus for other chips while a driver waits for its
// own, for example during a conversion.
type Pauser interface {
	Board
	// Pause returns after d or somewhat later. A driver calls it between two transactions, on
	// the goroutine that uses the bus. Meanwhile that goroutine may talk to other chips on
	// the bus, but not to the driver's.
	Pause(d time.Duration)
}
