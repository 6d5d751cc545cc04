#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds two versions of the packages, boots a virtual machine, and checks the agent in it:
# `make test-vm`. With TEST=TestWalks, it types what the documents print: `make test-walks`. With
# TEST=TestContainers, it has podman and docker run containers: `make test-vm-containers`. With
# TEST=TestIMA, the kernel measures by itself: `make test-vm-ima`.
# What the checks say is kept in dist/vm-summary.txt (walks-summary.txt, containers-summary.txt,
# ima-summary.txt); its last lines are the results. If a check fails, the console of the machine is
# kept in dist/vm-console.log (vm-12-console.log, walks-console.log, containers-console.log,
# ima-console.log).
# If there are two processors, the checks of make test-vm run on two machines beside each other, and
# the console of the second is dist/vm-second-console.log.
#
# SUITE is the machine's Debian (test/vm/prepare.sh): `make test-vm-12` runs the same checks on
# an older systemd and an older kernel.
# RUN, a regular expression, selects checks; the checks that they need run too.
# VM_CACHE (default ~/.cache/agentd-vm) keeps images; KEEP=1 keeps disk, TPM and console.
# After LIMIT seconds (default 50 minutes) everything is stopped, and the run fails.
set -eu
cd "$(dirname "$0")/../.."
: "${GO:=go}" "${SUITE:=trixie}" "${VM_CACHE:=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/agentd-vm}" "${RUN:=}" "${KEEP:=}" "${LIMIT:=3000}" "${TEST:=TestMachine}"
export VM_CACHE SUITE TEST
case $TEST-$SUITE in
TestWalks-*) name=walks ;;
TestContainers-bookworm) name=containers-12 ;;
TestContainers-*) name=containers ;;
TestIMA-bookworm) name=ima-12 ;;
TestIMA-*) name=ima ;;
*-bookworm) name=vm-12 ;;
*) name=vm ;;
esac
begin=$(date +%s)
# within COMMAND...: runs it, and stops it when the time is over.
within() {
	timeout "$((begin + LIMIT - $(date +%s)))" "$@" && return
	code=$?
	[ $code != 124 ] || echo "test-$name: FAILED: $LIMIT s are over in: $*" >&2
	return $code
}

base=$(within test/vm/prepare.sh)
work=$(mktemp -d /var/tmp/agentd-vm.XXXXXX)
# shellcheck disable=SC2317 # the trap calls it
cleanup() { if [ -n "$KEEP" ]; then echo "test-$name: kept $work"; else rm -rf "$work"; fi; }
trap cleanup EXIT
trap 'exit 1' INT TERM
mkdir -p "$work/packages" "$work/bin" "$work/run" dist

building=$(date +%s)
version=$(sed -n 's/^const Version = "\(.*\)"$/\1/p' internal/version/version.go)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)
export SOURCE_DATE_EPOCH
# The same programs with two versions: the test is about the upgrade. That of containers has none.
for p in "old:$version~vm1" "new:$version~vm2"; do
	[ "$TEST-${p%%:*}" != TestContainers-old ] || continue
	VERSION=${p#*:} within packaging/build.sh "$work/${p%%:*}" >/dev/null
	rm -r "$work/${p%%:*}/spire" "$work/${p%%:*}/verifier" # no check installs these
	mv "$work/${p%%:*}" "$work/packages/"
done
# A kernel that measures sees an upgrade by its programs: those of the newer packages get a byte more.
[ "$TEST" != TestIMA ] || for deb in "$work"/packages/new/*.deb; do
	dpkg-deb -R "$deb" "$work/deb"
	for f in usr/bin/agentctl usr/sbin/agentd; do
		[ ! -f "$work/deb/$f" ] || printf x >>"$work/deb/$f"
	done
	within dpkg-deb --root-owner-group -Zgzip -b "$work/deb" "$deb" >/dev/null
	rm -rf "$work/deb"
done
export CGO_ENABLED=0
mkdir -p "$work/packages/bin"
for p in ./cmd/agentctl:agentctl ./cmd/agentd-sim:agentd-sim ./test/vm/guest:guest; do
	within "$GO" build -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o "$work/bin/${p##*:}" "${p%%:*}"
done
cp "$work/bin/agentctl" "$work/bin/agentd-sim" "$work/packages/bin/"
within "$GO" test -c -trimpath -ldflags="-s -w" -o "$work/packages/bin/gate.test" ./internal/gate
within "$GO" test -c -o "$work/bin/host" ./test/vm/host
echo "test-$name: built packages and programs in $(($(date +%s) - building)) s"
# half HALF CONSOLE: runs the checks of a machine, or those of one half on a machine of its own.
half() {
	mkdir -p "$work/run$1"
	"$work/bin/host" -test.v -test.run "^$TEST\$" -suite "$SUITE" -cache "$VM_CACHE" -base "$base" -packages "$work/packages" -agentctl "$work/bin/agentctl" -guest "$work/bin/guest" \
		-work "$work/run$1" -console "dist/$2" -half "$1" -only "$RUN" -begin "$begin" -limit "${LIMIT}s"
}
{
	code=0 first='' second=''
	# An emulated machine uses one processor, so that two take less time than one.
	if [ "$TEST" = TestMachine ] && [ -z "$RUN" ] && [ "$(nproc)" -ge 2 ]; then
		first=first
		half second "$name-second-console.log" >"$work/second" 2>&1 &
		second=$!
		trap 'kill "$second"; exit 1' INT TERM
	fi
	half "$first" "$name-console.log" || code=$?
	if [ -n "$second" ]; then
		wait "$second" || code=1
		echo "test-$name: the second machine:"
		cat "$work/second"
	fi
	echo "$code" >"$work/code"
} 2>&1 | tee "dist/$name-summary.txt"
code=$(cat "$work/code")
[ "$code" != 0 ] || echo "test-$name: ok"
exit "$code"
