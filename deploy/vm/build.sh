# shellcheck shell=bash source=deploy/vm/lib.sh
# The parts of the test machine: tools, kernel, modules, guest, image.
# Sourced by boot.sh; each function does nothing when its part is there.

TOOLS=$WORK/tools
KERNEL=$WORK/kernel-arm64
GUEST=arm64
[ "$GUEST_SUITE" = "$SUITE" ] || GUEST=arm64-$GUEST_SUITE
ROOT=$WORK/rootfs-$GUEST
IMAGE=$WORK/img-$GUEST
CROSS=aarch64-linux-gnu-

# The test machine needs QEMU 10, kmod, e2fsprogs and the kernel's compilers, of
# the suite that the kernel comes from: they live in a tree of their own.
TOOL_PACKAGES="qemu-system-arm,gcc,gcc-aarch64-linux-gnu,make,kmod,e2fsprogs,cpio"
build_tools() {
	fresh "$TOOLS" "$TOOL_PACKAGES" && return
	say "building the tools"
	debstrap "$TOOLS" "$SUITE" --arch=amd64 --variant=essential --include="$TOOL_PACKAGES" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*'
	made "$TOOLS" "$TOOL_PACKAGES"
	rm -f "$KERNEL.ok" # its headers lived in the old tree
}

# tools COMMAND...: run it in that tree, with $WORK at the same path, in a mount
# namespace of its own, so that no mount is left behind whatever happens
tools() {
	mkdir -p "$TOOLS$WORK"
	# shellcheck disable=SC2016  # the inner shell's own arguments
	unshare -m --propagation private bash -c '
		mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"; mount --rbind "$2" "$1$2"
		t=$1; shift 2; exec chroot "$t" "$@"' tools "$TOOLS" "$WORK" "$@"
}

# Debian's kernel, its headers, and from its source the two files that make
# gpio-sim, which Debian's configuration leaves out.
build_kernel() {
	[ -e "$KERNEL.ok" ] && return
	local image version base source d
	image=$(foreign arm64 cache depends linux-image-arm64 | awk '/Depends: linux-image-/ {print $2; exit}')
	version=${image#linux-image-} base=${version%-arm64}
	source=$(foreign arm64 cache search --names-only '^linux-source-[0-9.]+$' | awk '{print $1; exit}')
	say "fetching kernel $version"
	rm -rf "$KERNEL" "$KERNEL.mods.ok"
	mkdir -p "$KERNEL/debs" "$KERNEL/mods"
	(
		cd "$KERNEL/debs" || exit
		foreign arm64 get -qq download "$image" "linux-headers-$version" "linux-headers-$base-common" "$source"
		foreign amd64 get -qq download "linux-kbuild-$base"
	)
	dpkg-deb -x "$KERNEL"/debs/linux-image-*.deb "$KERNEL/root"
	for d in "$KERNEL"/debs/linux-headers-*.deb "$KERNEL"/debs/linux-kbuild-*.deb; do dpkg-deb -x "$d" "$TOOLS"; done
	dpkg-deb --fsys-tarfile "$KERNEL"/debs/"$source"_*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
		tar -xJ -C "$KERNEL/mods" --strip-components=1 --wildcards '*/drivers/gpio/gpio-sim.c' '*/kernel/irq/irq_sim.c'
	mv "$KERNEL/mods/drivers/gpio/gpio-sim.c" "$KERNEL/mods/gpio-sim-main.c"
	# irq_to_desc is not exported to modules; generic_handle_irq_safe is
	sed -e 's/handle_simple_irq(irq_to_desc(irqnum));/generic_handle_irq_safe(irqnum);/' -e '/EXPORT_SYMBOL_GPL/d' \
		"$KERNEL/mods/kernel/irq/irq_sim.c" >"$KERNEL/mods/irq_sim.c"
	rm -rf "$KERNEL/debs"
	made "$KERNEL" "$version"
}

build_modules() {
	local k module tree
	VERSION=$(cat "$KERNEL.ok")
	k="$VERSION $(key "$HERE"/modules/*)"
	fresh "$KERNEL.mods" "$k" && return
	say "compiling the simulated hardware"
	cp "$HERE"/modules/* "$KERNEL/mods/"
	# without BTF, which would need pahole
	tools make -C "/usr/src/linux-headers-$VERSION" ARCH=arm64 "CROSS_COMPILE=$CROSS" CONFIG_DEBUG_INFO_BTF_MODULES= \
		"M=$KERNEL/mods" modules >"$KERNEL/make.log" 2>&1 || { tail -20 "$KERNEL/make.log" >&2 && die "compile the modules"; }
	tree=$KERNEL/root/usr/lib/modules/$VERSION
	mkdir -p "$tree/extra"
	for module in "$KERNEL"/mods/*.ko; do
		tools "${CROSS}strip" --strip-debug "$module"
		cp "$module" "$tree/extra/"
	done
	tools depmod -b "$KERNEL/root/usr" "$VERSION"
	made "$KERNEL.mods" "$k"
}

# The guest's packages are unpacked, and what their maintainer scripts would do
# is done here: run under emulation, they would take twenty times as long.
GUEST_PACKAGES="systemd,systemd-sysv,udev,dbus,kmod,procps,iproute2,busybox-static,jq,gpiod,adjtimex,mosquitto,mosquitto-clients,dpkg,socat,openssh-server,sudo"
ESSENTIAL="base-files,base-passwd,bash,coreutils,dash,diffutils,findutils,grep,gzip,hostname,libc-bin,passwd,mount,sed,tar,util-linux,mawk"
[ "$GUEST_SUITE" = bookworm ] || ESSENTIAL+=,login.defs
build_root() {
	fresh "$ROOT" "$GUEST_PACKAGES" && return
	say "building the guest"
	local merged=()
	# bookworm's packages still have /bin and /lib beside /usr
	[ "$GUEST_SUITE" != bookworm ] || merged=(--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr)
	debstrap "$ROOT" "$GUEST_SUITE" --arch=arm64 --variant=extract --include="$ESSENTIAL,$GUEST_PACKAGES" "${merged[@]}"
	cp "$ROOT/usr/share/base-passwd/passwd.master" "$ROOT/etc/passwd"
	cp "$ROOT/usr/share/base-passwd/group.master" "$ROOT/etc/group"
	sed 's/:.*/:*:19000:0:99999:7:::/' "$ROOT/etc/passwd" >"$ROOT/etc/shadow"
	sed 's/:.*/:*::/' "$ROOT/etc/group" >"$ROOT/etc/gshadow"
	chmod 640 "$ROOT/etc/shadow" "$ROOT/etc/gshadow"
	printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files\n' >"$ROOT/etc/nsswitch.conf"
	printf '127.0.0.1 localhost bench\n' >"$ROOT/etc/hosts"
	echo bench >"$ROOT/etc/hostname"
	echo 0123456789abcdef0123456789abcdef >"$ROOT/etc/machine-id"
	mkdir -p "$ROOT"/usr/local/{bin,sbin,lib,share} "$ROOT/opt" "$ROOT/srv"
	[ -e "$ROOT/usr/bin/awk" ] || ln -s mawk "$ROOT/usr/bin/awk"
	# users and groups that maintainer scripts make: sshd's, and in bookworm udev's
	{
		echo 'u sshd - - /run/sshd /usr/sbin/nologin'
		[ "$GUEST_SUITE" != bookworm ] || printf 'g %s -\n' input sgx kvm render
	} >"$ROOT/usr/lib/sysusers.d/test-machine.conf"
	systemd-sysusers --root="$ROOT" >>"$ROOT.log" 2>&1 || die "systemd-sysusers"
	rm -rf "$ROOT"/usr/share/{doc,man,locale,info}/* "$ROOT"/var/cache/* "$ROOT"/var/lib/apt/lists/*
	# dpkg knows of no package here, as none was configured; ours needs systemd
	printf 'Package: systemd\nStatus: install ok installed\nVersion: %s\nArchitecture: arm64\nMaintainer: none\nDescription: none\n' \
		"$(basename "$ROOT"/usr/lib/*/systemd/libsystemd-shared-*.so .so | sed 's/.*-//')" >"$ROOT/var/lib/dpkg/status"
	made "$ROOT" "$GUEST_PACKAGES"
}

# modfiles NAME...: the files of modules and of what they need, in order
modfiles() {
	# shellcheck disable=SC2016  # the inner shell's own arguments
	tools sh -c 'k=$1 v=$2; shift 2
		for m in "$@"; do modprobe -d "$k/root/usr" -S "$v" --show-depends "$m" 2>/dev/null; done; true' sh "$KERNEL" "$VERSION" "$@" |
		awk '$1 == "insmod" && !seen[$2]++ {print $2}'
}

# The modules that the two boards need to find their disks, and to make the root read-only.
DISK_MODULES="virtio_blk ext4 sdhci-iproc bcm2835 mmc_block overlay"

# The kernel's drivers of the sensors that the two boards have.
SENSOR_MODULES="lm75 jc42 tmp421 emc1403 ti-ads1015 bh1750 bmp280-i2c dps310 maxim_thermocouple w1_therm bcm2835_thermal"

# install_modules TREE: only those that the machines and the tests use
install_modules() {
	local base=$KERNEL/root/usr/lib/modules/$VERSION to=$1/usr/lib/modules/$VERSION f
	# shellcheck disable=SC2086  # words
	modfiles $DISK_MODULES virtio_rng virtio_net configfs autofs4 i2c-dev gpio-sim i2c-sim w1-sim spi-sim pwm-sim dht-sim $SENSOR_MODULES \
		i6300esb dwc2 usb-storage sd_mod i2c-bcm2835 bcm2835-rng bcm2835_wdt | while read -r f; do
		install -D -m 0644 "$f" "$to/${f#"$base"/}"
	done
	cp "$base"/modules.builtin* "$base/modules.order" "$to/"
	# unpacking xz is slow under emulation
	find "$to" -name '*.ko.xz' -exec xz -d {} +
	tools depmod -b "$1/usr" "$VERSION"
}

# install_guest TREE: the files of guest/, and no unit that a machine without
# screen, login and first boot does not need
install_guest() {
	local units=$1/etc/systemd/system unit
	install -m 0755 "$HERE/guest/bench-run.sh" "$1/usr/local/sbin/bench-run"
	install -m 0755 "$HERE/guest/bench-hw.sh" "$1/usr/local/sbin/bench-hw"
	install -D -m 0644 -t "$units" "$HERE/guest/bench-run.service" "$HERE/guest/bench.target"
	ln -sf bench.target "$units/default.target"
	for unit in getty@tty1.service getty.target serial-getty@.service systemd-journal-catalog-update.service \
		systemd-update-done.service ldconfig.service systemd-binfmt.service systemd-pstore.service e2scrub_reap.service \
		e2scrub_all.timer dpkg-db-backup.timer systemd-firstboot.service systemd-hwdb-update.service systemd-rfkill.socket \
		sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount sys-fs-fuse-connections.mount \
		systemd-udev-load-credentials.service mosquitto.service; do
		ln -sf /dev/null "$units/$unit"
	done
}

# build_initrd TREE: loads what the root disk needs and switches to it
build_initrd() {
	local base=$KERNEL/root/usr/lib/modules/$VERSION initrd=$IMAGE/initrd f
	mkdir -p "$initrd"/{bin,mod,proc,sys,dev,mnt}
	cp "$ROOT/usr/bin/busybox" "$initrd/bin/"
	install -m 0755 "$HERE/guest/init.sh" "$initrd/init"
	# shellcheck disable=SC2086  # words
	modfiles $DISK_MODULES | while read -r f; do
		cp "$1/usr/lib/modules/$VERSION/$(realpath --relative-to="$base" "${f%.xz}")" "$initrd/mod/"
		basename "${f%.xz}" >>"$initrd/mod/order"
	done
	# shellcheck disable=SC2016  # the inner shell's own argument
	tools sh -c 'cd "$1" && find . | cpio -o -H newc --quiet | gzip -1 >"$1.gz"' sh "$initrd"
}

build_image() {
	local k tree=$IMAGE/root
	k="$(cat "$KERNEL.mods.ok") $(cat "$ROOT.ok") $(key "$HERE/build.sh" "$HERE"/guest/{bench-run.sh,bench-hw.sh,init.sh,bench-run.service,bench.target})"
	fresh "$IMAGE" "$k" && return
	say "building the image"
	rm -rf "$IMAGE" "$IMAGE.ok"
	mkdir -p "$IMAGE"
	cp -a "$ROOT" "$tree"
	install_modules "$tree"
	install_guest "$tree"
	build_initrd "$tree"
	cp "$KERNEL/root/boot/vmlinuz-$VERSION" "$IMAGE/kernel"
	cp "$KERNEL/root/usr/lib/linux-image-$VERSION/broadcom/bcm2837-rpi-3-b.dtb" "$IMAGE/"
	truncate -s 1G "$IMAGE/root.img" # sparse; a power of two, as an SD card must be
	tools mke2fs -q -F -t ext4 -O ^metadata_csum -d "$tree" -L ROOT "$IMAGE/root.img"
	rm -rf "$tree" "$IMAGE/initrd"
	made "$IMAGE" "$k"
	say "image: $(du -sm "$IMAGE" | cut -f1) MB"
}

build() {
	mkdir -p "$WORK"
	need mmdebstrap mmdebstrap unshare util-linux xz xz-utils systemd-sysusers systemd flock util-linux
	# one builder at a time
	exec 9>"$WORK/lock"
	flock 9
	build_tools
	build_kernel
	build_modules
	build_root
	build_image
	exec 9>&-
}
