# shellcheck shell=bash
# What the scripts of the test machine share: words, stamps, Debian's archive.

# shellcheck disable=SC2034  # used by those that source this
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Everything that is built lives here and is made again only when what it is
# made of has changed. It may be deleted at any time.
WORK=${WORK:-${XDG_CACHE_HOME:-$HOME/.cache}/fieldpost/vm}
SUITE=trixie # what Raspberry Pi OS is based on
# The guest may be of another suite than the kernel: bookworm has systemd 252.
GUEST_SUITE=${GUEST_SUITE:-$SUITE}

say() { printf '[%4ds] %s\n' "$SECONDS" "$*" >&2; }
die() {
	say "FAILED: $*"
	exit 1
}

# fresh THING KEY: was THING made of just this? made THING KEY: now it is
fresh() { [ -e "$1.ok" ] && [ "$(cat "$1.ok")" = "$2" ]; }
made() { printf '%s\n' "$2" >"$1.ok"; }
# key FILE...: one word for the contents of files
key() { cat "$@" | sha256sum | cut -c1-16; }

# need COMMAND PACKAGE ...: install what is missing on this machine
need() {
	local missing=()
	while [ $# -gt 0 ]; do
		command -v "$1" >/dev/null || missing+=("$2")
		shift 2
	done
	[ ${#missing[@]} -eq 0 ] && return
	say "installing on this machine: ${missing[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$WORK/apt.log" 2>&1 ||
		{ tail -5 "$WORK/apt.log" >&2 && die "install ${missing[*]}"; }
}

# mirror: this machine's own source of Debian packages; only the suite differs
mirror() {
	local codename
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016  # apt's placeholders, not the shell's
	apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
		awk -v c="$codename" '$2 == "Debian" && $3 == c && $4 == "main" {print $1; exit}'
}

# foreign ARCH get|cache ARG...: apt for another suite and architecture, with
# a state of its own, so that this machine's packages stay as they are
foreign() {
	local arch=$1 tool=$2 state=$WORK/apt-$SUITE-$1 options
	shift 2
	if [ ! -e "$state/ready" ]; then
		mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
		echo "deb [arch=$arch signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $SUITE main" >"$state/sources.list"
		options=(-o "APT::Architecture=$arch" -o "APT::Architectures::=$arch" -o "Dir::Etc::sourcelist=$state/sources.list"
			-o Dir::Etc::sourceparts=- -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache"
			-o Dir::State::status=/dev/null -o Acquire::Languages=none -o APT::Sandbox::User=root)
		apt-get "${options[@]}" -qq update
		printf '%s\n' "${options[@]}" >"$state/opts"
		touch "$state/ready"
	fi
	mapfile -t options <"$state/opts"
	"apt-$tool" "${options[@]}" "$@"
}

# debstrap DIR SUITE ARG...: a tree of Debian packages
debstrap() {
	local dir=$1 suite=$2
	shift 2
	rm -rf "$dir" "$dir.ok"
	mmdebstrap "$@" "$suite" "$dir" "deb $(mirror) $suite main" >"$dir.log" 2>&1 ||
		{ tail -5 "$dir.log" >&2 && die "mmdebstrap $dir"; }
	say "$(basename "$dir"): $(du -sm "$dir" | cut -f1) MB"
}
