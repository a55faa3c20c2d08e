package health

// Code names a fault, in the journal, in messages and in the documentation.
type Code string

// The codes.
const (
	NoAnswer      Code = "no_answer"
	WrongAnswer   Code = "wrong_answer"
	BusStuck      Code = "bus_stuck"
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

// Fault describes one thing that can go wrong.
type Fault struct {
	Code  Code
	Title string // a few words
	Means string // one or two sentences: what it means
	Do    string // one or two sentences: what to do
	Error bool   // a person must act; otherwise fieldpost retries and it may pass
}

// Faults is the list of everything that can go wrong, in the order of the
// documentation.
var Faults = []Fault{
	{NoAnswer, "does not answer", "Nothing answers at the chip's address on its bus.", "Check its power and wiring, and the address in the configuration; `fieldpost read NAME` tries again at once.", false},
	{WrongAnswer, "answers wrongly", "Something answers, but it cannot be this chip or its values cannot be true.", "Check that the configured chip is the one that is wired, and look for loose contacts or long wires.", false},
	{BusStuck, "bus is stuck", "Transactions on the bus time out: a wire is shorted, or a chip holds the clock or data line.", "Power-cycle the chips on this bus; if it stays, unplug them one by one.", false},
	{Absent, "is not there", "The bus, line or file does not exist on this machine.", "Check its name in the configuration; on a Raspberry Pi enable I2C with `dtparam=i2c_arm=on` in config.txt.", true},
	{Denied, "may not be opened", "The system does not let this user open the device.", "Put the user fieldpost into the groups gpio and i2c and install the udev rule that comes with fieldpost.", true},
	{LineBusy, "line is held by somebody else", "Another program or a kernel driver has requested this line.", "Stop the other holder, or choose another pin.", true},
	{AddressOwned, "chip belongs to the kernel", "A driver of the kernel owns the chip's address (UU in i2cdetect), so it is left alone: its settings are the driver's.", "Read it through the kernel (/sys/class/hwmon), or take the driver away: remove its dtoverlay from config.txt and restart, or unbind it as the detail says.", true},
	{ReadFailed, "cannot be read", "Reading failed for a reason of the system's.", "See the detail in the journal.", false},
	{EdgesLost, "changed faster than can be followed", "The kernel's queue of edges was full, so some changes of the line were not seen.", "Raise the sensor's debounce, or look for a wire that picks up noise.", false},
	{Chatters, "input chatters", "The line changes more often than the sensor's max_edges allows. Its changes are counted, and told once a second with the last level.", "Look for an open wire, a bad contact or hum from the mains; set the sensor's pull and debounce. Where it is to change so often, raise its max_edges.", false},
	{OutputFailed, "output cannot be driven", "The line could not be requested or set.", "See the detail in the journal; orders for this output fail until it works.", true},
	{LevelMismatch, "line has another level than it was set to", "The level that the kernel reads back is not the one that was set.", "Look for a short, or for something else that drives this wire.", true},
	{LevelUnknown, "last level is not known", "What is stored of the output's level cannot be read, so it started at its safe level and not at its last one.", "Give it the level it should have; if it comes again, look at the card's health.", true},
	{LevelUnsaved, "levels cannot be stored", "The levels of outputs with initial: last cannot be written; after a restart such an output may start at an older one.", "Make room or replace the card.", true},

	{NetworkDown, "broker cannot be reached", "The broker's name cannot be resolved or nothing answers at its address.", "Check the network and broker.endpoint. Readings are kept meanwhile.", false},
	{IdleTimeout, "connection ends when nothing is sent", "A proxy, NAT or firewall on the way to the broker gives up connections on which nothing goes for a while. fieldpost pings more often because of that.", "Nothing, if it passes; otherwise raise that timeout.", false},
	{TLSTooOld, "broker's TLS is too old", "The broker offers no TLS version from 1.2 on, or no cipher that we take.", "Let the broker offer TLS 1.2 or 1.3.", true},
	{ServerUntrusted, "broker's certificate is not trusted", "The broker's certificate is not signed by a root in broker.ca, or is for another name.", "Check broker.endpoint and broker.ca.", true},
	{ClockWrong, "clock is wrong", "The broker's certificate is not valid at this machine's time.", "Let the clock synchronise: `timedatectl status`.", false},
	{CertificateRejected, "our certificate was rejected", "The broker ended the TLS handshake because of our certificate.", "Check that the certificate is active and registered with this broker, and not expired.", true},
	{CertificateUnusable, "certificate or key cannot be used", "The files of broker.ca, broker.certificate or broker.key cannot be read or do not belong together.", "See the detail in the journal; `fieldpost check` tells the same.", true},
	{CertificateExpiring, "certificate expires soon, or has expired", "Our certificate or the broker's root expires within 30 days, or has expired; a connection that stands goes on, the next one is refused.", "Put a new pair into place; it is used from the next connection on, which `fieldpost reconnect` makes.", true},
	{CertificateStuck, "certificate files cannot be read in time", "The disk does not give the files of broker.ca, broker.certificate and broker.key; those that were read before stay in use, and a renewed pair is not seen.", "Look at the disk that they are on: `dmesg`.", true},
	{ConnectRefused, "broker refused the connection", "TLS succeeded but the broker did not accept our CONNECT.", "On AWS IoT Core the certificate needs an active policy that allows iot:Connect for this client id.", true},
	{WillRefused, "broker refuses our will", "The broker takes our connection only without a will, so nobody says offline when this board is lost. Everything else goes on.", "On AWS IoT Core let the policy's condition on iot:ConnectAttributes allow LastWill; or set broker.will: none.", true},
	{SubscribeDenied, "subscription is denied", "The broker does not let us subscribe to the topic, so no orders come from it. Everything else goes on.", "On AWS IoT Core allow iot:Subscribe on the topic filter and iot:Receive on the topic.", true},
	{PublishDenied, "publishing is denied", "The broker does not let us publish to the topic; its mail is kept.", "On AWS IoT Core allow iot:Publish on the topic.", true},
	{NotDelivered, "broker acknowledges and does not deliver", "The broker acknowledged a message of ours and did not deliver it to us, although we are subscribed to its topic. It may deliver nothing to anybody: mosquitto and EMQX acknowledge what they deny.", "Check the broker's access rules for the topic; on AWS IoT Core allow iot:Receive on it. Where only reading it is denied to this board, or the broker gives no client its own messages, set broker.verify: none.", true},
	{NoAcknowledgement, "broker does not acknowledge", "Messages were sent but no acknowledgement came in time; the connection was made anew.", "A passing overload, or the broker discards what exceeds its rate.", false},
	{DuplicateClient, "another client uses our client id", "The broker ends our connections shortly after they are made, again and again.", "Give every client a client id of its own: broker.client_id.", true},

	{SpoolUnavailable, "spool cannot be written", "The disk is full, read-only or failing, or the directory was removed or replaced; readings are kept in memory only.", "Make room or replace the card. A power cut now would lose what is not yet delivered.", true},
	{SpoolFull, "spool is full", "The oldest readings were dropped to make room; a gap message says which.", "Raise spool.max_bytes, or mend the connection.", false},
	{SpoolDamaged, "spool was damaged", "Part of the spool could not be read and was set aside.", "Look at the card's health; the damaged files lie beside the spool.", true},
	{SafeUnrecorded, "safe levels could not be recorded", "The file that tells `fieldpost safe` which lines to drive after a crash could not be written.", "Check /run/fieldpost: owner fieldpost, mode 0750, not full.", true},
	{LedgerUnavailable, "orders cannot be recorded", "The ledger of orders cannot be read or written, so orders are refused but those to the safe level.", "Make room or replace the card. Where only the file orders.journal cannot be read, stop fieldpost, wait until all orders sent have expired, and remove it.", true},
	{OrderFlood, "more orders are refused than are answered", "So many orders come that are refused, or that came before, that their answers would crowd out readings; most are only counted, and answers with the reason not_answered tell how many.", "See these answers and find who sends the orders.", false},
	{LedgerDamaged, "ledger of orders was damaged", "Entries in the ledger of orders could not be read; an order among them that is sent again acts again.", "Look at the card's health.", true},

	{OpenToOthers, "open to other users", "Another user of this machine could read the private key, or change what fieldpost rests on: configuration, certificates, crash record or spool.", "Give the command that stands in the detail. A key that others could read is better replaced.", true},
	{LocalUnavailable, "local socket cannot be opened", "`fieldpost status`, `send` and `read` do not reach this daemon. Everything else goes on.", "See the detail: another daemon may run, `pgrep -a fieldpost`, or the socket's directory may not be ours.", true},
}

// Lookup gives the registered fault of a code. An unregistered code is a
// mistake in the program; it gives a fault that says so.
func Lookup(c Code) Fault {
	for _, f := range Faults {
		if f.Code == c {
			return f
		}
	}
	return Fault{Code: c, Title: string(c), Means: "Unregistered fault.", Do: "Report this as a bug of fieldpost.", Error: true}
}
