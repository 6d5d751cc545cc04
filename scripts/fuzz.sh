#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs each fuzz target of the module for FUZZTIME, a number of inputs such as 200000x. A
# time such as 10m works too, but then a target sometimes fails with only "context deadline
# exceeded", when the time ends between two of its steps. The minimizing of interesting
# inputs is limited: otherwise it would use up the time of a short run.
#
# The tests of a package are built once for all of its targets. As many targets run side by
# side as there are processors.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}" "${FUZZTIME:=200000x}"
tab=$(printf '\t')

# What this script has itself called for: a package, or a target, by its line in a list.
case "${1:-}" in
build | run)
	work=$2
	IFS=$tab read -r package dir target <<LINE
$(sed -n "$3p" "$work/$1")
LINE
	short=${package#github.com/cvm-agentd/agentd/}
	binary=$work/$(echo "$package" | tr / -).test
	;;
esac
case "${1:-}" in
build)
	"$GO" test -c -fuzz . -o "$binary" "$package" >"$binary.out" 2>&1 || {
		echo "FAIL $short: it does not build"
		cat "$binary.out"
	}
	exit 0
	;;
run)
	out=$work/$3.out
	if (cd "$dir" && "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$FUZZTIME" -test.fuzzminimizetime 10x \
		-test.fuzzcachedir "$("$GO" env GOCACHE)/fuzz/$package" -test.parallel 1) >"$out" 2>&1; then
		echo "ok   $short $target: $(grep -o 'execs: [0-9]*' "$out" | tail -n 1)" | tee -a "$work/passed"
	else
		echo "FAIL $short $target"
		cat "$out"
	fi
	exit 0
	;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# By the files: to list the targets, go test would link the tests of each package.
"$GO" list -f '{{range .TestGoFiles}}{{$.ImportPath}}{{"\t"}}{{$.Dir}}{{"\t"}}{{.}}{{"\n"}}{{end}}' ./... >"$work/files"
"$GO" list -f '{{range .XTestGoFiles}}{{$.ImportPath}}{{"\t"}}{{$.Dir}}{{"\t"}}{{.}}{{"\n"}}{{end}}' ./... >>"$work/files"
awk -F '\t' '{
	file = $2 "/" $3
	while ((getline line <file) > 0)
		if (match(line, /^func Fuzz[A-Za-z0-9_]*\(/)) print $1 "\t" $2 "\t" substr(line, 6, RLENGTH - 6)
	close(file)
}' "$work/files" | sort >"$work/run"
cut -f 1,2 "$work/run" | uniq >"$work/build"
n=$(wc -l <"$work/run")
if [ "$n" = 0 ]; then
	echo "fuzz: no targets found: the list of packages is wrong"
	exit 1
fi
: >"$work/passed"
export GO FUZZTIME
seq "$(wc -l <"$work/build")" | xargs -P "$(nproc)" -n 1 "scripts/fuzz.sh" build "$work"
seq "$n" | xargs -P "$(nproc)" -n 1 "scripts/fuzz.sh" run "$work"
bad=$((n - $(wc -l <"$work/passed")))
echo "fuzz: $n targets, $bad failed"
[ "$bad" = 0 ]
