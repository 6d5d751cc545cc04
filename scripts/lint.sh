#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What can be said of the source without running it.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}"

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "not as gofmt writes it:"
	echo "$unformatted"
	exit 1
fi
for module in . test/interop tools; do
	(cd $module && "$GO" vet ./... && "$GO" mod tidy -diff)
done
"$GO" test ./internal/archtest
if command -v shellcheck >/dev/null 2>&1; then
	shellcheck scripts/*.sh packaging/*.sh packaging/deb/* test/vm/*.sh test/vm/image/*.sh .ci/run
	shellcheck -s sh packaging/rpm/*
else
	echo "lint: shellcheck is not installed: scripts were not looked at"
fi
echo "lint: ok"
