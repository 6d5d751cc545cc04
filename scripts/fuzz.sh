#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs each fuzz target of the module for FUZZTIME, a number of inputs such as 200000x. A
# time such as 10m works too, but then go test sometimes fails with only "context deadline
# exceeded", when the time ends between two of its steps. The minimizing of interesting
# inputs is limited: otherwise it would use up the time of a short run.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}" "${FUZZTIME:=200000x}"

out=$(mktemp)
trap 'rm -f "$out"' EXIT
n=0
bad=0
for package in $("$GO" list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	for target in $("$GO" test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		n=$((n + 1))
		if "$GO" test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 10x "$package" >"$out" 2>&1; then
			echo "ok   ${package#github.com/cvm-agentd/agentd/} $target: $(grep -o 'execs: [0-9]*' "$out" | tail -n 1)"
		else
			bad=$((bad + 1))
			echo "FAIL ${package#github.com/cvm-agentd/agentd/} $target"
			cat "$out"
		fi
	done
done
if [ "$n" = 0 ]; then
	echo "fuzz: no targets found: the list of packages is wrong"
	exit 1
fi
echo "fuzz: $n targets, $bad failed"
[ "$bad" = 0 ]
