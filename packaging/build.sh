#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh OUT: builds the .deb and the .rpm into OUT. Two runs over the same sources
# with the same Go make the same bytes.
#
# VERSION overrides the version. The default is the version of the last tag, or the version
# of the source with the number of commits. SOURCE_DATE_EPOCH is the time in all files; the
# default is the time of the last commit.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}"
out=${1:?folder for the packages}
mkdir -p "$out"
out=$(cd "$out" && pwd)

source_version=$(sed -n 's/^const Version = "\(.*\)"$/\1/p' internal/version/version.go)
[ -n "$source_version" ] || { echo "package: no version in internal/version/version.go" >&2; exit 1; }
if [ -z "${VERSION:-}" ]; then
	if tag=$(git describe --tags --match 'v[0-9]*' 2>/dev/null); then
		# v1.2.3-4-gabcdef0, four commits after the tag, becomes 1.2.3+4.gabcdef0.
		VERSION=$(echo "${tag#v}" | sed 's/-\([0-9]*\)-g\([0-9a-f]*\)$/+\1.g\2/; s/-/~/')
	elif count=$(git rev-list --count HEAD 2>/dev/null); then
		VERSION="$source_version~r$count.g$(git rev-parse --short=12 HEAD)"
	else
		VERSION=$source_version
	fi
fi
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y internal/version/version.go)
fi
GOARCH=$("$GO" env GOARCH)
ARCH=$GOARCH
date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)
export VERSION SOURCE_DATE_EPOCH ARCH
export LC_ALL=C TZ=UTC
umask 022

# Inside the tree: so the names in the configuration do not depend on its place.
STAGE_RELATIVE=dist/stage
STAGE=$PWD/$STAGE_RELATIVE
export STAGE
rm -rf "$STAGE"
mkdir -p "$STAGE"

make -s build COMMANDS="agentd agentctl" OUT="$STAGE" LDFLAGS="-s -w -buildid=" GO="$GO"
(cd tools && "$GO" build -trimpath -o "$STAGE/" ./manpage ./notices github.com/goreleaser/nfpm/v2/cmd/nfpm)
"$STAGE/notices" ./cmd/agentd ./cmd/agentctl >"$STAGE/licenses"
{
	cat packaging/copyright
	sed -n '1d; s/^== /  /p' "$STAGE/licenses" # the first is our own
} >"$STAGE/copyright"
gzip -9n "$STAGE/licenses"

# page NAME SECTION TITLE ARGS...
page() {
	name=$1
	section=$2
	title=$3
	shift 3
	"$STAGE/manpage" -name "$name" -section "$section" -title "$title" -date "$date" -version "$source_version" \
		-see "agentd(8) agentctl(1) agentd-config.toml(5) agentd-apps.d(5)" "$@" >"$STAGE/$name.$section"
	gzip -9n "$STAGE/$name.$section"
}
# Manuals are made from the help, which programs for this machine print.
host=$(mktemp -d)
trap 'rm -rf "$host"' EXIT
if [ "$GOARCH" = "$("$GO" env GOHOSTARCH)" ]; then
	cp "$STAGE/agentd" "$STAGE/agentctl" "$host"
else
	GOARCH="" make -s build COMMANDS="agentd agentctl" OUT="$host" GO="$GO"
fi
page agentctl 1 "ask for evidence, verify it, and have applications measured" -program "$host/agentctl"
page agentd 8 "attestation agent for confidential virtual machines" -program "$host/agentd" -markdown packaging/agentd.8.md
page agentd-config.toml 5 "configuration of agentd" -markdown docs/configuration.md
page agentd-apps.d 5 "declarations of applications for agentd" -markdown docs/apps.md
for shell in bash zsh fish; do "$host/agentctl" completion $shell >"$STAGE/agentctl.$shell"; done

gzip -9nc CHANGELOG.md >"$STAGE/changelog.gz"
maintainer="agentd maintainers <maintainers@agentd.invalid>"
note="Built from the source of version $source_version; its CHANGELOG.md says what changed."
gzip -9n >"$STAGE/changelog.Debian.gz" <<CHANGELOG
agentd ($VERSION-1) unstable; urgency=medium

  * $note

 -- $maintainer  $(date -u -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')
CHANGELOG
cat >"$STAGE/changelog.yaml" <<YAML
- semver: $VERSION-1
  date: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  packager: $maintainer
  changes:
    - note: $note
YAML

sed "s|\${STAGE_RELATIVE}|$STAGE_RELATIVE|" packaging/nfpm.yaml >"$STAGE/rpm.yaml"
sed '/^changelog:/d; s/ type: doc,//' "$STAGE/rpm.yaml" >"$STAGE/deb.yaml"
for packager in deb rpm; do
	"$STAGE/nfpm" package --config "$STAGE/$packager.yaml" --packager $packager --target "$out/" >"$STAGE/nfpm.log" 2>&1 || {
		cat "$STAGE/nfpm.log" >&2
		exit 1
	}
done
rm -rf "$STAGE"
ls -l "$out"/agentd[-_]"$VERSION"*
