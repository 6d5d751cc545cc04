#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every test of the repository. The last lines say what was skipped and why.
#
# FUZZTIME (default 10000x) is how many inputs each fuzz target is given.
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

# tests NAME ARGS...: go test, showing each package as it ends and the output of what failed.
tests() {
	name=$1
	shift
	: >"$work/$name.broken"
	{ "$GO" test -json "$@" 2>&1 || echo "$name" >"$work/$name.broken"; } | tee "$work/$name.json" |
		jq -R -r --unbuffered 'fromjson? // {Action: "text", Output: (. + "\n")}
			| select(.Action == "text" or (.Test == null and .Action == "build-output") or (.Test == null and (.Action == "fail" or .Action == "pass")))
			| if .Output then .Output | rtrimstr("\n") else "\(if .Action == "pass" then "ok  " else "FAIL" end) \(.Package)  \(.Elapsed // 0)s" end'
	if [ -s "$work/$name.broken" ]; then
		jq -R -r -n '[inputs | fromjson?] | group_by([.Package, .Test])[]
			| select(any(.[]; .Action == "fail")) | .[] | select(.Action == "output") | .Output | rtrimstr("\n")' "$work/$name.json"
		fail "$name"
	fi
}

step "formatting and vet"
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "not as gofmt writes it:"
	echo "$unformatted"
	fail gofmt
fi
"$GO" vet ./... || fail vet
CGO_ENABLED=0 "$GO" build -o /dev/null ./... || fail "build without cgo"
CGO_ENABLED=0 GOARCH=arm64 "$GO" build -o /dev/null ./cmd/... || fail "build for arm64"

# What the tests of whole commands start: with the race detector inside, so that a race
# in the daemon ends a test.
AGENTD_TEST_BINARIES=$work/bin
export AGENTD_TEST_BINARIES
mkdir "$AGENTD_TEST_BINARIES"
CGO_ENABLED=1 "$GO" build -race -o "$AGENTD_TEST_BINARIES/" ./cmd/... || fail "build with the race detector"

step "unit, integration and crash tests, with the race detector"
# shellcheck disable=SC2046 # one argument for each package
CGO_ENABLED=1 tests module -race -timeout 25m $("$GO" list ./... | grep -v /agentd/test/)

step "what is cut short under the race detector: whole crash matrix, every flipped byte"
tests whole -timeout 15m ./agent/ledger ./verify

step "scripts, load and other tests of whole commands"
tests commands -timeout 25m ./test/...

step "other people's verifiers"
cd test/interop || exit 1
"$GO" vet ./... || fail "vet of test/interop"
tests interop -timeout 10m ./...
cd ../.. || exit 1

step "each fuzz target, $FUZZTIME inputs"
FUZZTIME=$FUZZTIME scripts/fuzz.sh || fail fuzz

echo
echo "what passing tests say of themselves:"
cat "$work"/*.json | jq -R -r -n '[inputs | fromjson? | select(.Test)] | group_by([.Package, .Test])[]
	| select((.[0].Test | contains("/") | not) and any(.[]; .Action == "pass"))
	| (.[0].Package | sub("github.com/cvm-agentd/agentd/"; "")) as $package | .[0].Test as $test
	| .[] | select(.Action == "output") | .Output | select(test("^ *[^ ]+_test.go:[0-9]+: "))
	| "  \($package) \($test): \(sub("^ *[^ ]+_test.go:[0-9]+: "; "") | rtrimstr("\n"))"'

echo
echo "skipped:"
cat "$work"/*.json | jq -R -r -n '[inputs | fromjson? | select(.Test)] | group_by([.Package, .Test])[]
	| select(any(.[]; .Action == "skip") and all(.[]; .Action != "pass")) # what a later step ran was not skipped
	| "  \(.[0].Package | sub("github.com/cvm-agentd/agentd/"; "")) \(.[0].Test): "
	  + ([.[] | select(.Action == "output") | .Output | select(test("^ *(===|---)") | not) | sub("^ *[^ ]+_test.go:[0-9]+: "; "") | gsub("\\s+"; " ") | sub("^ "; "") | rtrimstr(" ")] | join(" "))' >"$work/skipped"
if [ -s "$work/skipped" ]; then cat "$work/skipped"; else echo "  nothing"; fi

if [ -n "$failed" ]; then
	echo "test: FAILED in${failed#,}"
	exit 1
fi
echo "test: ok"
