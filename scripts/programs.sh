#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: programs.sh MODULE FOLDER PACKAGE...
# Builds programs of others, by the versions of a module of their own, once for each version of the
# first one and of Go, below FOLDER. It prints where they are.
set -eu
: "${GO:=go}"
module=$1 all=$2
shift 2
cd "$module"
version=$("$GO" list -f '{{.Module.Version}}' "$1")
programs=$all/$version-$("$GO" env GOVERSION)-$("$GO" env GOARCH)
if ! [ -d "$programs" ]; then
	echo "== building $* $version into $programs" >&2
	mkdir -p "$all"
	new=$(mktemp -d "$all/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	"$GO" build -o "$new/" "$@"
	mv "$new" "$programs"
fi
echo "$programs"
