#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pack.sh OUT: compiles the library, and writes it into OUT as a package that npm installs from its
# file: npm install ./agentd-0.1.0.tgz. It needs tsc. Two runs over the same sources with the same
# tsc make the same bytes.
#
# VERSION overrides the version, which is that of package.json. SOURCE_DATE_EPOCH is the time in all
# files; the default is the time of the last commit.
set -eu
out=${1:?folder for the package}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")"
export LC_ALL=C TZ=UTC
umask 022

version=${VERSION:-$(sed -n 's/^  "version": "\(.*\)",$/\1/p' package.json)}
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y package.json)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/package"
tsc -p . --outDir "$work/package/dist"
cp README.md ../../LICENSE "$work/package/"
# npm has no ~ in versions.
version=$(echo "$version" | sed 's/~/-/; s/~/./g')
sed "s/^  \"version\": \".*\",\$/  \"version\": \"$version\",/" package.json >"$work/package/package.json"
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --mode=u=rwX,go=rX \
	-cf - package | gzip -9n >"$out/agentd-$version.tgz"
