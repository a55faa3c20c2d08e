#!/usr/bin/env bash
# build.sh OUT BINDIR: packages for all boards, from bin/cross's binaries
#
# Makes OUT/*.deb and *.rpm, OUT/SHA256SUMS and one SBOM (CycloneDX) for each binary. There are
# two packages: fieldpost, and fieldpost-provision, which has the AWS SDK and is of no use to
# most boards. The same commit gives the same bytes: all times are the commit's, all owners root.
#
# environment: VERSION as `git describe` prints it, SOURCE_DATE_EPOCH in seconds, GO;
# PROGRAMS=fieldpost makes that package only;
# PACKAGES="deb:amd64 ..." chooses some
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(realpath "$HERE/../..")
: "${PROGRAMS:=fieldpost fieldpost-provision}"
: "${VERSION:?}" "${SOURCE_DATE_EPOCH:?}" "${GO:=go}"
: "${NFPM:=$GO run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2}"
: "${SBOM:=$GO run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0}"
# armhf is built for ARMv6: Raspberry Pi OS calls a Pi Zero's packages armhf as well as
# Debian a Pi 2's, and apt cannot tell the two apart.
: "${PACKAGES:=deb:armhf:armv6 deb:arm64 deb:amd64 deb:riscv64 rpm:armhf:armv6 rpm:arm64 rpm:amd64 rpm:riscv64}"
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC0

[ $# -eq 2 ] || { echo "usage: $0 OUT BINDIR" >&2; exit 2; }
OUT=$(mkdir -p "$1" && realpath "$1")
BINDIR=$(realpath "$2")

# package_version: v0.2.0 -> 0.2.0; v0.2.0-5-gabc1234 -> 0.2.0+5.abc1234, which is later;
# no tag yet: 0.0.0+git.abc1234
package_version() {
	local v=${1%-dirty}
	case $v in
	v[0-9]*-*-g*) echo "$v" | sed -E 's/^v(.*)-([0-9]+)-g([0-9a-f]+)$/\1+\2.\3/' ;;
	v[0-9]*) echo "${v#v}" ;;
	*) echo "0.0.0+git.$v" ;;
	esac
}

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
PACKAGE_VERSION=$(package_version "$VERSION")

# generated_fieldpost-provision DIR: the manual page of fieldpost-provision
generated_fieldpost-provision() {
	mkdir -p "$1/usr/share/man/man1"
	(cd "$REPO" && $GO run -tags man ./cmd/fieldpost-provision man "$1/usr/share/man/man1")
	gzip -9n "$1"/usr/share/man/man1/*
}

# generated_fieldpost DIR: the manual pages and completions, written by the program itself
generated_fieldpost() {
	local shell to
	mkdir -p "$1/usr/share/man/man1"
	(cd "$REPO" && $GO run -tags man ./cmd/fieldpost man "$1/usr/share/man/man1")
	gzip -9n "$1"/usr/share/man/man1/*
	for shell in bash:bash-completion/completions/fieldpost zsh:zsh/vendor-completions/_fieldpost fish:fish/vendor_completions.d/fieldpost.fish; do
		to=$1/usr/share/${shell#*:}
		mkdir -p "$(dirname "$to")"
		(cd "$REPO" && $GO run ./cmd/fieldpost completion "${shell%%:*}") >"$to"
	done
}

# tree_fieldpost DIR BINARY: what `make install` installs, and the documents
tree_fieldpost() {
	local to=$1 doc
	make -s -C "$REPO" install "DESTDIR=$to" "BINARY=$2"
	mkdir -p "$to/usr/share/doc/fieldpost/examples"
	cp "$REPO"/deploy/metrics/* "$to/usr/share/doc/fieldpost/examples/"
	cp -r "$WORK/generated-fieldpost/usr/share" "$to/usr/"
	doc=$to/usr/share/doc/fieldpost
	mkdir -p "$doc/examples"
	install -m 0644 "$HERE/copyright" "$REPO/README.md" "$doc/"
	changelog fieldpost | gzip -9n >"$doc/changelog.gz"
	install -m 0644 "$REPO"/configs/*.yaml "$doc/examples/"
	install -D -m 0644 "$HERE/lintian-overrides" "$to/usr/share/lintian/overrides/fieldpost"
	chmod -R u=rwX,go=rX "$to"
}

# tree_fieldpost-provision DIR BINARY: a binary and its documents
tree_fieldpost-provision() {
	local to=$1 doc
	install -D -m 0755 "$2" "$to/usr/bin/fieldpost-provision"
	cp -r "$WORK/generated-fieldpost-provision/usr/share" "$to/usr/"
	doc=$to/usr/share/doc/fieldpost-provision
	mkdir -p "$doc"
	install -m 0644 "$HERE/copyright" "$doc/"
	changelog fieldpost-provision | gzip -9n >"$doc/changelog.gz"
	mkdir -p "$to/usr/share/lintian/overrides"
	echo 'fieldpost-provision: statically-linked-binary [usr/bin/fieldpost-provision]' >"$to/usr/share/lintian/overrides/fieldpost-provision"
	chmod -R u=rwX,go=rX "$to"
}

# for_rpm TREE: what Fedora and openSUSE look for in another place than Debian
for_rpm() {
	local zsh=$1/usr/share/zsh
	rm -r "$1/usr/share/lintian"
	[ ! -d "$zsh" ] || mv "$zsh/vendor-completions" "$zsh/site-functions"
}

# changelog PACKAGE: in Debian's form, with CHANGELOG.md as the place of the words
changelog() {
	printf '%s (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md of the source.\n\n -- fieldpost developers <fieldpost@localhost.invalid>  %s\n' \
		"$1" "$PACKAGE_VERSION" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

# package CONFIG FORMAT TREE: one package with nfpm, for the machine $name; in this folder, from
# where the configuration names the scripts
package() {
	# shellcheck disable=SC2086  # words
	(cd "$HERE" && ARCH=$name PACKAGE_VERSION=$PACKAGE_VERSION TREE=$3 \
		$NFPM package --config "$1" --packager "$2" --target "$OUT/") >"$WORK/nfpm.log" 2>&1 || { cat "$WORK/nfpm.log" >&2; exit 1; }
}

for program in $PROGRAMS; do "generated_$program" "$WORK/generated-$program"; done
rm -f "$OUT"/fieldpost_* "$OUT"/fieldpost-provision_* "$OUT"/fieldpost-*.rpm "$OUT/SHA256SUMS"
for package in $PACKAGES; do
	IFS=: read -r format arch cpu <<<"$package"
	# nfpm has Go's names of the machines, and translates them for each format
	name=$arch
	[ "$arch" != armhf ] || name=arm6
	[ "$format:$arch" != deb:armhf ] || name=armhf
	for program in $PROGRAMS; do
		binary=$BINDIR/$program-linux-${cpu:-$arch}
		[ -x "$binary" ] || { echo "$binary is not there: make cross" >&2; exit 1; }
		tree=$WORK/$program-$format-$arch
		"tree_$program" "$tree" "$binary"
		[ "$format" != rpm ] || for_rpm "$tree"
		package "nfpm-$program.yaml" "$format" "$tree"
	done
done
# what a binary was made of, read out of the binary itself
for binary in $(for program in $PROGRAMS; do echo "$BINDIR/$program"-linux-*; done); do
	program=${binary##*/}
	sbom=$OUT/${program%-linux-*}_${PACKAGE_VERSION}_${binary##*-}.cdx.json
	$SBOM bin -json -noserial -version "$PACKAGE_VERSION" -output "$sbom" "$binary" 2>"$WORK/sbom.log" || { cat "$WORK/sbom.log" >&2; exit 1; }
	sed -i -E "s/(\"timestamp\": )\"[^\"]*\"/\1\"$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)\"/" "$sbom"
done
(cd "$OUT" && sha256sum fieldpost* >SHA256SUMS)
cat "$OUT/SHA256SUMS"
