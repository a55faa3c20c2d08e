package regular

// Windows has no such flags; the first look has to do.
const (
	noBlock  = 0
	noFollow = 0
)
