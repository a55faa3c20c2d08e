# shellcheck shell=bash
# The deb: installed, upgraded, removed, purged.

deb() { echo packages-v0.0."$1"/fieldpost_0.0."$1"_arm64.deb; }
version() { echo 0.0."$1"; }
dpkg_quietly() { DEBIAN_FRONTEND=noninteractive timeout 300 dpkg "$@" </dev/null; }
installed() { dpkg-query -W -f '${Status} ${Version}' fieldpost; }

install_package() {
	section "the package is installed"
	check "dpkg takes it" dpkg_quietly -i "$(deb 1)"
	same "it is whole" "install ok installed $(version 1)" "$(installed)"
	same "the service is not enabled" disabled "$(systemctl is-enabled "$UNIT")"
	same "and not started" inactive "$(systemctl is-active "$UNIT")"
	# shellcheck disable=SC2016  # the inner shell's own
	check "the user is there, in the groups of the devices" bash -c 'groups=" $(id -nG fieldpost) "; for g in gpio i2c spi dialout; do [[ $groups = *" $g "* ]] || exit; done'
}

upgrade_package() {
	section "the package is upgraded, with the pump on and mail waiting"
	local before run seq
	pump_on
	stop_broker
	run=$(last_run)
	seq=$(last_seq)
	check "readings wait" within 60 status_says ".link.connected == false and (.sensors[] | select(.name == \"$SENSOR\") | .seq > $((seq + 3)))"
	cp "$CONFIG" out/config.before
	before=$(pid)
	check "dpkg takes the next version, and asks nothing" dpkg_quietly -i "$(deb 2)"
	same "it is whole" "install ok installed $(version 2)" "$(installed)"
	went 22 "1 0" "upgraded"
	went 23 "1" "upgraded, active low"
	check "the service was restarted" restarted "$before"
	check "with the new binary" cmp /usr/bin/fieldpost "/proc/$(pid)/exe"
	same "it is still enabled" enabled "$(systemctl is-enabled "$UNIT")"
	check "the configuration is as it was edited" cmp "$CONFIG" out/config.before
	start_broker
	check "the mail that waited arrives" within 90 message ".sensor == \"$SENSOR\" and .run == $run and .seq > $((seq + 3))"
	same "no reading is missing" '[]' "$(missing)"
	check "the version before it is taken, too" dpkg_quietly -i "$(deb 1)"
	check "and starts" within 60 is_state active
}

remove_package() {
	section "the package is removed"
	check "the service runs" timeout 100 systemctl start "$UNIT"
	pump_on
	check "dpkg removes it" dpkg_quietly -r fieldpost
	same "the service ended" inactive "$(systemctl is-active "$UNIT")"
	# systemd forgets a unit that is gone, and lets go of its lines
	if kernel_keeps; then went 22 "1 0" "removed: made safe"; else went 22 "1 0 1" "removed: made safe, then let go"; fi
	check "the configuration stays" cmp "$CONFIG" out/config.before
	check "so does what is not delivered" test -n "$(ls -A /var/lib/fieldpost)"
	check "it can be installed again" dpkg_quietly -i "$(deb 2)"
	check "with the old configuration" cmp "$CONFIG" out/config.before
	check "and be purged" dpkg_quietly -P fieldpost
	check "nothing of it is left but the key and certificate" test ! -e /var/lib/fieldpost -a ! -e /run/fieldpost -a ! -e "$CONFIG" -a ! -e /usr/bin/fieldpost
	check "which are" test -s /etc/fieldpost/certs/private.pem.key
}
