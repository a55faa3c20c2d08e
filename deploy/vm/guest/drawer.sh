# shellcheck shell=bash
# "A first drawer" of sensors/README.md, as somebody does it who has these four things and a
# board, for run.sh. drawer.yaml is the README's own. Not here: config.txt, which is the
# firmware's; the DHT22's bits, which the kernel's driver decodes; the wires.

# in_the_drawer: an ADS1115 at 0x48 with 2.048 V at its input A0, one DS18B20, a DHT22
in_the_drawer() {
	cp "$REGS/regs_48" "$REGS/ones_48" /run/
	put 48 0 '\x40\x00\x85\x83\x80\x00\x7f\xff'
	printf '\x00\x00\x80\x00' | dd of="$REGS/ones_48" conv=notrunc status=none # its conversion is always over
	modprobe w1-sim probes=1
	modprobe dht-sim
	within 60 test -e /sys/bus/w1/devices/28-000000c0de00/features
	udevadm settle
}
out_of_the_drawer() {
	rmmod dht_sim w1_sim
	dd if=/run/regs_48 of="$REGS/regs_48" conv=notrunc status=none
	dd if=/run/ones_48 of="$REGS/ones_48" conv=notrunc status=none
}

# reads_here SENSOR WORDS: read prints them; no daemon runs, and no ./fieldpost.yaml is here
reads_here() { check "fieldpost read $1: $2" says "$2" at_home fieldpost read "$1"; }
at_home() { (cd / && as_fieldpost "$@"); }

# opens_the_tap: read --watch shows the contact closed, and open again. Without pull: up, because
# each request with it makes the simulated line high, whatever the contact does.
opens_the_tap() {
	local watching
	sed 's/pull: up, //' "$CONFIG" >/etc/fieldpost/tap.yaml
	as_fieldpost timeout 180 fieldpost read -c /etc/fieldpost/tap.yaml water --watch --every 100ms >/run/tap.txt 2>&1 &
	watching=$!
	check "fieldpost read water --watch begins with the contact open" within 60 shown_last 'active false'
	echo pull-down >"$LINES/sim_gpio12/pull"
	check "it shows it closed" within 60 shown_last 'active true'
	echo pull-up >"$LINES/sim_gpio12/pull"
	check "and open again" within 60 shown_last 'active false'
	kill "$watching"
	wait "$watching" 2>/dev/null
	rm /etc/fieldpost/tap.yaml
}
shown_last() { tail -n 1 /run/tap.txt | tee /dev/stderr | grep -qF "$1"; }

# meter N: N pulses, two thirds of a second apart, as fast as a meter may be here
meter() {
	local n
	for ((n = 1; n <= $1; n++)); do
		pulses 1 12 down up || return
		sleep 0.6
	done
}

drawer() {
	section "a first drawer, as sensors/README.md tells it"
	local begun=$SECONDS failures=${failed:?}
	systemctl stop "$UNIT"
	cp "$CONFIG" /run/before.yaml
	in_the_drawer
	check "scan runs" as_fieldpost_to /run/drawer.txt fieldpost scan
	check "it shows the DHT22" grep -F 'dht11@11' /run/drawer.txt
	check "the DS18B20" grep -F '28-000000c0de00' /run/drawer.txt
	check "the ADS1115" grep -E '0x48 .*ads1115' /run/drawer.txt
	# GPIO22 is the pump's here: systemd holds it while the unit is stopped
	sed "s/i2c-1,/i2c-$BUS,/; s/GPIO22/GPIO12/" drawer.yaml >"$CONFIG"
	echo pull-up >"$LINES/sim_gpio12/pull"
	reads_here air 'temperature 21.5 °C'
	echo 1 >/sys/module/dht_sim/parameters/lost
	reads_here air 'humidity 48.2 %'
	reads_here tank 'temperature 21 °C'
	reads_here soil 'voltage_0 2.048 V'
	opens_the_tap
	[ "$failed" != "$failures" ] || runs_the_drawer
	echo "# $((SECONDS - begun)) s from scan to all four at the broker"
	systemctl stop "$UNIT"
	cat /run/before.yaml >"$CONFIG"
	out_of_the_drawer
	check "the unit starts as before" timeout 100 systemctl start "$UNIT"
}

# runs_the_drawer: under the service, to the broker
runs_the_drawer() {
	local before
	before=$(last_run) # whose last messages may still come
	sed -i "s|{endpoint: .*}|{endpoint: 127.0.0.1:8883, certificate: certs/certificate.pem.crt}|; s|{topic: .*}|{topic: field/bench}|" "$CONFIG"
	check "check accepts it" as_fieldpost fieldpost check -c "$CONFIG"
	forget
	check "the service starts" timeout 100 systemctl start "$UNIT"
	reads "the air" air '.temperature == 21.5 and .humidity == 48.2'
	reads "the tank" tank '.temperature == 21'
	reads "the soil" soil '.voltage_0 == 2.048'
	reads "the meter, before it turns" water '.count == 0 and .volume == 0'
	follow_edges debounce_work_func
	check "the meter turns, three pulses" meter 3
	check "they are 30 litres" within 150 comes '.sensor == "water" and .count == 3 and .volume == 30'
	unfollow_edges
	same "no sensor has a fault" '' "$(new ".kind == \"fault\" and .state == \"raised\" and .run > $before and .sensor != \"ghost\"")"
}
