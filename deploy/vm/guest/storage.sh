# shellcheck shell=bash
# A read-only root with an overlay in memory, as Raspberry Pi OS makes it, and /var on tmpfs,
# for run.sh: where the spool must be, and what check says.

# overlay_root: the next boots have a read-only root, and the spool on a disk of its own
overlay_root() {
	section "the root becomes read-only, with an overlay in memory"
	systemctl stop "$UNIT"
	cp -a "/var/lib/$UNIT" state
	printf '%s\n' '/dev/vdb /payload ext4 defaults,nofail 0 0' \
		"/payload/state /var/lib/$UNIT none bind,nofail,x-systemd.requires-mounts-for=/payload 0 0" >>/etc/fstab
	touch /etc/bench-overlay
	before_reboot 4
	echo after_overlay >out/phase
	exit 100 # bench-run reboots
}

says_volatile() { as_fieldpost fieldpost check -c "$CONFIG" | grep -F "warning: spool.dir: " | grep -F "$1"; }

after_overlay() {
	section "the root is read-only"
	same "the root is an overlay" overlayfs "$(stat -f -c %T /)"
	after_boot "the boot with an overlay"
	check "check has nothing to say of a spool on a disk of its own" fails says_volatile ''
	true_clock
	check "orders work" order pump on --wait 30s
	section "the power is cut, with mail waiting and the root read-only"
	mail_waits
	before_reboot 5
	echo after_overlay_cut >out/phase
	sync -f out
	echo b >/proc/sysrq-trigger
	sleep 60
}

after_overlay_cut() {
	section "the power is back, with the root read-only"
	local run
	run=$(cat out/run)
	same "the root is an overlay" overlayfs "$(stat -f -c %T /)"
	after_boot "power back, root read-only"
	mail_arrives "$run"

	section "the spool in memory: on the overlay, and with /var on tmpfs"
	systemctl stop "$UNIT"
	sed -i "\\| /var/lib/$UNIT |d" /etc/fstab # a start of the unit would mount it again
	systemctl daemon-reload
	umount "/var/lib/$UNIT"
	same "the spool is on the overlay" overlayfs "$(stat -f -c %T "/var/lib/$UNIT")"
	volatile_spool "on an overlay whose changes are in memory"
	systemctl stop "$UNIT"
	mount -t tmpfs -o mode=0755 tmpfs /var/lib
	volatile_spool "in memory (tmpfs)"
	systemctl stop "$UNIT"
	umount -l /var/lib
	check "the unit starts on the overlay again" timeout 100 systemctl start "$UNIT"
}

# volatile_spool WORDS: everything works, and check, doctor and the journal say that it will not last
volatile_spool() {
	local at
	at=$(cursor)
	check "the unit starts" timeout 100 systemctl start "$UNIT"
	check "check says that the spool is $1" says_volatile "$1"
	check "so does the journal" within 60 logged_after "$at" "does not survive a power cut: it is $1"
	check "so does doctor" shows "$1" "$(as_fieldpost fieldpost doctor -c "$CONFIG" 2>&1)"
	true_clock
	check "orders work" within 60 order pump off --wait 30s
}
