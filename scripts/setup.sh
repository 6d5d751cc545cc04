#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# setup.sh demo|check|test|tunnel|package|engines|vm|page: checks that the programs are installed that
# these make targets use. As root on a Debian-like system it installs them. Otherwise it prints the
# command to do so, and fails.
set -eu

case "${1:-}" in
demo) wanted="swtpm:swtpm curl:curl jq:jq" ;;
check) wanted="shellcheck:shellcheck" ;;
test) wanted="swtpm:swtpm swtpm_setup:swtpm-tools tpm2_checkquote:tpm2-tools curl:curl jq:jq openssl:openssl gcc:gcc python3:python3 mke2fs:e2fsprogs mount:mount systemd-analyze:systemd systemd-sysusers:systemd systemd-tmpfiles:systemd unshare:util-linux nsenter:util-linux cryptsetup:cryptsetup-bin sshd:openssh-server ssh:openssh-client ssh-add:openssh-client zsh:zsh fish:fish node:nodejs tsc:node-typescript mypy:mypy" ;;
tunnel) wanted="swtpm:swtpm curl:curl openssl:openssl" ;;
package) wanted="curl:curl lintian:lintian rpmlint:rpmlint rpm:rpm cpio:cpio busybox:busybox-static man:man-db git:git jq:jq gpg:gpg gpgconf:gpgconf rpmsign:rpm ar:binutils zsh:zsh fish:fish python3:python3 tsc:node-typescript" ;;
engines) wanted="runc:runc" ;;
page) wanted="chromium:chromium" ;;
vm) wanted="mmdebstrap:mmdebstrap qemu-system-x86_64:qemu-system-x86 swtpm:swtpm mke2fs:e2fsprogs jq:jq" ;;
*)
	echo "usage: scripts/setup.sh demo|check|test|tunnel|package|engines|vm|page" >&2
	exit 1
	;;
esac

packages=
for w in $wanted; do
	command -v "${w%%:*}" >/dev/null 2>&1 && continue
	case " $packages " in *" ${w##*:} "*) ;; *) packages="$packages ${w##*:}" ;; esac
done
# The race detector links against the C library. gcc does not install its headers.
if [ "$1" = test ] && [ ! -e /usr/include/stdlib.h ]; then
	packages="$packages libc6-dev"
fi
# Since Debian 13, systemd-cryptsetup has a package of its own.
release=$(sed -n 's/^VERSION_ID="\([0-9]*\)".*/\1/p' /etc/os-release 2>/dev/null || true)
if [ "$1" = test ] && [ "${release:-0}" -ge 13 ] && grep -q '^ID=debian' /etc/os-release &&
	[ ! -e /usr/bin/systemd-cryptsetup ] && [ ! -e /usr/lib/systemd/systemd-cryptsetup ]; then
	packages="$packages systemd-cryptsetup"
fi
# The verifier in Python needs a module.
if [ "$1" = test ] && ! { python3 -c 'import cryptography' || /usr/bin/python3 -c 'import cryptography'; } 2>/dev/null; then
	packages="$packages python3-cryptography"
fi
# So does the client of attested TLS in Python.
if [ "$1" = test ] && ! { python3 -c 'import OpenSSL' || /usr/bin/python3 -c 'import OpenSSL'; } 2>/dev/null; then
	packages="$packages python3-openssl"
fi
# The completion of bash needs more than bash.
case $1 in test | package) completion=/usr/share/bash-completion/bash_completion ;; *) completion=/ ;; esac
if [ ! -e $completion ]; then
	packages="$packages bash-completion"
fi
# QEMU has no UEFI firmware of its own.
if [ "$1" = vm ] && [ ! -e /usr/share/OVMF/OVMF_CODE_4M.fd ]; then
	packages="$packages ovmf"
fi
# The Go command fetches modules over TLS.
if [ ! -e /etc/ssl/certs/ca-certificates.crt ] && [ -e /etc/debian_version ]; then
	packages="$packages ca-certificates"
fi

# The package of promtool starts a server when it is installed. So the program alone is taken out
# of it. Without it the tests use the libraries that it consists of.
unpacked=
case $1 in test) unpacked="promtool:prometheus" ;; esac
unpack() {
	program=${1%%:*} package=${1##*:}
	! command -v "$program" >/dev/null 2>&1 || return 0
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || return 0
	dir=$(mktemp -d)
	if (
		cd "$dir"
		get() { apt-get -o Acquire::Retries=3 download "$package"; }
		{ get || { apt-get update && get; }; } && dpkg-deb -x ./*.deb . && install -m 0755 "usr/bin/$program" /usr/local/bin/
	) >/dev/null 2>&1; then
		echo "setup: took $program out of the package $package"
	else
		echo "setup: could not get $program from the package $package: its tests are skipped" >&2
	fi
	rm -rf "$dir"
}
unpack_all() {
	for u in $unpacked; do unpack "$u"; done
	[ "$target" != tunnel ] || unpack_servers
}

# Packages of servers start them when they are installed, and again at each boot. So the programs are
# taken out of the packages, with the libraries that are not installed, into a folder of their own.
# test/tunnel/servers looks there, and for programs that the machine has.
servers=/usr/local/lib/agentd-test-servers
# missing NAME PATTERN...: succeeds if no file fits a pattern, there or here.
missing() {
	for pattern; do
		for file in "$servers"$pattern $pattern; do [ ! -x "$file" ] || return 1; done
	done
}
unpack_servers() {
	get=
	missing /usr/sbin/nginx && get="$get nginx"
	missing /usr/bin/stunnel4 && get="$get stunnel4"
	missing '/usr/lib/postgresql/*/bin/postgres' '/usr/lib/postgresql/*/bin/initdb' && get="$get postgresql"
	missing '/usr/lib/postgresql/*/bin/psql' && get="$get postgresql-client"
	[ -n "$get" ] || return 0
	if ! [ "$(id -u)" = 0 ] || ! command -v apt-get >/dev/null 2>&1; then
		echo "setup: not installed:$get: install these packages, or run this as root" >&2
		return 1
	fi
	dir=$(mktemp -d)
	mkdir "$dir/partial"
	said=$(mktemp)
	# shellcheck disable=SC2086 # a list of words
	fetch_servers() { apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 -o APT::Sandbox::User=root -o Dir::Cache::archives="$dir" install -y --download-only --no-install-recommends $get; }
	if { fetch_servers || { apt-get update && fetch_servers; }; } >"$said" 2>&1; then
		for deb in "$dir"/*.deb; do
			case ${deb##*/} in libllvm*) continue ;; esac # large, and for a compiler that is not used
			dpkg-deb -x "$deb" "$dir/tree"
		done
		mkdir -p "$servers"
		cp -a "$dir/tree/." "$servers/"
		echo "setup: took out of packages, into $servers:$get"
		rm -rf "$dir" "$said"
		return
	fi
	tail -n 20 "$said" >&2
	echo "setup: could not get the packages of$get: see the lines above" >&2
	rm -rf "$dir" "$said"
	return 1
}
target=$1

if [ -z "$packages" ]; then
	unpack_all
	exit 0
fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "setup: installing$packages"
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	# Mirrors fail sometimes, and another process may be installing.
	again="-o Acquire::Retries=3 -o DPkg::Lock::Timeout=120"
	# shellcheck disable=SC2086 # lists of words
	fetch() { apt-get $again update && DEBIAN_FRONTEND=noninteractive apt-get $again install -y --no-install-recommends $packages; }
	if ! { fetch || { sleep 10 && fetch; }; } >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		echo "setup: could not install$packages: see the lines above" >&2
		exit 1
	fi
	unpack_all
	exit 0
fi
echo "setup: these packages are not installed:$packages" >&2
echo "setup: install them as root, then run this again:" >&2
echo "    apt-get install --no-install-recommends$packages" >&2
exit 1
