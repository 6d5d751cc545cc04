#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sign.sh KEY FILE...: signs packages and tarballs of one folder with a key of gpg, named by
# fingerprint or user id. GNUPGHOME and gpg's agent are used as they are, so the key can be
# in a token.
#
#   .deb    gets the member _gpgorigin, a signature over its other members (debsig-verify)
#   .rpm    gets a signature in its header (rpm -K)
#   all     are listed in SHA256SUMS, and SHA256SUMS.asc signs that
#
# A second signature replaces the first.
set -eu
key=${1:?key}
shift
fail() {
	echo "sign: $*" >&2
	exit 1
}
command -v gpg >/dev/null 2>&1 || fail "gpg is not installed"
gpg --batch --list-secret-keys "$key" >/dev/null 2>&1 || fail "gpg has no secret key $key: name one of \`gpg --list-secret-keys\`"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

folder=$(cd "$(dirname "$1")" && pwd)
names=
for file in "$@"; do
	[ "$(cd "$(dirname "$file")" && pwd)" = "$folder" ] || fail "$file is not in $folder"
	case $file in
	*.deb)
		command -v ar >/dev/null 2>&1 || fail "ar is not installed: it is in binutils"
		if ar t "$file" | grep -q '^_gpgorigin$'; then ar d "$file" _gpgorigin; fi
		# In the order in which they are in the file.
		: >"$work/members"
		for member in $(ar t "$file"); do ar p "$file" "$member" >>"$work/members"; done
		rm -f "$work/_gpgorigin"
		gpg --batch --yes --local-user "$key" --output "$work/_gpgorigin" --detach-sign "$work/members"
		ar qSD "$file" "$work/_gpgorigin"
		;;
	*.rpm)
		command -v rpmsign >/dev/null 2>&1 || fail "rpmsign is not installed: it is in rpm"
		rpmsign --define "_gpg_name $key" --define "__gpg $(command -v gpg)" --resign "$file" >"$work/rpmsign" 2>&1 || fail "$file: $(cat "$work/rpmsign")"
		;;
	esac
	names="$names $(basename "$file")"
done
# shellcheck disable=SC2086 # names without spaces
(cd "$folder" && sha256sum $names >SHA256SUMS)
gpg --batch --yes --local-user "$key" --armor --output "$folder/SHA256SUMS.asc" --detach-sign "$folder/SHA256SUMS"
echo "sign: signed$names and SHA256SUMS with $key"
