#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the packages in this folder and in a copy of it, compares them byte by byte
# (case 81), and checks them as packages. Ends with "packages: ok".
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh package

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
VERSION=${VERSION:-$(sed -n 's/^const Version = "\(.*\)"$/\1/p' internal/version/version.go)~test}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)}
SIGN=
export VERSION SOURCE_DATE_EPOCH SIGN

packaging/build.sh "$work/first"
mkdir -p "$work/another/folder"
tar -c --exclude=./.git --exclude=./dist --exclude=./bin . | tar -x -m -C "$work/another/folder"
(cd "$work/another/folder" && packaging/build.sh "$work/second" >/dev/null)
for package in "$work"/first/*.* "$work"/first/clients/* "$work"/first/conformance/* "$work"/first/spire/* "$work"/first/verifier/*; do
	if ! cmp "$package" "$work/second/${package#"$work/first/"}"; then
		echo "FAIL  two builds differ"
		echo "packages: FAILED"
		exit 1
	fi
done
echo "ok    two builds in two folders: the same bytes"
packaging/check.sh "$work/first"
