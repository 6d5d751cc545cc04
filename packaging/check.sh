#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh OUT: checks the packages and the tarball in OUT with lintian, rpmlint, rpm, man
# and the shells that complete, and compares them. Needs root, for scratch roots.
set -eu
cd "$(dirname "$0")/.."
out=${1:?folder of the packages}
: "${GO:=go}"
names="agentd agentctl"
deb_of() { ls "$out/$1"_*.deb; }
rpm_of() { ls "$out/$1"-*.rpm; }
tarball=$(ls "$out"/agentctl-*.tar.gz)
failed=0
ok() { echo "ok    $1"; }
bad() {
	echo "FAIL  $1"
	failed=1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# case 80: errors and warnings of lintian.
for name in $names; do
	if lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$(deb_of "$name")" >"$work/lintian" 2>&1; then
		ok "lintian: $name: no errors, no warnings, $(grep -c "^$name:" "packaging/lintian-overrides-$name") overrides"
	else
		cat "$work/lintian"
		bad "lintian: $name"
	fi
done

# rpmlint prints a summary with the counts. It unpacks with cpio, and the names in these
# rpms are absolute: without this wrapper, cpio would overwrite files of this machine.
mkdir "$work/bin"
printf '#!/bin/sh\nexec %s --no-absolute-filenames "$@"\n' "$(command -v cpio)" >"$work/bin/cpio"
chmod 0755 "$work/bin/cpio"
for name in $names; do
	PATH="$work/bin:$PATH" rpmlint -c packaging/rpmlint.toml "$(rpm_of "$name")" >"$work/rpmlint" 2>&1 || true
	if grep -q ' 0 errors, 0 warnings,' "$work/rpmlint"; then
		ok "rpmlint: $name: no errors, no warnings"
	else
		cat "$work/rpmlint"
		bad "rpmlint: $name"
	fi
done

# man must read the manual pages without a warning.
mkdir "$work/deb" "$work/tar"
for name in $names; do
	mkdir "$work/$name"
	dpkg-deb -x "$(deb_of "$name")" "$work/$name"
	dpkg-deb -x "$(deb_of "$name")" "$work/deb"
done
tar -xzf "$tarball" -C "$work/tar" --strip-components=1
pages=0
for page in "$work"/deb/usr/share/man/man*/*.gz; do
	pages=$((pages + 1))
	if ! gzip -dc "$page" | LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z - 2>"$work/man" >/dev/null || [ -s "$work/man" ]; then
		cat "$work/man"
		bad "manual page $(basename "$page")"
	fi
done
if [ "$pages" = 5 ]; then ok "manual pages: $pages looked at"; else bad "manual pages: $pages"; fi

# What a person sees. Each command that TAB offers, and each that the help lists, has a
# section of agentctl(1); each flag of a help text is in it.
agentctl=$work/deb/usr/bin/agentctl
read_page() { gzip -dc "$work/deb/usr/share/man/man$1/$2.$1.gz" | LC_ALL=C.UTF-8 MANROFFSEQ='' man -E UTF-8 -l -Tutf8 - 2>/dev/null | sed 's/.\x08//g; s/\x1b\[[0-9;]*m//g'; }
read_page 1 agentctl >"$work/agentctl.txt"
commands=0
# section WORD...: checks the section of a command and those of the commands below it.
section() {
	commands=$((commands + 1))
	grep -q "^   $*\$" "$work/agentctl.txt" || bad "agentctl(1) has no section \"$*\""
	"$agentctl" "$@" --help >"$work/help"
	grep -qF "$(head -n 1 "$work/help")" "$work/agentctl.txt" || bad "agentctl(1) does not have the usage of \"$*\""
	"$agentctl" help "$@" | cmp -s - "$work/help" || bad "agentctl help $* is another text"
	if grep -q '^Usage: agentctl [a-z]* COMMAND' "$work/help"; then
		for below in $("$agentctl" __completeNoDesc "$@" "" 2>/dev/null | grep -v '^[:-]'); do section "$@" "$below"; done
	fi
}
for command in $("$agentctl" __completeNoDesc "" 2>/dev/null | grep -v '^[:-]'); do section "$command"; done
listed=$("$agentctl" --help | sed '/^Flags of every command/,$d' | grep -c '^  [a-z]')
offered=$("$agentctl" __completeNoDesc "" 2>/dev/null | grep -vc '^[:-]')
if [ "$commands" -ge 45 ] && [ "$listed" = "$offered" ]; then
	ok "agentctl(1): $commands commands; help lists $listed, TAB offers $offered"
else
	bad "agentctl(1): $commands commands; help lists $listed, TAB offers $offered"
fi
for want in "8 agentd" "5 agentd-config.toml" "5 agentd-apps.d" "5 agentd-policy"; do
	# shellcheck disable=SC2086 # section and name
	lines=$(read_page $want | wc -l)
	if [ "$lines" -lt 60 ]; then bad "manual ${want#* }(${want% *}) has $lines lines"; fi
done
read_page 5 agentd-policy | grep -q 'DEMANDS\|ROOT KEYS' || bad "agentd-policy(5) does not have the keys of a policy"

# The words that shells offer, by the scripts of the package.
if AGENTD_TEST_PACKAGE="$work/deb" "$GO" test -count=1 -v ./test/shells >"$work/shells" 2>&1 && ! grep -q -e '--- SKIP' "$work/shells"; then
	ok "completion: bash, zsh and fish offer commands, flags, units and applications"
else
	cat "$work/shells"
	bad "completion"
fi

# Documents that programs, manuals and documents name are there.
doc=usr/share/doc/agentctl
for tree in "$work/deb/$doc" "$work/tar"; do
	{
		grep -aoh 'docs/[a-z0-9/-]*\.\(md\|json\|pem\)' "$work/deb/usr/bin/agentctl" "$work/deb/usr/sbin/agentd"
		(cd "$tree" && grep -oh '](\([^)#:]*\)[)#]' docs/*.md | sed 's/^](//; s/[)#]$//; /^$/d; s,^,docs/,')
	} | sort -u >"$work/named"
	while read -r file; do
		[ -e "$tree/$file" ] || bad "$file is named, and not in ${tree#"$work"/}"
	done <"$work/named"
	for file in openapi.json schemas/evidence.json schemas/status.json schemas/agentctl/verify.json schemas/agentctl/app-list.json docs/policy.md docs/verify.md docs/example/evidence.json; do
		[ -s "$tree/$file" ] || bad "$file is not in ${tree#"$work"/}"
	done
	jq -e '."$schema" and ."$defs"' "$tree"/schemas/*.json "$tree"/schemas/agentctl/*.json >/dev/null || bad "schemas"
	jq -e '.openapi and .paths["/v1/evidence"]' "$tree/openapi.json" >/dev/null || bad "openapi.json"
done
ok "documents: $(wc -l <"$work/named") names of files lead to a file, in packages and tarball"
[ "$(readlink "$work/deb/usr/share/doc/agentd/docs")" = ../agentctl/docs ] || bad "/usr/share/doc/agentd/docs is not a link to the documents"

# A relying party's package: the program works alone, and brings no daemon, user or unit.
if (cd "$work/agentctl" && find . -type f) | grep -E 'systemd|sysusers|tmpfiles|udev|/etc/|sbin'; then bad "agentctl contains parts of the daemon"; fi
if [ "$(dpkg-deb -f "$(deb_of agentctl)" Depends)" != "" ] || [ "$(dpkg-deb --ctrl-tarfile "$(deb_of agentctl)" | tar -t | grep -Evc '^\./(control|md5sums)?$')" != 0 ]; then
	bad "agentctl depends on packages, or has scripts"
fi
if rpm -qp --requires "$(rpm_of agentctl)" 2>/dev/null | grep -v '^rpmlib('; then bad "agentctl.rpm requires something"; fi
[ -z "$(rpm_of -qp --scripts "$(rpm_of agentctl)" 2>/dev/null)" ] || bad "agentctl.rpm has scripts"
version=$(dpkg-deb -f "$(deb_of agentctl)" Version)
dpkg-deb -f "$(deb_of agentd)" Depends | grep -qF "agentctl (= $version)" || bad "agentd.deb does not depend on its agentctl"
rpm -qp --requires "$(rpm_of agentd)" 2>/dev/null | grep -qxF "agentctl = ${version%-1}" || bad "agentd.rpm does not depend on its agentctl"
for program in "$work/agentctl/usr/bin/agentctl" "$work/tar/agentctl"; do
	mkdir -p "$work/empty"
	cp "$program" "$work/empty/agentctl"
	cp "$work/tar/docs/example/evidence.json" "$work/empty/"
	chroot "$work/empty" /agentctl show /evidence.json >"$work/show" 2>&1 || {
		cat "$work/show"
		bad "agentctl does not work in an empty root"
	}
done
cmp "$work/agentctl/usr/bin/agentctl" "$work/tar/agentctl" || bad "the tarball has another program"
ok "agentctl: works alone in an empty root, from package and tarball; $(wc -c <"$tarball") bytes"

# Install the rpms into an empty root. That root does not run systemd, so programs there
# record how the scriptlets call them.
root=$work/rpm
# said writes the output of rpm, without Debian's warning to use apt.
said() { grep -v '^rpm: \(RPM should not\|However assuming\)' "$work/rpm.out" >"$work/rpm.log" || :; }
in_root() { rpm --root "$root" --dbpath /var/lib/rpm "$@"; }
# stubs ROOT: makes a root with a shell, in which the programs of systemd record their calls.
stubs() {
	mkdir -p "$1/var/lib/rpm" "$1/bin" "$1/calls" "$1/dev" "$1/usr/bin"
	cp "$(command -v busybox)" "$1/bin/busybox"
	for applet in sh echo head cat test '[' mv rm rmdir grep; do ln -s busybox "$1/bin/$applet"; done
	for program in systemctl systemd-sysusers systemd-tmpfiles udevadm deb-systemd-helper deb-systemd-invoke; do
		printf '#!/bin/sh\necho "%s $*" >>/calls/log\n' "$program" >"$1/usr/bin/$program"
		chmod 0755 "$1/usr/bin/$program"
	done
}
command -v busybox >/dev/null 2>&1 || bad "busybox is not installed: scriptlets need a shell in the scratch root"
stubs "$root"
if in_root -i --nodeps --ignorearch "$(rpm_of agentctl)" >"$work/rpm.out" 2>&1 && said && [ ! -s "$work/rpm.log" ] && [ ! -e "$root/calls/log" ] && [ ! -e "$root/etc/agentd" ]; then
	ok "rpm: agentctl installs alone, and calls no program"
else
	cat "$work/rpm.log" "$root/calls/log" 2>/dev/null
	bad "rpm: agentctl alone"
fi
if in_root -i --nodeps --ignorearch "$(rpm_of agentd)" >"$work/rpm.out" 2>&1 && said && [ ! -s "$work/rpm.log" ]; then
	ok "rpm: agentd installs into a scratch root"
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
calls "systemd-sysusers agentd.conf" "systemd-tmpfiles --create agentd.conf" "systemctl --no-reload preset agentd.socket agentd-admin.socket agentd-credentials.socket agentd-gate.socket agentd.service"

# Files, modes and owners must agree, except for those that differ by convention.
convention='/usr/share/zsh/|/usr/share/licenses/|/usr/share/lintian|/usr/lib/systemd/system-preset|changelog\.Debian\.gz|/etc/apt/|/etc/dnf/'
for name in $names; do
	dpkg-deb --fsys-tarfile "$(deb_of "$name")" | tar -tv --numeric-owner -f - | awk '$1 !~ /^d/ {sub(/^\./, "", $6); print $1, $2, $6}' |
		grep -Ev "$convention" | sort >"$work/files.deb"
	rpm -qp --qf '[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]' "$(rpm_of "$name")" 2>/dev/null | grep -v '^d' | sed 's, root/root , 0/0 ,' |
		grep -Ev "$convention" | sort >"$work/files.rpm"
	if cmp -s "$work/files.deb" "$work/files.rpm"; then
		ok "deb and rpm: $name: the same $(wc -l <"$work/files.deb") files, modes and owners"
	else
		diff "$work/files.deb" "$work/files.rpm" || :
		bad "deb and rpm differ: $name"
	fi
done
(cd "$root" && find . -type f) | sed 's/^\.//' | while read -r file; do
	if [ -e "$work/deb$file" ]; then cmp "$work/deb$file" "$root$file" || echo "differs: $file"; fi
done >"$work/contents" 2>&1
if [ -s "$work/contents" ]; then
	cat "$work/contents"
	bad "deb and rpm: contents differ"
else
	ok "deb and rpm: the same contents"
fi

# All contain our licence, word for word.
words() { sed 's/^ *//; /^$/d' | tr '\n' ' '; }
licence=$(words <LICENSE)
for file in "$work/deb/usr/share/doc/agentd/licenses.gz" "$work/deb/$doc/licenses.gz" "$root/usr/share/doc/agentd/licenses.gz" "$root/$doc/licenses.gz" "$work/tar/licenses-agentctl.gz"; do
	case "$(gzip -dc "$file" | words)" in
	*"$licence"*) ;;
	*) bad "licence: not in ${file#"$work"/}" ;;
	esac
done
for name in $names; do cmp LICENSE "$root/usr/share/licenses/$name/LICENSE" || bad "rpm: the licence of $name differs"; done
ok "licence: in all packages and the tarball"

config=$(rpm -qpc "$(rpm_of agentd)" 2>/dev/null | grep -v ^/etc/dnf/)
if [ "$config" = "$(dpkg-deb --ctrl-tarfile "$(deb_of agentd)" | tar -xOf - ./conffiles | grep -v ^/etc/apt/)" ]; then
	ok "configuration files of both: $config"
else
	bad "configuration files differ: rpm has $config"
fi

# An upgrade restarts the service and never a socket; a changed configuration and the
# drop-ins stay.
units=$root/etc/systemd/system
volume=systemd-cryptsetup@pg\\x2ddata.service
mkdir -p "$units/billing.service.d" "$units/own.service.d" "$units/$volume.d"
dropin=$units/billing.service.d/50-agentd.conf
# shellcheck disable=SC2016 # the first line of such a file
printf '%s\n' '# Written by `agentctl disk enroll`. Remove it with `agentctl disk remove`.' '[Service]' >"$units/$volume.d/50-agentd.conf"
# shellcheck disable=SC2016 # the first line of such a file
printf '%s\n' '# Written by `agentctl app enable`. Remove it with `agentctl app disable`.' '[Service]' \
	'ExecStartPre=+/usr/bin/agentctl --admin /run/agentd/admin.sock measure --app billing' >"$dropin"
printf '%s\n' '[Service]' 'ExecStartPre=-+/usr/bin/agentctl --admin /run/agentd/admin.sock measure --app own' >"$units/own.service.d/own.conf"
cp -r "$units" "$work/units"
echo "# changed" >>"$root/etc/agentd/config.toml"
mkdir -p "$root/run/systemd/system"
if in_root -U --force --nodeps --ignorearch "$(rpm_of agentd)" >"$work/rpm.log" 2>&1; then
	if grep -q '^# changed' "$root/etc/agentd/config.toml"; then ok "rpm: a changed configuration stays on an upgrade"; else bad "rpm: the configuration was replaced"; fi
else
	cat "$work/rpm.log"
	bad "rpm: upgrade"
fi
if grep -E 'systemctl (re)?start.*socket|systemctl stop' "$root/calls/log"; then bad "rpm: an upgrade touched a socket"; fi
diff -r "$units" "$work/units" || bad "rpm: an upgrade touched drop-ins"
rm -f "$root/calls/log"

# parked WHO ROOT: checks that a removal has put the drop-in aside before systemd read its
# units for the last time, and has named each unit that needs the agent.
parked() {
	file=$2/etc/systemd/system/billing.service.d/50-agentd.conf
	if [ -e "$file" ] || [ ! -e "$file.removed-with-agentd" ]; then bad "$1: the drop-in of billing.service is not put aside: it would not start"; fi
	grep -q 'billing.service is NOT MEASURED' "$work/removed" || bad "$1: removal does not name the unit that is measured no more"
	grep -q 'own.service.d/own.conf calls agentctl measure' "$work/removed" || bad "$1: removal does not name the drop-in that is not ours"
	[ -e "$2/etc/systemd/system/own.service.d/own.conf" ] || bad "$1: removal took a file that is not ours"
	grep -qF "$volume OPENS NO VOLUME" "$work/removed" || bad "$1: removal does not name the volume that opens no more"
	[ -e "$2/etc/systemd/system/$volume.d/50-agentd.conf" ] || bad "$1: removal took the drop-in of a volume"
	[ "$(tail -n 1 "$2/calls/seen")" = parked ] || bad "$1: systemd read its units before the drop-in was put aside: $(tr '\n' ' ' <"$2/calls/seen")"
}
# watch ROOT: has systemctl record what a daemon-reload would read.
watch() {
	cat >"$1/usr/bin/systemctl" <<'STUB'
#!/bin/sh
echo "systemctl $*" >>/calls/log
case "$*" in
*list-units*agentd-tunnel@*) echo "agentd-tunnel@web.service loaded active running Attested tunnel web" ;;
*daemon-reload*)
	if [ -e /etc/systemd/system/billing.service.d/50-agentd.conf ]; then echo enabled; else echo parked; fi >>/calls/seen
	;;
esac
STUB
}
watch "$root"
in_root -e --nodeps agentd >"$work/removed" 2>&1 || { cat "$work/removed"; bad "rpm: removal"; }
calls "systemctl --no-reload disable agentd.service agentd.socket agentd-admin.socket agentd-credentials.socket agentd-gate.service agentd-gate.socket" "systemctl stop agentd-secrets.service agentd-gate.service agentd.service agentd.socket agentd-admin.socket"
grep -q 'left in place: /var/lib/agentd' "$work/removed" || bad "rpm: removal does not name what it leaves"
parked rpm "$root"
left=$(find "$root" -path "$root/var/lib/rpm" -prune -o -path "$root/usr/share" -prune -o -type f -path '*agentd*' -printf './%P\n' | sort | tr '\n' ' ')
if [ "$left" = "./etc/agentd/config.toml.rpmsave ./etc/systemd/system/billing.service.d/50-agentd.conf.removed-with-agentd ./etc/systemd/system/$volume.d/50-agentd.conf " ]; then
	ok "rpm: removal leaves the changed configuration, the drop-in that was put aside and that of a volume"
else
	bad "rpm: removal leaves: $left"
fi
in_root -i --nodeps --ignorearch "$(rpm_of agentd)" >"$work/restored" 2>&1 || bad "rpm: installation after a removal"
grep -q 'billing.service is measured before each start again' "$work/restored" || bad "rpm: installation does not name the unit that is measured again"
[ "$(tail -n 1 "$root/calls/seen")" = enabled ] || bad "rpm: systemd did not read the drop-in that came back"
diff -r "$units" "$work/units" || bad "rpm: the drop-in did not come back"
ok "rpm: drop-ins are put aside on removal, and come back with the package"

# The same for the scripts of the deb, as dpkg calls them.
scripts=$work/scripts
stubs "$scripts"
watch "$scripts"
mkdir -p "$scripts/run/systemd/system" "$scripts/etc/systemd"
cp -r "$work/units" "$scripts/etc/systemd/system"
dpkg-deb --ctrl-tarfile "$(deb_of agentd)" | tar -xf - -C "$scripts"
script() { chroot "$scripts" "$@" >>"$work/removed" 2>&1 || bad "deb: $*"; }
: >"$work/removed"
script /prerm upgrade 2
script /postrm upgrade 2
diff -r "$scripts/etc/systemd/system" "$work/units" || bad "deb: an upgrade touched drop-ins"
script /prerm remove
script /postrm remove
parked deb "$scripts"
script /postinst configure 1
[ "$(tail -n 1 "$scripts/calls/seen")" = enabled ] || bad "deb: systemd did not read the drop-in that came back"
diff -r "$scripts/etc/systemd/system" "$work/units" || bad "deb: the drop-in did not come back"
grep -q 'earlier program until you restart them: agentd-tunnel@web.service$' "$work/removed" || bad "deb: an upgrade does not name the tunnels that run"
if grep -E 'restart .*agentd-tunnel' "$scripts/calls/log"; then bad "deb: an upgrade restarted a tunnel"; fi
for before in removed enabled; do # purged after a removal, or with a drop-in that was written after it
	if [ $before = removed ]; then script /postrm remove; fi
	script /postrm purge
	[ ! -e "$scripts/etc/systemd/system/billing.service.d" ] || bad "deb: purge leaves a drop-in, $before"
	[ ! -e "$scripts/etc/systemd/system/$volume.d" ] || bad "deb: purge leaves the drop-in of a volume, $before"
	[ "$(tail -n 1 "$scripts/calls/seen")" = parked ] || bad "deb: systemd read a drop-in that was purged, $before"
	cp -r "$work/units/billing.service.d" "$work/units/$volume.d" "$scripts/etc/systemd/system/"
done
[ -e "$scripts/etc/systemd/system/own.service.d/own.conf" ] || bad "deb: purge took a file that is not ours"
ok "deb: drop-ins are put aside on removal, come back with the package, and go with a purge"

# The client libraries. The modules of that in Python are those of the source, where Debian's Python
# finds them, and dpkg's scripts compile them. That in TypeScript has the files
# that its users name.
python=$(ls "$out"/clients/python3-agentd_*_all.deb)
if lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$python" >"$work/lintian" 2>&1; then
	ok "lintian: python3-agentd: no errors, no warnings, $(grep -c '^python3-agentd:' packaging/lintian-overrides-python3-agentd) overrides"
else
	cat "$work/lintian"
	bad "lintian: python3-agentd"
fi
dpkg-deb -x "$python" "$work/python"
modules=$work/python/usr/lib/python3/dist-packages
(cd clients/python/agentd && find . -name '*.py' -o -name py.typed) | while read -r file; do
	cmp "clients/python/agentd/$file" "$modules/agentd/$file" || echo "differs: $file"
done >"$work/contents" 2>&1
[ ! -s "$work/contents" ] || { cat "$work/contents"; bad "python3-agentd: another source"; }
[ "$(dpkg-deb -f "$python" Depends)" = "python3 (>= 3.11)" ] || bad "python3-agentd depends on $(dpkg-deb -f "$python" Depends)"
(cd "$work/python" && find . -type f | grep -Ev '^\./usr/(lib/python3/dist-packages/agentd(-[^/]*\.dist-info)?/|share/doc/python3-agentd/|share/lintian/)') && bad "python3-agentd has files elsewhere"
said=$(cd / && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$modules" python3 -c 'import agentd, importlib.metadata as m; print(m.version("agentd"), agentd.__file__, agentd.Client)' 2>&1)
case $said in
"$(dpkg-deb -f "$python" Version | sed 's/-1$//; s/~/+/') $modules/agentd/__init__.py "*) ;;
*) bad "python3-agentd: Python says: $said" ;;
esac
dpkg-deb --ctrl-tarfile "$python" | tar -xf - -C "$scripts"
for program in py3compile py3clean; do
	printf '#!/bin/sh\necho "%s $*" >>/calls/python\n' "$program" >"$scripts/usr/bin/$program"
	chmod 0755 "$scripts/usr/bin/$program"
done
script /postinst configure
script /prerm remove
[ "$(tr '\n' ' ' <"$scripts/calls/python")" = "py3compile -p python3-agentd py3clean -p python3-agentd " ] || bad "python3-agentd: scripts call: $(cat "$scripts/calls/python")"
ok "python3-agentd: $(find "$modules" -name '*.py' | wc -l) modules in dist-packages, compiled by scripts"
mkdir -p "$work/node/node_modules/agentd"
tar -xzf "$(ls "$out"/clients/agentd-*.tgz)" -C "$work/node/node_modules/agentd" --strip-components=1
grep -q '"version": "[0-9]' "$work/node/node_modules/agentd/package.json" || bad "agentd.tgz has no version"
for file in README.md LICENSE dist/index.js dist/index.d.ts dist/documents.js dist/documents.d.ts; do
	[ -s "$work/node/node_modules/agentd/$file" ] || bad "agentd.tgz: no $file"
done
ok "npm: $(find "$work/node" -name '*.js' | wc -l) modules with types"

# The plugins of SPIRE: one program, which works alone, and no user, unit or script.
plugins=$(ls "$out"/spire/agentd-spire_*.deb)
plugins_rpm=$(ls "$out"/spire/agentd-spire-*.rpm)
if lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$plugins" >"$work/lintian" 2>&1; then
	ok "lintian: agentd-spire: no errors, no warnings, $(grep -c '^agentd-spire:' packaging/lintian-overrides-agentd-spire) overrides"
else
	cat "$work/lintian"
	bad "lintian: agentd-spire"
fi
PATH="$work/bin:$PATH" rpmlint -c packaging/rpmlint.toml "$plugins_rpm" >"$work/rpmlint" 2>&1 || true
if grep -q ' 0 errors, 0 warnings,' "$work/rpmlint"; then
	ok "rpmlint: agentd-spire: no errors, no warnings"
else
	cat "$work/rpmlint"
	bad "rpmlint: agentd-spire"
fi
mkdir "$work/spire" "$work/spire-rpm"
dpkg-deb -x "$plugins" "$work/spire"
(cd "$work/spire-rpm" && rpm2cpio "$plugins_rpm" | cpio --quiet -id --no-absolute-filenames 2>/dev/null)
(cd "$work/spire" && find . -type f) | grep -Ev '^\./usr/(libexec/agentd/agentd-spire$|share/doc/agentd-spire/|share/lintian/)' && bad "agentd-spire has files elsewhere"
for file in usr/libexec/agentd/agentd-spire usr/share/doc/agentd-spire/spire.md usr/share/doc/agentd-spire/licenses.gz; do
	cmp "$work/spire/$file" "$work/spire-rpm/$file" || bad "agentd-spire: deb and rpm differ"
done
if [ "$(dpkg-deb -f "$plugins" Depends)" != "" ] || [ -n "$(rpm -qp --scripts "$plugins_rpm" 2>/dev/null)" ]; then
	bad "agentd-spire depends on packages, or has scripts"
fi
case "$(gzip -dc "$work/spire/usr/share/doc/agentd-spire/licenses.gz" | words)" in
*"$licence"*spire-plugin-sdk*) ;;
*) bad "licence: not in agentd-spire" ;;
esac
if [ "$(chroot "$work/spire" /usr/libexec/agentd/agentd-spire --version)" = "agentd-spire $("$agentctl" --version | sed 's/.* //')" ]; then
	ok "agentd-spire: works alone in an empty root; $(wc -c <"$work/spire/usr/libexec/agentd/agentd-spire") bytes, in deb and rpm"
else
	bad "agentd-spire: its version is another one"
fi

# The service for relying parties: with its configuration it starts, and ends when it is told to.
verifier=$(ls "$out"/verifier/agentd-verifier_*.deb)
verifier_rpm=$(ls "$out"/verifier/agentd-verifier-*.rpm)
if lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$verifier" >"$work/lintian" 2>&1; then
	ok "lintian: agentd-verifier: no errors, no warnings, $(grep -c '^agentd-verifier:' packaging/lintian-overrides-agentd-verifier) overrides"
else
	cat "$work/lintian"
	bad "lintian: agentd-verifier"
fi
PATH="$work/bin:$PATH" rpmlint -c packaging/rpmlint.toml "$verifier_rpm" >"$work/rpmlint" 2>&1 || true
if grep -q ' 0 errors, 0 warnings,' "$work/rpmlint"; then
	ok "rpmlint: agentd-verifier: no errors, no warnings"
else
	cat "$work/rpmlint"
	bad "rpmlint: agentd-verifier"
fi
mkdir "$work/verifier"
dpkg-deb -x "$verifier" "$work/verifier"
for page in 8/agentd-verifier.8 5/agentd-verifier-config.toml.5; do
	if ! gzip -dc "$work/verifier/usr/share/man/man$page.gz" | LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 - 2>"$work/man" >"$work/page" || [ -s "$work/man" ] || [ "$(wc -l <"$work/page")" -lt 60 ]; then
		cat "$work/man"
		bad "manual page ${page#*/} of agentd-verifier: $(wc -l <"$work/page") lines"
	fi
done
case "$(gzip -dc "$work/verifier/usr/share/doc/agentd-verifier/licenses.gz" | words)" in
*"$licence"*pgx*) ;;
*) bad "licence: not in agentd-verifier" ;;
esac
own=$work/verifier-rpm
stubs "$own"
rm -f "$own/calls/log"
mkdir -p "$own/run/systemd/system"
in_own() { rpm --root "$own" --dbpath /var/lib/rpm "$@" >"$work/rpm.out" 2>&1 && said; }
# called WORDS...: checks which programs the scripts of the package called, and in which order.
called() {
	printf '%s\n' "$@" >"$work/want"
	diff "$work/want" "$own/calls/log" || bad "agentd-verifier: the scripts called other programs than on the left"
	rm -f "$own/calls/log"
}
if ! in_own -i --nodeps --ignorearch "$verifier_rpm" || [ -s "$work/rpm.log" ]; then
	cat "$work/rpm.log"
	bad "rpm: agentd-verifier does not install"
fi
called "systemd-sysusers agentd-verifier.conf" "systemctl daemon-reload" "systemctl --no-reload preset agentd-verifier.service"
(cd "$work/verifier" && find . -type f) | grep -Ev '^\./usr/share/lintian/|changelog\.Debian' | while read -r file; do cmp "$work/verifier/$file" "$own/$file" || echo "differs: $file"; done >"$work/contents" 2>&1
[ ! -s "$work/contents" ] || { cat "$work/contents"; bad "agentd-verifier: deb and rpm differ"; }
grep -q '^disable agentd-verifier.service$' "$own/usr/lib/systemd/system-preset/80-agentd-verifier.preset" || bad "rpm: agentd-verifier is enabled when it is installed"
in_own -U --force --nodeps --ignorearch "$verifier_rpm" || bad "rpm: upgrade of agentd-verifier"
called "systemd-sysusers agentd-verifier.conf" "systemctl daemon-reload" "systemctl daemon-reload" "systemctl try-restart agentd-verifier.service"
echo "# changed" >>"$own/etc/agentd-verifier/config.toml"
in_own -e --nodeps agentd-verifier || bad "rpm: removal of agentd-verifier"
called "systemctl --no-reload disable agentd-verifier.service" "systemctl stop agentd-verifier.service" "systemctl daemon-reload"
[ -e "$own/etc/agentd-verifier/config.toml.rpmsave" ] || bad "rpm: removal takes the configuration"
dpkg-deb --ctrl-tarfile "$verifier" | tar -xf - -C "$own"
for call in "/postinst configure" "/prerm upgrade 2" "/postinst configure 1" "/prerm remove" "/postrm remove" "/postrm purge"; do
	# shellcheck disable=SC2086 # words
	chroot "$own" $call >>"$work/removed" 2>&1 || bad "deb: agentd-verifier: $call"
done
deb="deb-systemd-helper unmask agentd-verifier.service
deb-systemd-helper update-state agentd-verifier.service
systemctl --system daemon-reload"
called "systemd-sysusers agentd-verifier.conf" "$deb" "systemd-sysusers agentd-verifier.conf" "$deb" "deb-systemd-invoke try-restart agentd-verifier.service" \
	"deb-systemd-invoke stop agentd-verifier.service" "deb-systemd-helper mask agentd-verifier.service" "systemctl --system daemon-reload" \
	"deb-systemd-helper purge agentd-verifier.service" "deb-systemd-helper unmask agentd-verifier.service" "systemctl --system daemon-reload"
[ "$(cat "$own/conffiles")" = /etc/agentd-verifier/config.toml ] || bad "deb: agentd-verifier: configuration files: $(cat "$own/conffiles")"
mkdir "$work/state"
sed "s,127.0.0.1:8443,127.0.0.1:0,; s,/var/lib/agentd-verifier,$work/state," "$work/verifier/etc/agentd-verifier/config.toml" >"$work/state/config.toml"
program=$work/verifier/usr/sbin/agentd-verifier
"$program" check --config "$work/state/config.toml" >"$work/state/said" 2>&1 || { cat "$work/state/said"; bad "agentd-verifier: its configuration cannot be used"; }
"$program" serve --config "$work/state/config.toml" 2>"$work/state/log" &
served=$!
address=
for _ in $(seq 300); do
	address=$(sed -n 's/.*serving.*clients=\(127[0-9.:]*\).*/\1/p' "$work/state/log")
	[ -z "$address" ] || break
	sleep 0.1
done
if [ "$(curl -sS "http://$address/readyz")" = ok ] && [ "$(curl -sS "http://$address/v1/challenges" -d '{}' | jq -r .code)" = no-such-path ] && kill -TERM "$served" && wait "$served"; then
	ok "agentd-verifier: serves with the configuration of the package, and ends; $(wc -c <"$program") bytes, in deb and rpm, and the calls of their scripts"
else
	cat "$work/state/log"
	bad "agentd-verifier: does not serve"
fi

# The kit for other verifiers, without the source: its own adapter and the agentctl of the tarball pass
# some cases, and a verifier that accepts everything does not.
mkdir "$work/kit"
tar -xzf "$(ls "$out"/conformance/agentd-conformance-*.tar.gz)" -C "$work/kit" --strip-components=1
for file in LICENSE licenses-agentd-conformance.gz docs/conformance.md docs/evidence.md docs/checks.md docs/policy.md; do
	[ -s "$work/kit/$file" ] || bad "kit: no $file"
done
kit() { (cd / && AGENTCTL="$work/tar/agentctl" "$work/kit/agentd-conformance" --run 'accepted-0*' --run 'quote-magic-*' "$@" >"$work/kit/said" 2>&1); }
if kit --verifier "$work/kit/adapters/agentctl" && [ "$(tail -n 1 "$work/kit/said")" = "PASS: 11 cases." ]; then
	ok "kit: $("$work/kit/agentd-conformance" --list | wc -l) cases in one program, $(wc -c <"$work/kit/agentd-conformance") bytes"
else
	cat "$work/kit/said"
	bad "kit: the adapter of agentctl"
fi
printf '#!/bin/sh\necho "{\\"verdict\\": \\"accept\\"}"\n' >"$work/kit/yes"
chmod 0755 "$work/kit/yes"
if kit --verifier "$work/kit/yes" || ! tail -n 1 "$work/kit/said" | grep -q '^FAIL: the verifier ACCEPTED 2 cases'; then
	cat "$work/kit/said"
	bad "kit: a verifier that accepts everything"
fi

# Signatures, with a key that is thrown away.
export GNUPGHOME="$work/gnupg"
mkdir -m 0700 "$GNUPGHOME" "$work/signed"
cp "$out"/*.* "$work/signed"
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key 'agentd test <test@agentd.invalid>' ed25519 sign never 2>"$work/gpg" || bad "gpg: $(cat "$work/gpg")"
sign() { packaging/sign.sh test@agentd.invalid "$work/signed"/*.deb "$work/signed"/*.rpm "$work/signed"/*.tar.gz; }
if sign >"$work/sign" 2>&1 && sign >>"$work/sign" 2>&1; then # twice: the second replaces the first
	ok "sign: $(tail -n 1 "$work/sign" | cut -d ' ' -f 2-3) and the others"
else
	cat "$work/sign"
	bad "sign"
fi
if packaging/sign.sh unknown@agentd.invalid "$work/signed"/*.deb >"$work/sign" 2>&1; then bad "sign: an unknown key is accepted"; fi
gpg --batch --quiet --armor --export test@agentd.invalid >"$work/key.asc"
# verify_deb FILE: checks the signature over the members before it, as debsig-verify does.
verify_deb() {
	ar p "$1" _gpgorigin >"$work/_gpgorigin"
	for member in $(ar t "$1" | grep -v '^_gpgorigin$'); do ar p "$1" "$member"; done | gpg --batch --verify "$work/_gpgorigin" - >"$work/gpg" 2>&1
}
rpm --dbpath "$work/keys" --import "$work/key.asc" >/dev/null 2>&1
verify_rpm() { rpm --dbpath "$work/keys" --define '_pkgverify_level all' -K "$1" >"$work/gpg" 2>&1 && grep -q 'signatures OK' "$work/gpg"; }
verify_sums() { (cd "$work/signed" && gpg --batch --verify SHA256SUMS.asc SHA256SUMS && sha256sum --strict -c SHA256SUMS) >"$work/gpg" 2>&1; }
verify_sums || { cat "$work/gpg"; bad "sign: SHA256SUMS"; }
[ "$(wc -l <"$work/signed/SHA256SUMS")" = 5 ] || bad "sign: SHA256SUMS has $(wc -l <"$work/signed/SHA256SUMS") lines"
for name in $names; do
	d=$(ls "$work/signed/$name"_*.deb)
	r=$(ls "$work/signed/$name"-*.rpm)
	verify_deb "$d" || { cat "$work/gpg"; bad "sign: $d"; }
	[ "$(ar t "$d" | grep -c _gpgorigin)" = 1 ] || bad "sign: $d has two signatures"
	dpkg-deb -c "$d" >/dev/null || bad "sign: dpkg does not read $d"
	verify_rpm "$r" || { cat "$work/gpg"; bad "sign: $r"; }
	if verify_deb "$(deb_of "$name")" 2>/dev/null || verify_rpm "$(rpm_of "$name")"; then bad "sign: an unsigned package has a signature: $name"; fi
	for file in "$d" "$r"; do # one byte in the middle
		size=$(stat -c %s "$file")
		byte=$(od -An -tu1 -j $((size / 2)) -N 1 "$file" | tr -d ' ')
		# shellcheck disable=SC2059 # the format is the byte
		printf "\\$(printf %03o $((byte ^ 1)))" | dd of="$file" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
	done
	if verify_deb "$d" || verify_rpm "$r"; then bad "sign: a changed package still has its signature: $name"; fi
done
if verify_sums; then bad "sign: SHA256SUMS does not notice a change"; fi
gpgconf --kill all
ok "sign: deb, rpm and tarball verify, and do not after a change of one bit"

if [ "$failed" = 0 ]; then echo "packages: ok"; else echo "packages: FAILED"; fi
exit "$failed"
