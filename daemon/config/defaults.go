package config

import (
	"reflect"
	"time"

	"fieldpost/daemon/output"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/filter"
)

// defaults holds the defaults.
var defaults = Config{
	Broker: Broker{
		CA:          "certs/AmazonRootCA1.pem",
		Certificate: "certs/certificate.pem.crt",
		Key:         "certs/private.pem.key",
		KeepAlive:   30 * time.Second,
		Limits:      "auto",
		Will:        "offline",
		Verify:      "auto",
		Provisioning: Provisioning{
			ClaimCertificate: "certs/claim.pem.crt",
			ClaimKey:         "certs/claim.pem.key",
			RenewBefore:      45 * 24 * time.Hour,
		},
	},
	Readings: Readings{
		Linger: 50 * time.Millisecond,
		Batch:  Batch{Within: 500 * time.Millisecond},
	},
	Commands: Commands{
		MaxLife:   time.Hour,
		Unstamped: "refuse",
	},
	Spool: Spool{
		Dir:      "/var/lib/fieldpost",
		AtRisk:   5 * time.Second,
		MaxBytes: 64 << 20,
		MaxAge:   30 * 24 * time.Hour,
	},
	History: History{
		Keep:       "disk",
		Quantities: 64,
	},
}

// outputDefaults holds those of an output. The default of initial is the value of safe.
var outputDefaults = output.Config{
	Drive: board.PushPull,
	Safe:  output.SafeOff,
}

// items holds the defaults for entries of lists.
var items = map[reflect.Type]reflect.Value{
	reflect.TypeFor[output.Config]():  reflect.ValueOf(outputDefaults),
	reflect.TypeFor[sensors.Filter](): reflect.ValueOf(filter.Default),
}
