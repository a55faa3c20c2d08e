# shellcheck shell=bash
# Installed as the README tells it, and started for the first time.

install_files() {
	section "installation of the files, as deploy/README.md tells it"
	tar -C tree -c . | tar -C / -x --no-same-owner --no-overwrite-dir
	check "systemd-sysusers makes the user" systemd-sysusers
	check "systemd-tmpfiles makes the folders" systemd-tmpfiles --create
	# udevadm control --reload would not look up groups that are new
	systemctl daemon-reload
	systemctl restart systemd-udevd systemd-modules-load
	udevadm trigger --settle
	install_certificates
}

install_certificates() {
	install -o root -g fieldpost -m 0640 certs/AmazonRootCA1.pem certs/certificate.pem.crt certs/private.pem.key /etc/fieldpost/certs/
}

installation() {
	install_package
	install_certificates
	hardware
	sed "s/@BUS@/$BUS/" fieldpost.yaml >"$CONFIG"
	installed_well
}

# installed_well: what the package should have made of the machine
installed_well() {
	same "a GPIO chip that was there before belongs to the group gpio" "root:gpio 660" "$(stat -c '%U:%G %a' /dev/gpiochip0)"
	same "so does one that comes later" "root:gpio 660" "$(stat -c '%U:%G %a' "/dev/$CHIP")"
	same "the I2C bus belongs to the group i2c" "root:i2c 660" "$(stat -c '%U:%G %a' "/dev/i2c-$BUS")"
	same "the certificates' folder is for fieldpost alone" "root:fieldpost 750" "$(stat -c '%U:%G %a' /etc/fieldpost/certs)"
	check "systemd finds nothing wrong with the unit" systemd-analyze verify --man=no "$UNIT.service"
	check "the configuration is accepted" as_fieldpost fieldpost check -c "$CONFIG"
	if keeps; then
		check "check has nothing to say of this systemd" fails says_lines_released
	else
		check "check says that this systemd releases the lines of a stopped unit" says_lines_released
	fi
	echo "# $(systemd-analyze security --no-pager "$UNIT.service" 2>/dev/null | tail -1)"
}

as_fieldpost() { setpriv --reuid fieldpost --regid fieldpost --init-groups "$@"; }

# hardware: makes it, or finds what was made at boot. The pump's and the fan's
# pulls are at the unsafe level, the heater's at the safe one: high, for it is
# active low.
hardware() {
	local made
	made=$(cat /run/bench-hw 2>/dev/null || bench-hw)
	eval "$made"
	export CHIP LINES BUS REGS
	watch_lines
	pull 22 up
	pull 23 up
	pull 24 up
}

first_start() {
	section "start"
	start_unit
	went 22 "1 0" "the first start, pull unsafe"
	went 23 "1" "the first start, active low, initial off, pull safe"
	runs_well
	pull 23 down # from here on every line's pull is unsafe
}

# start_unit: with a broker, for the first time
start_unit() {
	start_broker
	check "the broker listens" within 30 broker_listens
	start_watcher
	begin
	check "the unit is enabled and starts: READY has come" timeout 100 systemctl enable -q --now "$UNIT"
	is_state active || give_up "fieldpost does not start"
}

# runs_well: as the user and with the rights that it should have
runs_well() {
	same "it is active" active "$(systemctl is-active "$UNIT")"
	same "it started at the first try" 0 "$(property NRestarts)"
	same "it runs as fieldpost" fieldpost "$(stat -c %U "/proc/$(pid)")"
	same "it has no capabilities" 0000000000000000 "$(awk '/^CapPrm/ {print $2}' "/proc/$(pid)/status")"
	check "it has no /dev/mem" bash -c "! ls -l /proc/$(pid)/fd | grep -e /dev/mem -e /dev/gpiomem"
}
says_lines_released() { as_fieldpost fieldpost check -c "$CONFIG" | grep "releases the outputs' lines"; }
