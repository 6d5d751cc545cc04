#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every test of the repository. The last lines say what was skipped and why, and how
# many tests passed.
#
# FUZZTIME (default 10000x) is the number of inputs for each fuzz target.
set -u
cd "$(dirname "$0")/.." || exit 1
: "${GO:=go}" "${FUZZTIME:=10000x}"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

scripts/setup.sh test || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
failed=
step() { echo "== $*"; }
fail() { failed="$failed, $1"; }

"$GO" build -o "$work/report" ./test/report || exit 1

# A process that finds a data race writes it into a file, also if a test kills it afterwards. One
# that ends well waits for what its other threads still do, by default for a second: the tests start
# thousands of commands, whose threads end with them elsewhere.
export GORACE="log_path=$work/race atexit_sleep_ms=10"
raced() { ls "$work"/race.* >/dev/null 2>&1; }

# tests NAME PACKAGES ARGS...: runs go test, prints each package when it ends, then the output of
# what failed. If .ci/run allows it, what failed is run a second time (see test/README.md).
tests() {
	name=$1 packages=$2
	shift 2
	if [ -z "$packages" ]; then # go test would take those of this folder
		fail "$name: no packages"
		return
	fi
	# What passed is written down, and not what failed: on a full disk neither can be.
	# shellcheck disable=SC2086 # one argument for each package
	{ "$GO" test -json "$@" $packages 2>&1 && echo yes >"$work/$name.passed"; } |
		{ tee "$work/$name.json" && echo yes >"$work/$name.whole"; } | "$work/report" &&
		[ -s "$work/$name.passed" ] && [ -s "$work/$name.whole" ] && return
	if [ -n "${AGENTD_FAILED_ONCE:-}" ] && [ -s "$work/$name.whole" ] && ! raced &&
		"$work/report" -again "$AGENTD_FAILED_ONCE" "$work/$name.json" "$GO" test -json "$@"; then return; fi
	fail "$name"
}

step "formatting and vet"
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "gofmt would change:"
	echo "$unformatted"
	fail gofmt
fi
"$GO" vet ./... || fail vet
CGO_ENABLED=0 "$GO" build -o /dev/null ./... || fail "build without cgo"
CGO_ENABLED=0 GOARCH=arm64 "$GO" build -o /dev/null ./cmd/... || fail "build for arm64"

# The tests of whole commands start these. They contain the race detector, so a race in
# the daemon fails a test.
AGENTD_TEST_BINARIES=$work/bin
export AGENTD_TEST_BINARIES
mkdir "$AGENTD_TEST_BINARIES"
CGO_ENABLED=1 "$GO" build -race -o "$AGENTD_TEST_BINARIES/" ./cmd/... || fail "build with the race detector"

step "unit, integration and crash tests, with the race detector"
# The rules of the tree read sources, by which the detector learns nothing.
# What takes longest begins first: a processor would wait for it in the end.
CGO_ENABLED=1 tests module "$("$GO" list ./verify ./cmd/agentctl ./... | awk '!seen[$0]++' | grep -v -e /agentd/test/ -e /internal/archtest$)" -race -timeout 25m

step "what is cut short under the race detector: rules of the tree, whole crash matrix, every flipped byte"
tests whole "./internal/archtest ./agent/internal/ledger ./verify/..." -timeout 15m

step "scripts, load and other tests of whole commands"
tests commands "./test/scripts ./test/..." -timeout 25m

step "verifiers of other projects"
cd test/interop || exit 1
"$GO" vet ./... || fail "vet of test/interop"
tests interop ./... -timeout 10m
cd ../.. || exit 1

step "plugins of SPIRE"
cd spire || exit 1
"$GO" vet ./... || fail "vet of spire"
tests spire ./... -timeout 15m
cd .. || exit 1

step "metrics and example files, by the libraries of promtool"
cd test/prometheus || exit 1
"$GO" vet ./... || fail "vet of test/prometheus"
tests prometheus ./... -timeout 10m
cd ../.. || exit 1

step "each fuzz target, $FUZZTIME inputs"
FUZZTIME=$FUZZTIME scripts/fuzz.sh || fail fuzz

"$work/report" "$work"/*.json | tee "$work/summary"
# What is skipped is what this machine cannot do. A program that scripts/setup.sh does not
# install is a fault of that script.
grep -q '^skipped for want of: a program 0,' "$work/summary" || fail "the set-up: tests are skipped for want of a program"
if raced; then
	for f in "$work"/race.*; do
		echo "--- a data race, found by process ${f##*.}"
		cat "$f"
	done
	fail "a data race"
fi
if [ -n "$failed" ]; then
	echo "test: FAILED in${failed#,}"
	exit 1
fi
echo "test: ok"
