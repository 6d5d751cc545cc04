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

# tests NAME ARGS...: runs go test, prints each package when it ends, then the output of
# what failed.
tests() {
	name=$1
	shift
	{ "$GO" test -json "$@" 2>&1 || echo "$name" >"$work/$name.broken"; } | tee "$work/$name.json" | "$work/report" ||
		echo "$name" >"$work/$name.broken"
	if [ -s "$work/$name.broken" ]; then fail "$name"; fi
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
# shellcheck disable=SC2046 # one argument for each package
CGO_ENABLED=1 tests module -race -timeout 25m $("$GO" list ./... | grep -v /agentd/test/)

step "what is cut short under the race detector: whole crash matrix, every flipped byte"
tests whole -timeout 15m ./agent/internal/ledger ./verify/...

step "scripts, load and other tests of whole commands"
tests commands -timeout 25m ./test/...

step "verifiers of other projects"
cd test/interop || exit 1
"$GO" vet ./... || fail "vet of test/interop"
tests interop -timeout 10m ./...
cd ../.. || exit 1

step "metrics and example files, by the libraries of promtool"
cd test/prometheus || exit 1
"$GO" vet ./... || fail "vet of test/prometheus"
tests prometheus -timeout 10m ./...
cd ../.. || exit 1

step "each fuzz target, $FUZZTIME inputs"
FUZZTIME=$FUZZTIME scripts/fuzz.sh || fail fuzz

"$work/report" "$work"/*.json | tee "$work/summary"
# What is skipped is what this machine cannot do. A program that scripts/setup.sh does not
# install is a fault of that script.
grep -q '^skipped for want of: a program 0,' "$work/summary" || fail "the set-up: tests are skipped for want of a program"
if [ -n "$failed" ]; then
	echo "test: FAILED in${failed#,}"
	exit 1
fi
echo "test: ok"
