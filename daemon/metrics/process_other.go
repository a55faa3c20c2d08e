//go:build !linux

package metrics

// usage knows nothing on other systems.
func usage() Process { return Process{} }
