#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prepare.sh: prepares this machine for the virtual one, and prints the file that the image
# is made from. If the virtual machine cannot run here, it prints why and fails.
#
# scripts/setup.sh installs programs. The file contains a Debian from a mirror, and nothing
# of this project. It is fetched once and kept in VM_CACHE. SUITE is Debian's: trixie (13, with
# systemd 257) or bookworm (12, with systemd 252).
set -eu
cd "$(dirname "$0")/../.."
: "${VM_CACHE:=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/agentd-vm}"
suite=${SUITE:-trixie}
packages=systemd-sysv,udev,dbus,libpam-systemd,linux-image-cloud-amd64,initramfs-tools,jq,util-linux,kmod,python3
case ${TEST:-} in
# Engines of containers (make test-vm-containers).
TestContainers)
	packages=$packages,podman,crun,docker.io
	[ "$suite" = bookworm ] || packages=$packages,docker-cli
	;;
# What the readers of the documents have besides (make test-walks).
TestWalks) packages=$packages,swtpm,openssl,curl,age,tpm2-tools,rpm,dnf,dnf-plugins-core,ca-certificates ;;
# Services that are not changed, encrypted disks, and what systemd needs for them and for a TPM.
*)
	packages=$packages,nginx-light,postgresql,openssl,cryptsetup-bin,e2fsprogs,tpm2-tools
	[ "$suite" = bookworm ] || packages=$packages,systemd-cryptsetup
	;;
esac
# Boot loaders are not installed: the image gets only their files.
loaders="shim-signed grub-efi-amd64-signed"

cannot() {
	echo "test-vm: $*" >&2
	exit 1
}
[ "$(uname -m)" = x86_64 ] || cannot "$(uname -m) is not x86-64"
[ "$(id -u)" = 0 ] || cannot "not root: the image's files get owners"
memory=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
[ "$memory" -ge 3000 ] || cannot "$memory MiB of memory are available, 3000 are needed"
mkdir -p "$VM_CACHE"
for dir in "$VM_CACHE" /var/tmp; do
	disk=$(df -m --output=avail "$dir" | tail -n 1 | tr -d ' ')
	[ "$disk" -ge 4000 ] || cannot "$disk MiB are free in $dir, 4000 are needed"
done
out=$(scripts/setup.sh vm 2>&1) || cannot "programs are missing: $(echo "$out" | tail -n 1 | sed 's/^ *//')"

base=$VM_CACHE/base-$suite-$(echo "$packages $loaders" | sha256sum | cut -c 1-16).tar
if [ ! -e "$base" ]; then
	begin=$(date +%s)
	new=$(mktemp "$base.XXXXXX")
	log=$(mktemp)
	trap 'rm -f "$new" "$log"' EXIT
	trap 'exit 1' INT TERM
	# shellcheck disable=SC2016 # mmdebstrap's shell expands them
	unpack='cd "$1/boot" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download '$loaders' >&2 &&
		for d in *.deb; do dpkg-deb -x "$d" loaders && rm "$d"; done'
	fetch() { timeout 400 mmdebstrap --quiet --variant=minbase --include="$packages" --customize-hook="$unpack" --format=tar "$suite" - >"$new" 2>"$log"; }
	# Mirrors fail sometimes.
	fetch || { sleep 10 && fetch; } || cannot "no Debian $suite from a mirror: $(grep -m 1 '^E: ' "$log" || tail -n 1 "$log")"
	mv "$new" "$base"
	echo "test-vm: fetched Debian $suite in $(($(date +%s) - begin)) s" >&2
fi
echo "$base"
