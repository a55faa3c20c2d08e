#!/usr/bin/env bash
# run.sh, in the test machine, for trial.sh: makes of it a board that can be reached by SSH, with
# a user who may use sudo, a BME280, 28 lines and two wires. It ends when /run/trial.over is
# there. The checks reboot the machine once; then this runs again.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

first_boot() {
	local pam
	echo trial-board >/etc/hostname
	echo '127.0.1.1 trial-board' >>/etc/hosts
	useradd -m -s /bin/bash -p '*' pi # no password, but not locked
	install -d -o pi -g pi -m 0700 /home/pi/.ssh
	install -o pi -g pi -m 0600 key.pub /home/pi/.ssh/authorized_keys
	install -m 0440 /dev/stdin /etc/sudoers.d/pi <<<'pi ALL=(ALL) NOPASSWD:ALL'
	# what maintainer scripts would have made
	for pam in auth account password session session-noninteractive; do
		echo "${pam%-*} required pam_permit.so" >/etc/pam.d/common-$pam
	done
	install -m 0600 host.key /etc/ssh/ssh_host_ed25519_key
	install -D -m 0755 -t /usr/local/lib/trial wires.sh
	cat >/etc/systemd/system/trial-wires.service <<-'U'
		[Unit]
		Before=fieldpost-hw-recorder-boot.service fieldpost.service
		[Service]
		Type=notify
		NotifyAccess=all
		ExecStart=/usr/local/lib/trial/wires.sh
		[Install]
		WantedBy=multi-user.target
	U
	systemctl daemon-reload
	systemctl enable -q --now trial-wires.service || exit 1
}

network() {
	local interface
	modprobe virtio_net
	for interface in /sys/class/net/e*; do interface=${interface##*/}; done
	ip link set "$interface" up
	ip address replace 10.0.2.15/24 dev "$interface"
}

[ -e /etc/sudoers.d/pi ] || first_boot
hostname trial-board
adjtimex --status 0 --maxerror 0 --esterror 0
network
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
mkdir -p /run/sshd
# its own configuration would be made by a maintainer script
/usr/sbin/sshd -D -e -f /dev/null -o UsePAM=no -o HostKey=/etc/ssh/ssh_host_ed25519_key 2>out/sshd.log &
until [ -e /run/trial.over ]; do
	sleep 0.5
	kill -0 $! || exit 1
done
journalctl -b -o short-monotonic >out/journal.txt
exit 0
