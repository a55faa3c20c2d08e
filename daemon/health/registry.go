package health

import (
	"cmp"
	"slices"
)

// Code names a fault, in the journal, in messages and in the documentation.
type Code string

// The codes.
const (
	BusStuck      Code = "bus_stuck"
	NoAnswer      Code = "no_answer"
	WrongAnswer   Code = "wrong_answer"
	Absent        Code = "absent"
	Denied        Code = "denied"
	LineBusy      Code = "line_busy"
	AddressOwned  Code = "address_owned"
	ReadFailed    Code = "read_failed"
	EdgesLost     Code = "edges_lost"
	Chatters      Code = "chatters"
	OutputFailed  Code = "output_failed"
	LevelMismatch Code = "level_mismatch"
	LevelUnknown  Code = "level_unknown"
	LevelUnsaved  Code = "level_unsaved"

	NetworkDown         Code = "network_down"
	TLSTooOld           Code = "tls_too_old"
	IdleTimeout         Code = "idle_timeout"
	ServerUntrusted     Code = "server_untrusted"
	ClockWrong          Code = "clock_wrong"
	CertificateRejected Code = "certificate_rejected"
	CertificateUnusable Code = "certificate_unusable"
	CertificateExpiring Code = "certificate_expiring"
	CertificateStuck    Code = "certificate_stuck"
	ConnectRefused      Code = "connect_refused"
	WillRefused         Code = "will_refused"
	SubscribeDenied     Code = "subscribe_denied"
	PublishDenied       Code = "publish_denied"
	NotDelivered        Code = "not_delivered"
	NoAcknowledgement   Code = "no_acknowledgement"
	DuplicateClient     Code = "duplicate_client"

	SpoolUnavailable Code = "spool_unavailable"
	SpoolFull        Code = "spool_full"
	SpoolDamaged     Code = "spool_damaged"
	SafeUnrecorded   Code = "safe_unrecorded"

	LedgerUnavailable Code = "ledger_unavailable"
	LedgerDamaged     Code = "ledger_damaged"
	OrderFlood        Code = "order_flood"

	LocalUnavailable Code = "local_unavailable"
	OpenToOthers     Code = "open_to_others"
)

// Severity says who has to act on a fault.
type Severity string

// The severities.
const (
	Warning Severity = "warning" // fieldpost tries again, and it may pass
	Error   Severity = "error"   // a person must act
)

// Concern is a part of fieldpost that a fault is about, as the documentation
// calls it. [Codes] gives the faults of one.
type Concern string

// The concerns. A fault of a Reading is disproved by a good reading, one of a Line by
// the line that is ours, one of the Link by a connection that stands.
const (
	Reading     Concern = "sensor"            // what a sensor reads
	Edges       Concern = "input"             // the changes of an input
	Bus         Concern = "bus"               // a bus with all that is on it
	Line        Concern = "output"            // the line of an output
	Level       Concern = "output's level"    // the level of an output
	Link        Concern = "connection"        // the connection to the broker
	Credentials Concern = "certificate files" // the files of certificate, key and roots
	Spool       Concern = "spool"             // the spool
	CrashRecord Concern = "crash record"      // what `fieldpost safe` reads
	Orders      Concern = "orders"            // the ledger, and the flow of orders
	Socket      Concern = "local socket"      // the local socket
	Access      Concern = "files"             // who else may read or change our files
)

// Fault describes one thing that can go wrong.
type Fault struct {
	Code     Code
	Severity Severity
	Concerns []Concern
	// DependsOn names the faults that explain this one. While one of them is raised
	// about the same subject, or about the bus that its subject is on, this one is
	// not told; see [Health.Raise]. They stand before it in the registry.
	DependsOn []Code
	// Refusal says of a fault of the Link that it hardly passes by itself, so that
	// trying often is of no use and a burden on the broker.
	Refusal bool
	// Credential says of a fault of the Link that it may come from the certificate,
	// the key or the roots, so that others might do better.
	Credential bool
	Title      string           // a few words
	Meaning    string           // one or two sentences: what it means
	Cure       string           // one or two sentences: what to do, whatever it is about
	CureAt     map[Place]string // what to do where Cure is not good for a place
}

// noConnection are the faults that keep a connection from standing. Until one stands,
// nobody needs to know what the broker denied on the one before.
var noConnection = []Code{NetworkDown, TLSTooOld, ServerUntrusted, ClockWrong, CertificateRejected, CertificateUnusable, ConnectRefused}

// Faults is the registry: everything that can go wrong, in the order of the
// documentation. deploy/README.md has a table of it, which a test holds against it.
var Faults = []Fault{
	{
		Code: BusStuck, Severity: Warning, Concerns: []Concern{Bus},
		Title:   "bus is stuck",
		Meaning: "Transactions on the bus time out: a wire is shorted, or a chip holds the clock or data line.",
		Cure:    "Power-cycle the chips on this bus; if it stays, unplug them one by one.",
	},
	{
		Code: NoAnswer, Severity: Warning, Concerns: []Concern{Reading},
		DependsOn: []Code{BusStuck},
		Title:     "does not answer",
		Meaning:   "Nothing answers at the chip's address on its bus, or on its serial port.",
		Cure:      "See the detail; `fieldpost read NAME` tries again at once.",
		CureAt: map[Place]string{
			OnBus:  "Check its power and wiring, and the address in the configuration; `fieldpost read NAME` tries again at once.",
			OnPort: "Check its power, and that its TX is wired to the port's RX and its RX to TX; `fieldpost read NAME` tries again at once.",
		},
	},
	{
		Code: WrongAnswer, Severity: Warning, Concerns: []Concern{Reading},
		DependsOn: []Code{BusStuck},
		Title:     "answers wrongly",
		Meaning:   "Something answers, but it cannot be this chip or its values cannot be true.",
		Cure:      "See the detail.",
		CureAt: map[Place]string{
			OnBus:    "Check that the configured chip is the one that is wired, and look for loose contacts or long wires.",
			OfKernel: "See the detail; the value is that of the kernel's driver. Check the sensor's wiring.",
			InZone:   "See the detail; the value is that of the kernel's driver. Try another zone.",
		},
	},
	{
		Code: Absent, Severity: Error, Concerns: []Concern{Reading, Line},
		Title:   "is not there",
		Meaning: "The bus, line or file does not exist on this machine.",
		Cure:    "Check its name in the configuration, and that it is there: the detail names it.",
		CureAt: map[Place]string{
			OnBus:    "Check the bus's name in the configuration: `ls /dev/i2c-*`; on a Raspberry Pi enable I2C with `dtparam=i2c_arm=on` in config.txt.",
			OnLine:   "Check the pin in the configuration: `gpioinfo` names this machine's lines.",
			OnSPI:    "Check the device's name in the configuration: `ls /dev/spidev*`; on a Raspberry Pi enable SPI with `dtparam=spi=on` in config.txt.",
			OnPort:   "Check the port's name in the configuration: `ls /dev/tty[ASU]* /dev/serial*`; on a Raspberry Pi enable the serial port, without a console on it, in raspi-config.",
			OfKernel: "Check the device's name in the configuration: `grep . /sys/class/hwmon/*/name` names this machine's; a chip on a bus needs its overlay in config.txt, such as `dtoverlay=i2c-sensor,sht3x`.",
			InZone:   "Check the zone in the configuration: `cat /sys/class/thermal/thermal_zone*/type` names this machine's.",
		},
	},
	{
		Code: Denied, Severity: Error, Concerns: []Concern{Reading, Line},
		Title:   "may not be opened",
		Meaning: "The system does not let this user open the device.",
		Cure:    "Give the user fieldpost the group of the file that the detail names.",
		CureAt: map[Place]string{
			OnBus:    "Put the user fieldpost into the group i2c and install the udev rule that comes with fieldpost.",
			OnLine:   "Put the user fieldpost into the group gpio and install the udev rule that comes with fieldpost.",
			OnSPI:    "Put the user fieldpost into the group spi and install the udev rule that comes with fieldpost.",
			OnPort:   "Put the user fieldpost into the group dialout, as the unit that comes with fieldpost does.",
			OfKernel: "Let the user fieldpost read /sys/class/hwmon; the unit that comes with fieldpost does.",
			InZone:   "Let the user fieldpost read /sys/class/thermal; the unit that comes with fieldpost does.",
		},
	},
	{
		Code: LineBusy, Severity: Error, Concerns: []Concern{Reading, Line},
		Title:   "line is held by somebody else",
		Meaning: "Another program or a kernel driver, which the detail names, has requested this line.",
		Cure:    "Stop the other holder, or choose another pin.",
	},
	{
		Code: AddressOwned, Severity: Error, Concerns: []Concern{Reading},
		Title:   "chip belongs to the kernel",
		Meaning: "A driver of the kernel owns the chip's address (UU in i2cdetect), so it is left alone: its settings are the driver's.",
		Cure:    "Read it with chip hwmon, or take the driver away: remove its dtoverlay from config.txt and restart, or unbind it as the detail says.",
	},
	{
		Code: ReadFailed, Severity: Warning, Concerns: []Concern{Reading},
		DependsOn: []Code{BusStuck},
		Title:     "cannot be read",
		Meaning:   "Reading failed for a reason of the system's.",
		Cure:      "See the detail.",
		CureAt: map[Place]string{
			OfKernel: "See the detail; the kernel's driver gives no value now: on a chip's bus check power and wiring.",
			InZone:   "See the detail; the kernel's driver of the zone gives no value now.",
		},
	},
	{
		Code: EdgesLost, Severity: Warning, Concerns: []Concern{Edges},
		Title:   "changed faster than can be followed",
		Meaning: "The kernel's queue of edges was full, so some changes of the line were not seen.",
		Cure:    "Raise the sensor's debounce, or look for a wire that picks up noise.",
	},
	{
		Code: Chatters, Severity: Warning, Concerns: []Concern{Edges},
		Title:   "input chatters",
		Meaning: "The line changes more often than the sensor's max_edges allows. Its changes are counted, and told once a second with the last level.",
		Cure:    "Look for an open wire, a bad contact or hum from the mains; set the sensor's pull and debounce. Where it is to change so often, raise its max_edges.",
	},
	{
		Code: OutputFailed, Severity: Error, Concerns: []Concern{Line},
		Title:   "output cannot be driven",
		Meaning: "The line could not be requested or set.",
		Cure:    "See the detail; orders for this output fail until it works.",
	},
	{
		Code: LevelMismatch, Severity: Error, Concerns: []Concern{Level},
		Title:   "line has another level than it was set to",
		Meaning: "The level that the kernel reads back is not the one that was set.",
		Cure:    "Look for a short, or for something else that drives this wire.",
	},
	{
		Code: LevelUnknown, Severity: Error, Concerns: []Concern{Level},
		Title:   "last level is not known",
		Meaning: "What is stored of the output's level cannot be read, so it started at its safe level and not at its last one.",
		Cure:    "Give it the level it should have; if it comes again, look at the card's health.",
	},
	{
		Code: LevelUnsaved, Severity: Error, Concerns: []Concern{Level},
		Title:   "levels cannot be stored",
		Meaning: "The levels of outputs with initial: last cannot be written; after a restart such an output may start at an older one.",
		Cure:    "Make room or replace the card.",
	},

	{
		Code: NetworkDown, Severity: Warning, Concerns: []Concern{Link},
		Title:   "broker cannot be reached",
		Meaning: "The broker's name cannot be resolved or nothing answers at its address.",
		Cure:    "Check the network and broker.endpoint. Readings are kept meanwhile.",
	},
	{
		Code: IdleTimeout, Severity: Warning, Concerns: []Concern{Link},
		Title:   "connection ends when nothing is sent",
		Meaning: "A proxy, NAT or firewall on the way to the broker gives up connections on which nothing goes for a while. fieldpost pings more often because of that.",
		Cure:    "Nothing, if it passes; otherwise raise that timeout.",
	},
	{
		Code: TLSTooOld, Severity: Error, Concerns: []Concern{Link},
		Refusal: true,
		Title:   "broker's TLS is too old",
		Meaning: "The broker offers no TLS version from 1.2 on, or no cipher that we take.",
		Cure:    "Let the broker offer TLS 1.2 or 1.3.",
	},
	{
		Code: ServerUntrusted, Severity: Error, Concerns: []Concern{Link},
		Refusal:    true,
		Credential: true,
		Title:      "broker's certificate is not trusted",
		Meaning:    "The broker's certificate is not signed by a root in broker.ca, or is for another name.",
		Cure:       "Check broker.endpoint and broker.ca.",
	},
	{
		Code: ClockWrong, Severity: Warning, Concerns: []Concern{Link},
		Title:   "clock is wrong",
		Meaning: "The broker's certificate is not valid at this machine's time; maybe no time has come from the network yet.",
		Cure:    "Let the clock synchronise: `timedatectl status`.",
	},
	{
		Code: CertificateRejected, Severity: Error, Concerns: []Concern{Link},
		Refusal:    true,
		Credential: true,
		Title:      "our certificate was rejected",
		Meaning:    "The broker ended the TLS handshake because of our certificate.",
		Cure:       "Check that the certificate is active and registered with this broker, and not expired.",
	},
	{
		Code: CertificateUnusable, Severity: Error, Concerns: []Concern{Link},
		Credential: true,
		Title:      "certificate or key cannot be used",
		Meaning:    "The files of broker.ca, broker.certificate or broker.key cannot be read or do not belong together.",
		Cure:       "See the detail; `fieldpost check` tells the same.",
	},
	{
		Code: CertificateExpiring, Severity: Error, Concerns: []Concern{Credentials},
		Title:   "certificate expires soon, or has expired",
		Meaning: "Our certificate or the broker's root expires within 30 days, or has expired; a connection that stands goes on, the next one is refused.",
		Cure:    "Put a new pair into place; it is used from the next connection on, which `fieldpost reconnect` makes.",
	},
	{
		Code: CertificateStuck, Severity: Error, Concerns: []Concern{Credentials},
		Title:   "certificate files cannot be read in time",
		Meaning: "The disk does not give the files of broker.ca, broker.certificate and broker.key; those that were read before stay in use, and a renewed pair is not seen.",
		Cure:    "Look at the disk that they are on: `dmesg`.",
	},
	{
		Code: ConnectRefused, Severity: Error, Concerns: []Concern{Link},
		Refusal:    true,
		Credential: true,
		Title:      "broker refused the connection",
		Meaning:    "TLS succeeded but the broker did not accept our CONNECT.",
		Cure:       "On AWS IoT Core the certificate has to be active and needs a policy that allows iot:Connect for this client id.",
	},
	{
		Code: WillRefused, Severity: Error, Concerns: []Concern{Link},
		DependsOn: noConnection,
		Title:     "broker refuses our will",
		Meaning:   "The broker takes our connection only without a will, so nobody says offline when this board is lost. Everything else goes on.",
		Cure:      "On AWS IoT Core let the policy's condition on iot:ConnectAttributes allow LastWill; or set broker.will: none.",
	},
	{
		Code: SubscribeDenied, Severity: Error, Concerns: []Concern{Link},
		DependsOn: noConnection,
		Refusal:   true,
		Title:     "subscription is denied",
		Meaning:   "The broker does not let us subscribe to the topic, so no orders come from it. Everything else goes on.",
		Cure:      "On AWS IoT Core allow iot:Subscribe on the topic filter and iot:Receive on the topic.",
	},
	{
		Code: PublishDenied, Severity: Error, Concerns: []Concern{Link},
		DependsOn: noConnection,
		Refusal:   true,
		Title:     "publishing is denied",
		Meaning:   "The broker hangs up on what we publish to the topic that is named; its mail is kept.",
		Cure:      "On AWS IoT Core allow iot:Publish on the topic, and see that no other client has our client id.",
	},
	{
		Code: NotDelivered, Severity: Error, Concerns: []Concern{Link},
		DependsOn: noConnection,
		Title:     "broker acknowledges and does not deliver",
		Meaning:   "The broker acknowledged a message of ours and did not deliver it to us, although we are subscribed to its topic. It may deliver nothing to anybody: mosquitto and EMQX acknowledge what they deny.",
		Cure:      "Check the broker's access rules for the topic; on AWS IoT Core allow iot:Receive on it. Where only reading it is denied to this board, or the broker gives no client its own messages, set broker.verify: none.",
	},
	{
		Code: NoAcknowledgement, Severity: Warning, Concerns: []Concern{Link},
		Title:   "broker does not acknowledge",
		Meaning: "Messages were sent but no acknowledgement came in time, so the connection was made anew: a passing overload, or the broker discards what exceeds its rate.",
		Cure:    "Nothing, if it passes; otherwise send fewer messages: a longer `every`, or `readings.batch`.",
	},
	{
		Code: DuplicateClient, Severity: Error, Concerns: []Concern{Link},
		Refusal: true,
		Title:   "another client uses our client id",
		Meaning: "The broker ends our connections shortly after they are made, again and again.",
		Cure:    "Give every client a client id of its own: broker.client_id.",
	},

	{
		Code: SpoolUnavailable, Severity: Error, Concerns: []Concern{Spool},
		Title:   "spool cannot be written",
		Meaning: "The disk is full, read-only or failing, or the directory was removed or replaced; readings are kept in memory only.",
		Cure:    "Make room or replace the card. A power cut now would lose what is not yet delivered.",
	},
	{
		Code: SpoolFull, Severity: Warning, Concerns: []Concern{Spool},
		Title:   "spool is full",
		Meaning: "The oldest readings were dropped to make room; a gap message says which.",
		Cure:    "Raise spool.max_bytes, or mend the connection.",
	},
	{
		Code: SpoolDamaged, Severity: Error, Concerns: []Concern{Spool},
		Title:   "spool was damaged",
		Meaning: "Part of the spool could not be read and was set aside.",
		Cure:    "Look at the card's health; the damaged files lie beside the spool.",
	},
	{
		Code: SafeUnrecorded, Severity: Error, Concerns: []Concern{CrashRecord},
		Title:   "safe levels could not be recorded",
		Meaning: "The file that tells `fieldpost safe` which lines to drive after a crash could not be written.",
		Cure:    "Check /run/fieldpost: owner fieldpost, mode 0750, not full.",
	},
	{
		Code: LedgerUnavailable, Severity: Error, Concerns: []Concern{Orders},
		Title:   "orders cannot be recorded",
		Meaning: "The ledger of orders cannot be read or written, so orders are refused but those to the safe level.",
		Cure:    "Make room or replace the card. Where only the file orders.journal cannot be read, stop fieldpost, wait until all orders sent have expired, and remove it.",
	},
	{
		Code: OrderFlood, Severity: Warning, Concerns: []Concern{Orders},
		Title:   "more orders are refused than are answered",
		Meaning: "So many orders come that are refused, or that came before, that their answers would crowd out readings; most are only counted, and answers with the reason not_answered tell how many.",
		Cure:    "See these answers and find who sends the orders.",
	},
	{
		Code: LedgerDamaged, Severity: Error, Concerns: []Concern{Orders},
		Title:   "ledger of orders was damaged",
		Meaning: "Entries in the ledger of orders could not be read; an order among them that is sent again acts again.",
		Cure:    "Look at the card's health.",
	},

	{
		Code: OpenToOthers, Severity: Error, Concerns: []Concern{Access},
		Title:   "open to other users",
		Meaning: "Another user of this machine could read the private key, or change what fieldpost rests on: configuration, certificates, crash record or spool.",
		Cure:    "Give the command that stands in the detail. A key that others could read is better replaced.",
	},
	{
		Code: LocalUnavailable, Severity: Error, Concerns: []Concern{Socket},
		Title:   "local socket cannot be opened",
		Meaning: "`fieldpost status`, `send` and `read` do not reach this daemon. Everything else goes on.",
		Cure:    "See the detail: another daemon may run, `pgrep -a fieldpost`, or the socket's directory may not be ours.",
	},
}

// byCode finds a fault; it is never written after it is made.
var byCode = func() map[Code]*Fault {
	m := make(map[Code]*Fault, len(Faults))
	for i := range Faults {
		m[Faults[i].Code] = &Faults[i]
	}
	return m
}()

// Lookup gives the registered fault of a code. An unregistered code is a
// mistake in the program; it gives a fault that says so.
func Lookup(c Code) Fault {
	if f, ok := byCode[c]; ok {
		return *f
	}
	return Fault{Code: c, Severity: Error, Title: string(c), Meaning: "Unregistered fault.", Cure: "Report this as a bug of fieldpost."}
}

// Codes gives the codes of the faults that concern something, in the registry's
// order.
func Codes(about Concern) (codes []Code) {
	for _, f := range Faults {
		if slices.Contains(f.Concerns, about) {
			codes = append(codes, f.Code)
		}
	}
	return codes
}

// CureOf gives what to do about the fault at a place.
func (f Fault) CureOf(p Place) string { return cmp.Or(f.CureAt[p], f.Cure) }
