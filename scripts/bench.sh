#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every benchmark, and prints the machine that it ran on. A slow result does not fail.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}" "${BENCHTIME:=2s}"

scripts/setup.sh demo
scripts/setup.sh tunnel || echo "bench: without stunnel, tunnels are not measured"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build() {
	CGO_ENABLED=0 "$GO" build -trimpath -buildvcs=false -ldflags=-buildid= -o "$work/" "$@"
}
build -buildmode=pie ./cmd/agentd ./cmd/agentd-sim
build -buildmode=exe ./cmd/agentctl # without a loader: see the Makefile
AGENTD_TEST_BINARIES=$work
export AGENTD_TEST_BINARIES

echo "$(nproc) processors, load $(cut -d ' ' -f 1-3 /proc/loadavg), Linux $(uname -r), $("$GO" version), $(swtpm --version | head -n 1)"
for package in $("$GO" list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	if "$GO" test -list '^Benchmark' "$package" | grep -q '^Benchmark'; then
		"$GO" test -run '^$' -bench . -benchtime "$BENCHTIME" "$package"
	fi
done
echo "bench: done"
