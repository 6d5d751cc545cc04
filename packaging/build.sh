#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh OUT: builds the .deb and the .rpm of agentd and of agentctl into OUT, and a
# tarball of agentctl for other systems. The client libraries go into OUT/clients: a .deb of
# that in Python, and, if tsc is installed, a package for npm of that in TypeScript. A tarball
# of agentd-conformance goes into OUT/conformance: no machine needs it. A .deb and a .rpm of the
# plugins of SPIRE go into OUT/spire, and those of agentd-verifier into OUT/verifier. Two runs over the same sources with the same Go and tsc make the
# same bytes.
#
# SIGN, a key of gpg, signs what was built: packaging/sign.sh says how.
# VERSION overrides the version. The default is the version of the last tag, or the version
# of the source with the number of commits. SOURCE_DATE_EPOCH is the time in all files; the
# default is the time of the last commit.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}"
out=${1:?folder for the packages}
mkdir -p "$out"
out=$(cd "$out" && pwd)
: "${SIGN:=}"

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

make -s build COMMANDS="agentd agentd-gate agentctl agentd-container agentd-conformance" OUT="$STAGE" LDFLAGS="-s -w -buildid=" GO="$GO"
make -s spire verifier OUT="$STAGE" LDFLAGS="-s -w -buildid=" GO="$GO"
(cd tools && "$GO" build -trimpath -o "$STAGE/" ./manpage ./notices github.com/goreleaser/nfpm/v2/cmd/nfpm)
"$STAGE/notices" ./cmd/agentd-conformance | gzip -9n >"$STAGE/licenses-agentd-conformance.gz"
for name in agentd agentctl agentd-spire agentd-verifier; do
	case $name in
	agentd-spire) module=spire ;;
	agentd-verifier) module=service ;;
	*) module=. ;;
	esac
	(cd $module && "$STAGE/notices" ./cmd/$name) >"$STAGE/licenses-$name"
	{
		cat packaging/copyright
		sed -n '1d; s/^== /  /p' "$STAGE/licenses-$name" # the first is our own
	} >"$STAGE/copyright-$name"
	gzip -9n "$STAGE/licenses-$name"
done

# page NAME SECTION TITLE ARGS...
page() {
	name=$1
	section=$2
	title=$3
	shift 3
	"$STAGE/manpage" -name "$name" -section "$section" -title "$title" -date "$date" -version "$source_version" \
		-see "$see" "$@" >"$STAGE/$name.$section"
	gzip -9n "$STAGE/$name.$section"
}
see="agentd(8) agentctl(1) agentd-config.toml(5) agentd-apps.d(5) agentd-policy(5)"
# Manuals are made from the help, which programs for this machine print.
host=$(mktemp -d)
trap 'rm -rf "$host"' EXIT
if [ "$GOARCH" = "$("$GO" env GOHOSTARCH)" ]; then
	cp "$STAGE/agentd" "$STAGE/agentctl" "$STAGE/agentd-verifier" "$host"
else
	GOARCH="" make -s build verifier COMMANDS="agentd agentctl" OUT="$host" GO="$GO"
fi
page agentctl 1 "ask for evidence, verify it, and have applications measured" -program "$host/agentctl" -commands
page agentd 8 "attestation agent for confidential virtual machines" -program "$host/agentd" -markdown packaging/agentd.8.md
page agentd-config.toml 5 "configuration of agentd" -markdown docs/configuration.md
page agentd-apps.d 5 "declarations of applications for agentd" -markdown docs/apps.md
page agentd-policy 5 "which evidence agentctl verify accepts" -markdown docs/policy.md
see="agentd-verifier(8) agentd-verifier-config.toml(5) agentctl(1) agentd-policy(5)"
page agentd-verifier 8 "verify the evidence of confidential virtual machines for others" -program "$host/agentd-verifier" -markdown packaging/verifier/agentd-verifier.8.md
sed -n '/^## Configuration$/,/^## Administrators$/{/^## /!p}' docs/verifier-service.md >"$host/configuration.md"
page agentd-verifier-config.toml 5 "configuration of agentd-verifier" -markdown "$host/configuration.md"
for shell in bash zsh fish; do "$host/agentctl" completion $shell >"$STAGE/agentctl.$shell"; done

gzip -9nc CHANGELOG.md >"$STAGE/changelog.gz"
maintainer="agentd maintainers <maintainers@agentd.invalid>"
note="Built from the source of version $source_version; its CHANGELOG.md says what changed."
for name in agentd agentctl agentd-spire agentd-verifier python3-agentd; do
	gzip -9n >"$STAGE/changelog.Debian-$name.gz" <<CHANGELOG
$name ($VERSION-1) unstable; urgency=medium

  * $note

 -- $maintainer  $(date -u -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')
CHANGELOG
done
cat >"$STAGE/changelog.yaml" <<YAML
- semver: $VERSION-1
  date: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  packager: $maintainer
  changes:
    - note: $note
YAML

# The documents, as in the source. A link to what is not among them leads to the source.
home=$(sed -n 's/^homepage: //p' packaging/agentctl.yaml)
mkdir -p "$STAGE/doc/docs/example" "$STAGE/doc/docs/machines" "$STAGE/doc/schemas/agentctl"
for page in docs/*.md; do
	sed "s,](\.\./\([^)]*\)),]($home/blob/main/\1),g; s,](model/\([^)]*\)),]($home/blob/main/docs/model/\1),g" "$page" >"$STAGE/doc/$page"
done
for page in docs/machines/*.md; do
	sed "s,](\.\./\.\./\([^)]*\)),]($home/blob/main/\1),g" "$page" >"$STAGE/doc/$page"
done
cp docs/overview.svg "$STAGE/doc/docs/"
cp -r docs/example/evidence.json docs/example/test-root.pem docs/example/prometheus "$STAGE/doc/docs/example/"
cp api/openapi.json "$STAGE/doc/"
cp api/schemas/*.json "$STAGE/doc/schemas/"
cp api/schemas/agentctl/*.json "$STAGE/doc/schemas/agentctl/"
(cd "$STAGE/doc" && find . -type f | sort) | while read -r file; do
	echo "  - {src: \"$STAGE_RELATIVE/doc/${file#./}\", dst: \"/usr/share/doc/agentctl/${file#./}\", type: doc, file_info: {mode: 0644}}"
done >"$STAGE/documents"

sed "s,](\([a-z0-9-]*\.md\),]($home/blob/main/docs/\1,g" docs/spire.md >"$STAGE/spire.md"
mkdir -p "$STAGE/verifier"
for page in verifier-service service; do
	sed "s,](\.\./\([^)]*\)),]($home/blob/main/\1),g; s,](\([a-z0-9-]*\.md\),]($home/blob/main/docs/\1,g" docs/$page.md >"$STAGE/verifier/$page.md"
done

# The scripts, with what they share.
for script in deb/postinst deb/prerm deb/postrm rpm/post rpm/preun rpm/postun; do
	mkdir -p "$STAGE/scripts/${script%/*}"
	sed -e '/^#include dropins.sh$/{r packaging/dropins.sh' -e 'd}' packaging/$script >"$STAGE/scripts/$script"
done

mkdir -p "$out/spire" "$out/verifier"
for name in agentd agentctl agentd-spire agentd-verifier; do
	case $name in
	agentd-spire) target=$out/spire ;;
	agentd-verifier) target=$out/verifier ;;
	*) target=$out ;;
	esac
	sed "s|\${STAGE_RELATIVE}|$STAGE_RELATIVE|; /depends:/s|\${VERSION}|$VERSION|; /^# documents\$/{r $STAGE/documents
d}" packaging/$name.yaml >"$STAGE/$name-rpm.yaml"
	sed '/^changelog:/d; s/ type: doc,//' "$STAGE/$name-rpm.yaml" >"$STAGE/$name-deb.yaml"
	for packager in deb rpm; do
		"$STAGE/nfpm" package --config "$STAGE/$name-$packager.yaml" --packager $packager --target "$target/" >"$STAGE/nfpm.log" 2>&1 || {
			cat "$STAGE/nfpm.log" >&2
			exit 1
		}
	done
done

# The library in Python. Its version in the words of Python has no ~.
METADATA_VERSION=$(echo "$VERSION" | tr '~' '+')
sed '/^The programs are linked/,$d; s/ It also begins licenses.gz in this folder\.//' packaging/copyright >"$STAGE/copyright-python3-agentd"
sed "s,](\.\./\.\./\([^)]*\)),]($home/blob/main/\1),g" clients/python/README.md >"$STAGE/README-python3-agentd.md"
cat >"$STAGE/METADATA" <<METADATA
Metadata-Version: 2.1
Name: agentd
Version: $METADATA_VERSION
Summary: $(sed -n 's/^description = "\(.*\)"$/\1/p' clients/python/pyproject.toml)
License: Apache-2.0
Requires-Python: >=3.11
METADATA
for module in clients/python/agentd/*.py clients/python/agentd/py.typed; do
	echo "  - {src: $module, dst: /usr/lib/python3/dist-packages/agentd/${module##*/}, file_info: {mode: 0644}}"
done >"$STAGE/modules"
sed "s|\${METADATA_VERSION}|$METADATA_VERSION|; /^# modules\$/{r $STAGE/modules
d}" packaging/python3-agentd.yaml >"$STAGE/python3-agentd.yaml"
mkdir -p "$out/clients"
"$STAGE/nfpm" package --config "$STAGE/python3-agentd.yaml" --packager deb --target "$out/clients/" >"$STAGE/nfpm.log" 2>&1 || {
	cat "$STAGE/nfpm.log" >&2
	exit 1
}
if command -v tsc >/dev/null 2>&1; then
	clients/typescript/pack.sh "$out/clients"
else
	echo "package: tsc is not installed: the library in TypeScript is not packed"
fi

# For systems without either: one static program, manuals, completions and documents.
tarball=agentctl-$VERSION-linux-$GOARCH
mkdir -p "$STAGE/tar/$tarball/man" "$STAGE/tar/$tarball/completions"
cp "$STAGE/agentctl" LICENSE "$STAGE/licenses-agentctl.gz" "$STAGE/tar/$tarball/"
cp "$STAGE/agentctl.1.gz" "$STAGE/agentd-policy.5.gz" "$STAGE/tar/$tarball/man/"
for shell in bash zsh fish; do cp "$STAGE/agentctl.$shell" "$STAGE/tar/$tarball/completions/"; done
cp -r "$STAGE/doc/." "$STAGE/tar/$tarball/"
# pack NAME OUT: makes a tarball of a folder.
pack() {
	tar -C "$STAGE/tar" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --mode=u=rwX,go=rX \
		-cf - "$1" | gzip -9n >"$2/$1.tar.gz"
}
pack "$tarball" "$out"

# For authors of other verifiers: one program with all cases, adapters, and what they read.
kit=agentd-conformance-$VERSION-linux-$GOARCH
mkdir -p "$STAGE/tar/$kit/docs" "$out/conformance"
cp "$STAGE/agentd-conformance" LICENSE "$STAGE/licenses-agentd-conformance.gz" "$STAGE/tar/$kit/"
cp -r internal/conformance/adapters "$STAGE/tar/$kit/"
for page in conformance evidence measurements checks policy start-values; do cp "$STAGE/doc/docs/$page.md" "$STAGE/tar/$kit/docs/"; done
pack "$kit" "$out/conformance"
rm -rf "$STAGE"

built=$(ls "$out"/agentd[-_]"$VERSION"* "$out"/agentctl[-_]"$VERSION"*)
if [ -n "$SIGN" ]; then
	# shellcheck disable=SC2086 # names without spaces
	packaging/sign.sh "$SIGN" $built
	packaging/sign.sh "$SIGN" "$out"/clients/*
	packaging/sign.sh "$SIGN" "$out"/conformance/*
	packaging/sign.sh "$SIGN" "$out"/spire/*
	packaging/sign.sh "$SIGN" "$out"/verifier/*
fi
# shellcheck disable=SC2086
ls -l $built "$out"/clients/* "$out"/conformance/* "$out"/spire/* "$out"/verifier/*
