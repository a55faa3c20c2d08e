#!/usr/bin/env bash
# build.sh OUT BINDIR: a container image of fieldpost for all boards, from bin/cross's binaries
#
# Makes OUT, an OCI image layout (https://github.com/opencontainers/image-spec, version 1.1), and
# OUT.tar, the same as one file for `podman load`, `docker load` and `skopeo copy`. An image is a
# few tar archives and texts with their hashes, so neither a daemon nor root is needed. All times
# are the commit's: the same commit gives the same bytes.
#
# environment: VERSION as `git describe` prints it, SOURCE_DATE_EPOCH in seconds;
# IMAGES="amd64 arm64 ..." chooses some
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${VERSION:?}" "${SOURCE_DATE_EPOCH:?}"
: "${IMAGES:=amd64 arm64 armv7 armv6 riscv64}"
export LC_ALL=C TZ=UTC0
umask 022

[ $# -eq 2 ] || { echo "usage: $0 OUT BINDIR" >&2; exit 2; }
OUT=$(mkdir -p "$(dirname "$1")" && realpath "$1")
BINDIR=$(realpath "$2")
CREATED=$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)
USER_ID=65532

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
LAYOUT=$WORK/layout
mkdir -p "$LAYOUT/blobs/sha256"

# archive OWNER TAR PATH...: adds files of the tree to a tar archive, as somebody's
archive() {
	local owner=$1 tar=$2
	shift 2
	tar --append --file "$tar" --directory "$TREE" --format=ustar --sort=name --no-recursion --numeric-owner \
		--owner="$owner" --group="$owner" --mtime="@$SOURCE_DATE_EPOCH" "$@"
}

# blob FILE: moves a file to its place and prints its digest
blob() {
	local sum
	sum=$(sha256sum "$1" | cut -d' ' -f1)
	mv "$1" "$LAYOUT/blobs/sha256/$sum"
	echo "sha256:$sum"
}

size() { stat -c %s "$LAYOUT/blobs/sha256/${1#sha256:}"; }

# layer CPU: the files; prints the digests of the archive and of the compressed archive
layer() {
	local tar=$WORK/layer.tar diff
	TREE=$WORK/tree
	rm -rf "$TREE" "$tar"
	mkdir -p "$TREE"/{data,dev,etc,proc,sys,tmp,usr/bin}
	install -m 0755 "$BINDIR/fieldpost-linux-$1" "$TREE/usr/bin/fieldpost"
	install -m 0644 "$HERE/passwd" "$HERE/group" "$TREE/etc/"
	chmod 1777 "$TREE/tmp"
	archive 0 "$tar" dev etc etc/group etc/passwd proc sys tmp usr usr/bin usr/bin/fieldpost
	archive $USER_ID "$tar" data
	diff=sha256:$(sha256sum "$tar" | cut -d' ' -f1)
	gzip -9n "$tar"
	echo "$diff $(blob "$tar.gz")"
}

# platform CPU: as the specification names it
platform() {
	case $1 in
	armv*) printf '"architecture":"arm","os":"linux","variant":"%s"' "${1#arm}" ;;
	*) printf '"architecture":"%s","os":"linux"' "$1" ;;
	esac
}

# manifest CPU: the image for one kind of machine; prints its entry of the index
manifest() {
	local digests config layer manifest at="\"created\":\"$CREATED\""
	[ -x "$BINDIR/fieldpost-linux-$1" ] || { echo "$BINDIR/fieldpost-linux-$1 is not there: make cross" >&2; exit 1; }
	digests=$(layer "$1")
	layer=${digests#* }
	printf '{%s,%s,"config":{"User":"%s:%s","WorkingDir":"/data","Env":["HOME=/data","PATH=/usr/bin"],"Entrypoint":["/usr/bin/fieldpost"],"Cmd":["help"],"Labels":{"org.opencontainers.image.title":"fieldpost","org.opencontainers.image.version":"%s","org.opencontainers.image.licenses":"Apache-2.0"}},"rootfs":{"type":"layers","diff_ids":["%s"]},"history":[{%s,"created_by":"deploy/image/build.sh"}]}\n' \
		"$at" "$(platform "$1")" $USER_ID $USER_ID "$VERSION" "${digests% *}" "$at" >"$WORK/config"
	config=$(blob "$WORK/config")
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":%s}]}\n' \
		"$config" "$(size "$config")" "$layer" "$(size "$layer")" >"$WORK/manifest"
	manifest=$(blob "$WORK/manifest")
	printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"platform":{%s}}' "$manifest" "$(size "$manifest")" "$(platform "$1")"
}

entries=
for cpu in $IMAGES; do
	entry=$(manifest "$cpu")
	entries=$entries${entries:+,}$entry
done
# The layout names an index of its own, so that one name stands for the images of all machines.
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}\n' "$entries" >"$WORK/index"
index=$(blob "$WORK/index")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}\n' \
	"$index" "$(size "$index")" "$VERSION" >"$LAYOUT/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$LAYOUT/oci-layout"

TREE=$LAYOUT
(cd "$LAYOUT" && find . -mindepth 1 -printf '%P\n' | sort) >"$WORK/files"
archive 0 "$WORK/layout.tar" --files-from="$WORK/files"
rm -rf "$OUT" "$OUT.tar"
mv "$LAYOUT" "$OUT"
mv "$WORK/layout.tar" "$OUT.tar"
echo "$OUT.tar $index ($IMAGES)"
