#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks what a change must pass before it is sent: formatting, vet, staticcheck, the rules
# of the source tree, and the tests that need neither a software TPM nor root. Takes three to
# five minutes when the build cache is warm. With the argument `sources`, no test runs.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}"
step() { echo "== $*"; }

step "formatting, vet, go.mod"
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "check: gofmt would change these files; run gofmt -w on them:" >&2
	echo "$unformatted" >&2
	exit 1
fi
for module in . service spire test/interop test/prometheus tools; do
	(cd $module && "$GO" vet ./... && "$GO" mod tidy -diff)
done

if command -v shellcheck >/dev/null 2>&1; then
	step "shellcheck"
	shellcheck scripts/*.sh packaging/*.sh packaging/deb/* test/vm/*.sh test/vm/image/*.sh .ci/run
	shellcheck -s sh packaging/rpm/*
else
	echo "check: shellcheck is not installed: the scripts are not checked (\`scripts/setup.sh check\` installs it)"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step "staticcheck, but not of service and spire: it would read databases and gRPC first, for minutes"
(cd tools && "$GO" build -o "$work/" honnef.co/go/tools/cmd/staticcheck)
"$work/staticcheck" ./...
(cd test/interop && "$work/staticcheck" ./...)
(cd test/prometheus && "$work/staticcheck" ./...)

if [ "${1:-}" = sources ]; then
	echo "check: ok, without the tests"
	exit 0
fi

step "rules of the tree and quick tests; make test runs the others"
"$GO" build -o "$work/report" ./test/report
AGENTD_TEST_WITHOUT_SWTPM=1
export AGENTD_TEST_WITHOUT_SWTPM
packages=$("$GO" list ./... | grep -Ev '/agentd/(test|bench)(/|$)')
failed=
# What passed is written down, and not what failed: on a full disk neither can be.
# shellcheck disable=SC2086 # one argument for each package
if ! { "$GO" test -json -short $packages ./test/report ./test/generate 2>&1 && echo yes >"$work/passed"; } |
	{ tee "$work/tests.json" && echo yes >"$work/whole"; } | "$work/report" ||
	! [ -s "$work/passed" ] || ! [ -s "$work/whole" ]; then
	failed=yes
fi
"$work/report" "$work/tests.json" | tail -n 1
if [ -n "$failed" ]; then
	# What failed is run a second time if .ci/run allows it (see test/README.md).
	[ -n "${AGENTD_FAILED_ONCE:-}" ] && [ -s "$work/whole" ] || exit 1
	"$work/report" -again "$AGENTD_FAILED_ONCE" "$work/tests.json" "$GO" test -json -short
fi
echo "check: ok"
