#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh OUT: checks the packages in OUT with lintian, rpmlint and rpm, and compares
# them. Needs root, to install the rpm into a scratch root.
set -eu
cd "$(dirname "$0")/.."
out=${1:?folder of the packages}
deb=$(ls "$out"/agentd_*.deb)
rpm=$(ls "$out"/agentd-*.rpm)
failed=0
ok() { echo "ok    $1"; }
bad() {
	echo "FAIL  $1"
	failed=1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# case 80: errors and warnings of lintian.
if lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$deb" >"$work/lintian" 2>&1; then
	ok "lintian: no errors, no warnings, $(grep -c '^agentd:' packaging/lintian-overrides) overrides"
else
	cat "$work/lintian"
	bad "lintian"
fi

# rpmlint prints a summary with the counts. It unpacks with cpio, and the names in this
# rpm are absolute: without this wrapper, cpio would overwrite files of this machine.
mkdir "$work/bin"
printf '#!/bin/sh\nexec %s --no-absolute-filenames "$@"\n' "$(command -v cpio)" >"$work/bin/cpio"
chmod 0755 "$work/bin/cpio"
PATH="$work/bin:$PATH" rpmlint -c packaging/rpmlint.toml "$rpm" >"$work/rpmlint" 2>&1 || true
if grep -q ' 0 errors, 0 warnings,' "$work/rpmlint"; then
	ok "rpmlint: no errors, no warnings"
else
	cat "$work/rpmlint"
	bad "rpmlint"
fi

# man must read the manual pages without a warning.
mkdir "$work/deb"
dpkg-deb -x "$deb" "$work/deb"
pages=0
for page in "$work"/deb/usr/share/man/man*/*.gz; do
	pages=$((pages + 1))
	if ! gzip -dc "$page" | LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z - 2>"$work/man" >/dev/null || [ -s "$work/man" ]; then
		cat "$work/man"
		bad "manual page $(basename "$page")"
	fi
done
if ! gzip -dc "$work/deb/usr/share/man/man1/agentctl.1.gz" | grep -q '^\.SS .*verify'; then bad "agentctl(1) lacks the commands"; fi
ok "manual pages: $pages looked at"

# Install the rpm into an empty root. That root does not run systemd, so programs there
# record how the scriptlets call them.
root=$work/rpm
# said writes the output of rpm, without Debian's warning to use apt.
said() { grep -v '^rpm: \(RPM should not\|However assuming\)' "$work/rpm.out" >"$work/rpm.log" || :; }
mkdir -p "$root/var/lib/rpm" "$root/bin" "$root/calls" "$root/dev" "$root/usr/bin"
if command -v busybox >/dev/null 2>&1; then
	cp "$(command -v busybox)" "$root/bin/busybox"
	for applet in sh echo head cat test '['; do ln -s busybox "$root/bin/$applet"; done
else
	bad "busybox is not installed: scriptlets need a shell in the scratch root"
fi
for program in systemctl systemd-sysusers systemd-tmpfiles udevadm; do
	printf '#!/bin/sh\necho "%s $*" >>/calls/log\n' "$program" >"$root/usr/bin/$program"
	chmod 0755 "$root/usr/bin/$program"
done
if rpm --root "$root" --dbpath /var/lib/rpm -i --nodeps --ignorearch "$rpm" >"$work/rpm.out" 2>&1 && said && [ ! -s "$work/rpm.log" ]; then
	ok "rpm: installs into a scratch root"
else
	cat "$work/rpm.log"
	bad "rpm: install"
fi
calls() {
	sort "$root/calls/log" 2>/dev/null >"$work/calls" || :
	rm -f "$root/calls/log"
	for want in "$@"; do
		grep -qF -- "$want" "$work/calls" || {
			cat "$work/calls"
			bad "rpm: a scriptlet did not call: $want"
		}
	done
}
calls "systemd-sysusers agentd.conf" "systemd-tmpfiles --create agentd.conf" "systemctl --no-reload preset agentd.socket agentd-admin.socket agentd.service"

# Files, modes and owners must agree, except for those that differ by convention.
convention='/usr/share/zsh/|/usr/share/licenses/|/usr/share/lintian|/usr/lib/systemd/system-preset|changelog\.Debian\.gz'
dpkg-deb --fsys-tarfile "$deb" | tar -tv --numeric-owner -f - | awk '$1 !~ /^d/ {sub(/^\./, "", $6); print $1, $2, $6}' |
	grep -Ev "$convention" | sort >"$work/files.deb"
rpm -qp --qf '[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]' "$rpm" 2>/dev/null | grep -v '^d' | sed 's, root/root , 0/0 ,' |
	grep -Ev "$convention" | sort >"$work/files.rpm"
if cmp -s "$work/files.deb" "$work/files.rpm"; then
	ok "deb and rpm: the same $(wc -l <"$work/files.deb") files, modes and owners"
else
	diff "$work/files.deb" "$work/files.rpm" || :
	bad "deb and rpm differ"
fi
(cd "$root" && find . -type f) | sed 's/^\.//' | while read -r file; do
	if [ -e "$work/deb$file" ]; then cmp "$work/deb$file" "$root$file" || echo "differs: $file"; fi
done >"$work/contents" 2>&1
if [ -s "$work/contents" ]; then
	cat "$work/contents"
	bad "deb and rpm: contents differ"
else
	ok "deb and rpm: the same contents"
fi

# Both contain our licence, word for word.
words() { sed 's/^ *//; /^$/d' | tr '\n' ' '; }
licence=$(words <LICENSE)
for tree in "$work/deb" "$root"; do
	case "$(gzip -dc "$tree/usr/share/doc/agentd/licenses.gz" | words)" in
	*"$licence"*) ok "licence: in $(basename "$tree")" ;;
	*) bad "licence: not in $(basename "$tree")" ;;
	esac
done
if ! cmp LICENSE "$root/usr/share/licenses/agentd/LICENSE"; then bad "rpm: the licence differs"; fi

config=$(rpm -qpc "$rpm" 2>/dev/null)
if [ "$config" = "$(dpkg-deb --ctrl-tarfile "$deb" | tar -xOf - ./conffiles)" ]; then
	ok "configuration files of both: $config"
else
	bad "configuration files differ: rpm has $config"
fi

# An upgrade restarts the service and never a socket; a changed configuration stays.
echo "# changed" >>"$root/etc/agentd/config.toml"
mkdir -p "$root/run/systemd/system"
if rpm --root "$root" --dbpath /var/lib/rpm -U --force --nodeps --ignorearch "$rpm" >"$work/rpm.log" 2>&1; then
	if grep -q '^# changed' "$root/etc/agentd/config.toml"; then ok "rpm: a changed configuration stays on an upgrade"; else bad "rpm: the configuration was replaced"; fi
else
	cat "$work/rpm.log"
	bad "rpm: upgrade"
fi
if grep -E 'systemctl (re)?start.*socket|systemctl stop' "$root/calls/log"; then bad "rpm: an upgrade touched a socket"; fi
rpm --root "$root" --dbpath /var/lib/rpm -e --nodeps agentd >"$work/rpm.log" 2>&1 || { cat "$work/rpm.log"; bad "rpm: removal"; }
calls "systemctl --no-reload disable agentd.service agentd.socket agentd-admin.socket" "systemctl stop agentd.service agentd.socket agentd-admin.socket"
grep -q 'left in place: /var/lib/agentd' "$work/rpm.log" || bad "rpm: removal does not name what it leaves"
left=$(find "$root" -path "$root/var/lib/rpm" -prune -o -type f -name '*' -path '*agentd*' -printf './%P\n')
if [ "$left" = ./etc/agentd/config.toml.rpmsave ]; then
	ok "rpm: removal leaves the changed configuration and nothing else"
else
	bad "rpm: removal leaves: $left"
fi

if [ "$failed" = 0 ]; then echo "packages: ok"; else echo "packages: FAILED"; fi
exit "$failed"
