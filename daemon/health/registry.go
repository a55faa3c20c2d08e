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
	TotalUnsaved  Code = "total_unsaved"
	TotalDamaged  Code = "total_damaged"
	OutputFailed  Code = "output_failed"
	LevelMismatch Code = "level_mismatch"
	LevelLost     Code = "level_lost"
	LevelUnknown  Code = "level_unknown"
	LevelUnsaved  Code = "level_unsaved"

	NotProvisioned      Code = "not_provisioned"
	ProvisioningFailed  Code = "provisioning_failed"
	RenewalFailed       Code = "renewal_failed"
	ThingMismatch       Code = "thing_mismatch"
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
	LoginRefused        Code = "login_refused"
	ProxyRefused        Code = "proxy_refused"
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

	HistoryUnsaved Code = "history_unsaved"

	LocalUnavailable   Code = "local_unavailable"
	MetricsUnavailable Code = "metrics_unavailable"
	PageUnavailable    Code = "page_unavailable"
	OpenToOthers       Code = "open_to_others"
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

// The concerns. A good reading clears the faults of a Reading, a line that was opened
// those of a Line, and a connection those of the Link.
const (
	Reading      Concern = "sensor"            // what a sensor reads
	Edges        Concern = "input"             // the changes of an input
	Total        Concern = "counter's total"   // what a counter has counted over restarts
	Bus          Concern = "bus"               // a bus with all that is on it
	Line         Concern = "output"            // the line of an output
	Level        Concern = "output's level"    // the level of an output
	Link         Concern = "connection"        // the connection to the broker
	Credentials  Concern = "certificate files" // the files of certificate, key and roots
	Provisioning Concern = "provisioning"      // how the certificate is obtained and renewed
	Spool        Concern = "spool"             // the spool
	CrashRecord  Concern = "crash record"      // what `fieldpost safe` reads
	Orders       Concern = "orders"            // the ledger, and the flow of orders
	History      Concern = "history"           // the past readings that are kept here
	Socket       Concern = "local socket"      // the local socket
	Access       Concern = "files"             // who else may read or change our files
)

// Fault describes one thing that can go wrong.
type Fault struct {
	Code     Code
	Severity Severity
	Concerns []Concern
	// DependsOn names the faults that explain this one. While one of them is raised
	// about the same subject, or about the bus that the subject is on, this one is not
	// reported; see [Health.Raise]. The registry has them before this one.
	DependsOn []Code
	// Refusal marks a fault of the Link that is unlikely to clear by itself, so that
	// frequent attempts only burden the broker.
	Refusal bool
	// Credential marks a fault of the Link that the certificate, the key or the roots
	// may cause, so that other files may help.
	Credential bool
	Title      string           // a few words
	Meaning    string           // one or two sentences: what it means
	Cure       string           // one or two sentences: what to do, for any place
	CureAt     map[Place]string // what to do at a place for which Cure is not right
}

// noConnection are the faults without a connection. Until there is one, nobody needs
// to know what the broker denied on the one before.
var noConnection = []Code{NotProvisioned, NetworkDown, TLSTooOld, ServerUntrusted, ClockWrong, CertificateRejected, CertificateUnusable, ConnectRefused, LoginRefused, ProxyRefused}

// Faults is the registry: everything that can go wrong, in the order of the
// documentation. The table in deploy/README.md is generated from it.
var Faults = []Fault{
	{
		Code: BusStuck, Severity: Warning, Concerns: []Concern{Bus},
		Title:   "bus is stuck",
		Meaning: "Transactions on the bus time out. A wire is shorted, or a chip holds the clock or data line.",
		Cure:    "Power-cycle the chips on this bus. If that does not help, unplug them one by one.",
	},
	{
		Code: NoAnswer, Severity: Warning, Concerns: []Concern{Reading},
		DependsOn: []Code{BusStuck},
		Title:     "does not answer",
		Meaning:   "Nothing answers at the chip's address, or on its serial port.",
		Cure:      "See the detail. `fieldpost read NAME` tries again at once.",
		CureAt: map[Place]string{
			OnBus:    "Check its power, its wiring and the address in the configuration. `fieldpost read NAME` tries again at once.",
			OnPort:   "Check its power, and that its TX goes to the port's RX and its RX to the port's TX. `fieldpost read NAME` tries again at once.",
			OfKernel: "The kernel's driver is there, but the chip does not answer it: check its power and its wiring. `fieldpost read NAME` tries again at once.",
		},
	},
	{
		Code: WrongAnswer, Severity: Warning, Concerns: []Concern{Reading},
		DependsOn: []Code{BusStuck},
		Title:     "gives wrong answers",
		Meaning:   "Something answers, but it is not the configured chip, or its values are impossible.",
		Cure:      "See the detail.",
		CureAt: map[Place]string{
			OnBus:    "Check that the chip in the configuration is the one that is wired. Look for loose contacts and long wires.",
			OfKernel: "See the detail. The value comes from the kernel's driver; check the sensor's wiring.",
			InZone:   "See the detail. The value comes from the kernel's driver; try another zone.",
		},
	},
	{
		Code: Absent, Severity: Error, Concerns: []Concern{Reading, Line},
		Title:   "is not there",
		Meaning: "The bus, line or file does not exist on this machine.",
		Cure:    "Check its name in the configuration. The detail says what is missing.",
		CureAt: map[Place]string{
			OnBus:    "Check the bus name in the configuration: `ls /dev/i2c-*` lists the buses. On a Raspberry Pi, enable I2C with `dtparam=i2c_arm=on` in config.txt.",
			OnLine:   "Check the pin in the configuration; the detail says what there is. `fieldpost scan` shows the header and what uses its pins, `gpioinfo` lists all lines. The lines of an I/O expander, and PWM channels, need an overlay in config.txt.",
			OnSPI:    "Check the device name in the configuration: `ls /dev/spidev*` lists the devices. On a Raspberry Pi, enable SPI with `dtparam=spi=on` in config.txt.",
			OnPort:   "Check the port name in the configuration: `ls /dev/tty[ASU]* /dev/serial*` lists the ports. On a Raspberry Pi, enable the serial port in raspi-config, without a login shell on it.",
			OfKernel: "Check the device name in the configuration: `grep . /sys/class/hwmon/*/name /sys/bus/iio/devices/*/name` and `ls /sys/bus/w1/devices` list the devices. A chip on a bus needs its overlay in config.txt, such as `dtoverlay=i2c-sensor,sht3x`.",
			InZone:   "Check the zone in the configuration: `cat /sys/class/thermal/thermal_zone*/type` lists the zones.",
		},
	},
	{
		Code: Denied, Severity: Error, Concerns: []Concern{Reading, Line},
		Title:   "cannot be opened: permission denied",
		Meaning: "The user fieldpost is not allowed to open the device.",
		Cure:    "Add the user fieldpost to the group of the file that the detail names.",
		CureAt: map[Place]string{
			OnBus:    "Add the user fieldpost to the group i2c and install the udev rule that comes with fieldpost.",
			OnLine:   "Add the user fieldpost to the group gpio and install the udev rule that comes with fieldpost.",
			OnSPI:    "Add the user fieldpost to the group spi and install the udev rule that comes with fieldpost.",
			OnPort:   "Add the user fieldpost to the group dialout, as the unit that comes with fieldpost does.",
			OfKernel: "Let the user fieldpost read /sys/class/hwmon and /sys/bus; the unit that comes with fieldpost does.",
			InZone:   "Let the user fieldpost read /sys/class/thermal; the unit that comes with fieldpost does.",
		},
	},
	{
		Code: LineBusy, Severity: Error, Concerns: []Concern{Reading, Line},
		Title:   "line is in use",
		Meaning: "Another program or a kernel driver has requested this line. The detail names it.",
		Cure:    "Stop that program, or choose another pin.",
	},
	{
		Code: AddressOwned, Severity: Error, Concerns: []Concern{Reading},
		Title:   "chip is used by a kernel driver",
		Meaning: "A kernel driver owns the chip's address (UU in i2cdetect). fieldpost leaves the chip alone, because its settings belong to the driver.",
		Cure:    "Read it with `chip: hwmon` or `chip: iio`. Or remove the driver: delete its dtoverlay from config.txt and reboot, or unbind it as the detail says.",
	},
	{
		Code: ReadFailed, Severity: Warning, Concerns: []Concern{Reading},
		DependsOn: []Code{BusStuck},
		Title:     "cannot be read",
		Meaning:   "The system returned an error for the read.",
		Cure:      "See the detail.",
		CureAt: map[Place]string{
			OfKernel: "See the detail. The kernel's driver has no value now; for a chip on a bus, check power and wiring.",
			InZone:   "See the detail. The kernel's driver has no value for the zone now.",
		},
	},
	{
		Code: EdgesLost, Severity: Warning, Concerns: []Concern{Edges},
		Title:   "changes too fast to follow",
		Meaning: "Some changes of the line were missed: the kernel's queue of edges was full, or a counter's line changed again before the kernel had looked at it.",
		Cure:    "Increase the sensor's `debounce`, or look for a wire that picks up noise.",
	},
	{
		Code: Chatters, Severity: Warning, Concerns: []Concern{Edges},
		Title:   "input chatters",
		Meaning: "The line changes more often than `max_edges` allows: its changes are counted and reported once a second, with the last level. Or a counter has more pulses than `max_rate` allows, and does not count those above it.",
		Cure:    "Look for an open wire, a bad contact or mains hum, and set the sensor's `pull` and `debounce`. If the rate is normal for this input, increase `max_edges` or `max_rate`.",
	},
	{
		Code: TotalUnsaved, Severity: Error, Concerns: []Concern{Total},
		Title:   "total cannot be stored",
		Meaning: "The counter's total cannot be written, or the one before cannot be read. Pulses are counted in memory. Readings have the total that is on disk, or none, and the rate.",
		Cure:    "Free some space or replace the SD card. A power cut or a kill before then costs what was counted meanwhile.",
	},
	{
		Code: TotalDamaged, Severity: Error, Concerns: []Concern{Total},
		Title:   "total may be wrong",
		Meaning: "The file with the totals was damaged. The counter's total may be an older one, or begins again.",
		Cure:    "Compare it with the meter, write what the meter shows into the sensor's `start` and reload. Check the SD card.",
	},
	{
		Code: OutputFailed, Severity: Error, Concerns: []Concern{Line},
		Title:   "output cannot be driven",
		Meaning: "The line could not be requested or set.",
		Cure:    "See the detail. Orders for this output fail until it works.",
	},
	{
		Code: LevelMismatch, Severity: Error, Concerns: []Concern{Level},
		Title:   "line does not have the level that was set",
		Meaning: "The kernel reads back another level than the one that was set.",
		Cure:    "Look for a short circuit, or for something else that drives this wire.",
	},
	{
		Code: LevelLost, Severity: Error, Concerns: []Concern{Level},
		Title:   "output lost its level",
		Meaning: "The output's level changed although nobody here changed it: its chip lost its power or was reset, or another program changed it. It was made safe. A level other than the safe one is not set again.",
		Cure:    "Check the chip's power and its RESET pin: a supply that dips when a load is switched is common. The fault clears with the next order for the output, or at once if the safe level was lost and is back.",
	},
	{
		Code: LevelUnknown, Severity: Error, Concerns: []Concern{Level},
		Title:   "last level is unknown",
		Meaning: "The stored level of the output cannot be read, so the output started at its safe level instead of its last one.",
		Cure:    "Set the output to the level it should have. If this happens again, check the SD card.",
	},
	{
		Code: LevelUnsaved, Severity: Error, Concerns: []Concern{Level},
		Title:   "levels cannot be stored",
		Meaning: "The levels of outputs with `initial: last` cannot be written. After a restart such an output may start at an older level.",
		Cure:    "Free some space or replace the SD card.",
	},

	{
		Code: NotProvisioned, Severity: Warning, Concerns: []Concern{Link},
		Title:   "board has no certificate yet",
		Meaning: "This board gets its certificate by fleet provisioning (`broker.provisioning`), and has none yet. Readings wait in the spool.",
		Cure:    "Nothing, if the fault clears. Otherwise see the fault `provisioning_failed`.",
	},
	{
		Code: ProvisioningFailed, Severity: Error, Concerns: []Concern{Provisioning},
		Title:   "provisioning failed",
		Meaning: "The board could not get a certificate of its own with the claim certificate. fieldpost tries again, after 15 minutes at most.",
		Cure:    "See the detail. When you have fixed the cause, `fieldpost certs renew` tries again at once.",
	},
	{
		Code: RenewalFailed, Severity: Error, Concerns: []Concern{Provisioning},
		Title:   "renewal of the certificate failed",
		Meaning: "The board could not replace its certificate. The present one stays in use; fieldpost tries again, after 6 hours at most.",
		Cure:    "See the detail. When you have fixed the cause, `fieldpost certs renew` tries again at once.",
	},
	{
		Code: ThingMismatch, Severity: Error, Concerns: []Concern{Provisioning},
		Title:   "template registered another thing",
		Meaning: "The provisioning template registered the new certificate for another thing than `thing` in the configuration, so it is not used.",
		Cure:    "Make the two agree: change `thing` and restart fieldpost, or change the template or `broker.provisioning.parameters` and run `fieldpost certs renew`.",
	},
	{
		Code: NetworkDown, Severity: Warning, Concerns: []Concern{Link},
		Title:   "broker cannot be reached",
		Meaning: "The broker's name cannot be resolved, or nothing answers at its address.",
		Cure:    "Check the network and `broker.endpoint`. Readings are kept until the broker can be reached.",
	},
	{
		Code: IdleTimeout, Severity: Warning, Concerns: []Concern{Link},
		Title:   "connection is closed when idle",
		Meaning: "A proxy, NAT or firewall on the way to the broker drops idle connections. fieldpost sends pings more often because of that.",
		Cure:    "Nothing, if the fault clears. Otherwise increase the idle timeout of that device.",
	},
	{
		Code: TLSTooOld, Severity: Error, Concerns: []Concern{Link},
		Refusal: true,
		Title:   "broker's TLS is too old",
		Meaning: "The broker offers neither TLS 1.2 nor 1.3, or no cipher suite that fieldpost accepts.",
		Cure:    "Enable TLS 1.2 or 1.3 on the broker.",
	},
	{
		Code: ServerUntrusted, Severity: Error, Concerns: []Concern{Link},
		Refusal:    true,
		Credential: true,
		Title:      "broker's certificate is not trusted",
		Meaning:    "The broker's certificate is not signed by a root in `broker.ca`, or is for another name.",
		Cure:       "Check `broker.endpoint` and `broker.ca`.",
	},
	{
		Code: ClockWrong, Severity: Warning, Concerns: []Concern{Link},
		Title:   "clock is wrong",
		Meaning: "The broker's certificate is not valid at this machine's time. Perhaps the clock has not been synchronised yet.",
		Cure:    "Make sure that the clock synchronises: `timedatectl status`.",
	},
	{
		Code: CertificateRejected, Severity: Error, Concerns: []Concern{Link},
		Refusal:    true,
		Credential: true,
		Title:      "broker rejected our certificate",
		Meaning:    "The broker ended the TLS handshake because of our certificate.",
		Cure:       "Check that the certificate is registered with this broker, active and not expired.",
	},
	{
		Code: CertificateUnusable, Severity: Error, Concerns: []Concern{Link},
		Credential: true,
		Title:      "certificate or key cannot be used",
		Meaning:    "The files in `broker.ca`, `broker.certificate` and `broker.key` cannot be read, or do not belong together.",
		Cure:       "See the detail. `fieldpost check` reports the same.",
	},
	{
		Code: CertificateExpiring, Severity: Error, Concerns: []Concern{Credentials},
		Title:   "certificate expires soon, or has expired",
		Meaning: "Our certificate or the broker's root expires within 30 days, or has expired. After that an open connection continues, but the next one is refused.",
		Cure:    "Install a new certificate and key, then run `fieldpost reconnect` to use them.",
	},
	{
		Code: CertificateStuck, Severity: Error, Concerns: []Concern{Credentials},
		Title:   "reading the certificate files hangs",
		Meaning: "The disk does not return the files in `broker.ca`, `broker.certificate` and `broker.key`. What was read before stays in use; a renewed certificate is not noticed.",
		Cure:    "Check the disk that holds the files: `dmesg`.",
	},
	{
		Code: ConnectRefused, Severity: Error, Concerns: []Concern{Link},
		Refusal:    true,
		Credential: true,
		Title:      "broker refused the connection",
		Meaning:    "TLS succeeded, but the broker did not accept our CONNECT.",
		Cure:       "On AWS IoT Core the certificate must be active and have a policy that allows iot:Connect for this client id.",
	},
	{
		Code: LoginRefused, Severity: Error, Concerns: []Concern{Link},
		Refusal:    true,
		Credential: true,
		Title:      "broker refused the user name or password",
		Meaning:    "TLS succeeded, but the broker did not accept the user name or the password of our CONNECT, and said so. AWS IoT Core never does.",
		Cure:       "Check `broker.username` and the file that `broker.password_file` names.",
	},
	{
		Code: ProxyRefused, Severity: Error, Concerns: []Concern{Link},
		Refusal: true,
		Title:   "proxy refused the connection",
		Meaning: "The HTTP proxy on the way to the broker does not let us through.",
		Cure:    "Check `broker.proxy`, or HTTPS_PROXY in the environment of the daemon, and have the proxy allow CONNECT to the broker's host and port.",
	},
	{
		Code: WillRefused, Severity: Error, Concerns: []Concern{Link},
		DependsOn: noConnection,
		Title:     "broker refuses our will",
		Meaning:   "The broker accepts our connection only without a will, so no `offline` message is sent when this board is lost. Everything else works.",
		Cure:      "On AWS IoT Core, allow LastWill in the policy's condition on iot:ConnectAttributes. Or set `broker.will: none`.",
	},
	{
		Code: SubscribeDenied, Severity: Error, Concerns: []Concern{Link},
		DependsOn: noConnection,
		Refusal:   true,
		Title:     "subscription is denied",
		Meaning:   "The broker does not let us subscribe to the topic, so no orders arrive on it. Everything else works.",
		Cure:      "On AWS IoT Core, allow iot:Subscribe on the topic filter and iot:Receive on the topic.",
	},
	{
		Code: PublishDenied, Severity: Error, Concerns: []Concern{Link},
		DependsOn: noConnection,
		Refusal:   true,
		Title:     "publishing is denied",
		Meaning:   "The broker closes the connection when we publish to the topic. Its messages are kept.",
		Cure:      "On AWS IoT Core, allow iot:Publish on the topic. Make sure that no other client uses our client id.",
	},
	{
		Code: NotDelivered, Severity: Error, Concerns: []Concern{Link},
		DependsOn: noConnection,
		Title:     "broker acknowledges but does not deliver",
		Meaning:   "The broker acknowledged our message but did not deliver it to us, although we are subscribed to its topic. Perhaps it delivers to nobody: mosquitto and EMQX acknowledge messages that they deny.",
		Cure:      "Check the broker's access rules for the topic; on AWS IoT Core, allow iot:Receive on it. If only this board may not read the topic, or the broker never returns a client's own messages, set `broker.verify: none`.",
	},
	{
		Code: NoAcknowledgement, Severity: Warning, Concerns: []Concern{Link},
		Title:   "broker does not acknowledge",
		Meaning: "Messages were sent but not acknowledged in time, so fieldpost reconnected. The broker is overloaded, or discards messages above its rate limit.",
		Cure:    "Nothing, if the fault clears. Otherwise send fewer messages: use a longer `every`, or `readings.batch`.",
	},
	{
		Code: DuplicateClient, Severity: Error, Concerns: []Concern{Link},
		Refusal: true,
		Title:   "another client uses our client id",
		Meaning: "The broker keeps closing our connections shortly after they are made.",
		Cure:    "Give every client its own client id: `broker.client_id`.",
	},

	{
		Code: SpoolUnavailable, Severity: Error, Concerns: []Concern{Spool},
		Title:   "spool cannot be written",
		Meaning: "The disk is full, read-only or failing, or the directory was removed or replaced. Readings are kept in memory only; a power cut now would lose those not yet delivered.",
		Cure:    "Free some space or replace the SD card.",
	},
	{
		Code: SpoolFull, Severity: Warning, Concerns: []Concern{Spool},
		Title:   "spool is full",
		Meaning: "The oldest readings were dropped to make room. A gap message says which.",
		Cure:    "Repair the connection, or increase `spool.max_bytes`.",
	},
	{
		Code: SpoolDamaged, Severity: Error, Concerns: []Concern{Spool},
		Title:   "spool was damaged",
		Meaning: "Part of the spool could not be read and was set aside. Gap messages say which readings that may have cost.",
		Cure:    "Check the SD card. The damaged files are kept in the spool directory; their names end in .damaged.",
	},
	{
		Code: SafeUnrecorded, Severity: Error, Concerns: []Concern{CrashRecord},
		Title:   "cannot record the safe levels",
		Meaning: "The file from which `fieldpost safe` learns which lines to drive after a crash could not be written.",
		Cure:    "Check /run/fieldpost: owner fieldpost, mode 0750, not full.",
	},
	{
		Code: LedgerUnavailable, Severity: Error, Concerns: []Concern{Orders},
		Title:   "orders cannot be recorded",
		Meaning: "The ledger of orders cannot be read or written, so all orders are refused except those to the safe level.",
		Cure:    "Free some space or replace the SD card. If only the file orders.journal cannot be read, fieldpost begins a new one after `commands.max_life`, when all orders that it may contain have expired. To have orders at once, stop fieldpost, wait until all orders sent have expired, and delete it.",
	},
	{
		Code: OrderFlood, Severity: Warning, Concerns: []Concern{Orders},
		Title:   "too many orders are refused",
		Meaning: "So many orders are refused or repeated that their answers would crowd out readings. Most of these orders are only counted; answers with the reason `not_answered` say how many.",
		Cure:    "Look at these answers and find out who sends the orders.",
	},
	{
		Code: LedgerDamaged, Severity: Error, Concerns: []Concern{Orders},
		Title:   "ledger of orders was damaged",
		Meaning: "Entries in the ledger of orders could not be read. If one of those orders is sent again, it acts again.",
		Cure:    "Check the SD card.",
	},

	{
		Code: OpenToOthers, Severity: Error, Concerns: []Concern{Access},
		Title:   "open to other users",
		Meaning: "Another user of this machine can read the private key, or change files that fieldpost relies on: configuration, certificates, crash record or spool.",
		Cure:    "Run the command in the detail. Replace a key that others could read.",
	},
	{
		Code: HistoryUnsaved, Severity: Warning, Concerns: []Concern{History},
		Title:   "history cannot be stored",
		Meaning: "The past readings that are kept on this board for plots and exports cannot be written to disk, or those from before the start cannot be read. They are kept in memory. The readings that go to the broker are not concerned.",
		Cure:    "Free some space or replace the SD card. A restart before then leaves a gap in the history. If only the files history-1.journal and history-2.journal are bad, stop fieldpost and delete them.",
	},
	{
		Code: LocalUnavailable, Severity: Error, Concerns: []Concern{Socket},
		Title:   "cannot open the local socket",
		Meaning: "`fieldpost status`, `send` and `read` cannot reach this daemon. Everything else works.",
		Cure:    "See the detail. Perhaps another daemon is running (`pgrep -a fieldpost`), or the socket's directory belongs to somebody else.",
	},
	{
		Code: MetricsUnavailable, Severity: Warning, Concerns: []Concern{Socket},
		Title:   "cannot open the address for metrics",
		Meaning: "Nothing answers at the address in `local.metrics`. Everything else works, also /metrics on the unix socket.",
		Cure:    "See the detail. If another program uses the port, choose another one. An address that the network has yet to give is tried again twice a minute.",
	},
	{
		Code: PageUnavailable, Severity: Warning, Concerns: []Concern{Socket},
		Title:   "cannot open the address of the page",
		Meaning: "The page cannot be seen at the address in `local.listen`. Everything else works.",
		Cure:    "See the detail. If another program uses the port, choose another one. An address that the network has yet to give is tried again twice a minute.",
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

// Lookup returns the registered fault of a code. An unregistered code is a mistake in
// the program; Lookup then returns a fault that says so.
func Lookup(c Code) Fault {
	if f, ok := byCode[c]; ok {
		return *f
	}
	return Fault{Code: c, Severity: Error, Title: string(c), Meaning: "Unregistered fault.", Cure: "Report this as a bug in fieldpost."}
}

// Codes returns the codes of the faults with a concern, in the registry's order.
func Codes(about Concern) (codes []Code) {
	for _, f := range Faults {
		if slices.Contains(f.Concerns, about) {
			codes = append(codes, f.Code)
		}
	}
	return codes
}

// CureOf returns what to do about the fault at a place.
func (f Fault) CureOf(p Place) string { return cmp.Or(f.CureAt[p], f.Cure) }
