package config

import (
	"testing"

	"fieldpost/daemon/command"
)

func TestMostOrdersIsWhatCommandRemembers(t *testing.T) {
	if mostOrders != command.MaxActed {
		t.Errorf("mostOrders is %d, command.MaxActed %d", mostOrders, command.MaxActed)
	}
}
