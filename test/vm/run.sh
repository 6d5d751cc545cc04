#!/bin/sh
# Builds two versions of the package, boots a virtual machine, and checks in it what the
# agent promises: `make test-vm`. The summary is kept in dist/vm-summary.txt.
#
# RUN, a regular expression, chooses checks; those that others build on always run.
# VM_CACHE (default ~/.cache/agentd-vm) keeps images; KEEP=1 keeps disk, TPM and console.
set -eu
cd "$(dirname "$0")/../.."
: "${GO:=go}" "${VM_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/agentd-vm}" "${RUN:=}" "${KEEP:=}"

if [ "$(uname -m)" != x86_64 ] || [ "$(id -u)" != 0 ]; then
	echo "test-vm: needs root on an x86-64 machine: the image's files get owners" >&2
	exit 1
fi
scripts/setup.sh vm
work=$(mktemp -d /var/tmp/agentd-vm.XXXXXX)
cleanup() { if [ -n "$KEEP" ]; then echo "test-vm: kept $work"; else rm -rf "$work"; fi; }
trap cleanup EXIT
trap 'exit 1' INT TERM
mkdir -p "$work/packages" "$work/bin" "$work/run" "$VM_CACHE" dist

version=$(sed -n 's/^const Version = "\(.*\)"$/\1/p' internal/version/version.go)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)
export SOURCE_DATE_EPOCH
# The same programs under two versions: what is tested is the upgrade.
for p in "old:$version~vm1" "new:$version~vm2"; do
	VERSION=${p#*:} packaging/build.sh "$work/${p%%:*}" >/dev/null
	mv "$work/${p%%:*}"/*.deb "$work/packages/${p%%:*}.deb"
done
for p in ./cmd/agentctl:agentctl ./test/vm/guest:guest ./test/vm/host:host; do
	CGO_ENABLED=0 "$GO" build -trimpath -buildvcs=false -ldflags=-buildid= -o "$work/bin/${p##*:}" "${p%%:*}"
done
nice -n 10 "$work/bin/host" -cache "$VM_CACHE" -packages "$work/packages" -agentctl "$work/bin/agentctl" -guest "$work/bin/guest" \
	-work "$work/run" -summary dist/vm-summary.txt -run "$RUN"
