#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh CACHE GUEST BASE: builds the machine's disk in the empty folder CACHE, and prints
# only errors. It does not mount a file system. GUEST is the program of test/vm/guest, BASE
# the file of test/vm/prepare.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=$1
guest=$2
base=$3

root=$cache/root
rm -rf "$root"
mkdir -p "$root"
tar -x -p --numeric-owner --exclude='./dev/*' -C "$root" -f "$base"
mv "$root"/boot/vmlinuz-* "$cache/vmlinuz"
mv "$root"/boot/initrd.img-* "$cache/initrd"
# What UEFI firmware boots from: shim, GRUB, and what GRUB loads.
esp=$cache/esp
mkdir -p "$esp/EFI/BOOT" "$esp/EFI/debian"
mv "$root/boot/loaders/usr/lib/shim/shimx64.efi.signed" "$esp/EFI/BOOT/BOOTX64.EFI"
mv "$root/boot/loaders/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" "$esp/EFI/BOOT/grubx64.efi"
ln "$cache/vmlinuz" "$cache/initrd" "$esp/"
install -m 0644 "$here/grub.cfg" "$esp/EFI/debian/grub.cfg"
# The command linux of Debian 12's GRUB passes by the kernel's EFI stub unless Secure Boot is on. The
# stub hands the firmware's log over, and linuxefi always goes through it.
case $base in *base-bookworm-*) sed -i 's/^linux /linuxefi /; s/^initrd /initrdefi /' "$esp/EFI/debian/grub.cfg" ;; esac
rm -rf "$root/boot/loaders"

install -m 0755 "$guest" "$root/usr/local/sbin/vmguest"
install -D -m 0755 "$guest" "$root/opt/billing/billing"
# A root directory like that of a container engine, and a virtual environment.
install -D -m 0755 "$guest" "$root/var/lib/web/root/opt/web/bin/web"
install -D -m 0644 "$here/report.py" "$root/opt/report/src/report.py"
chroot "$root" python3 -m venv --without-pip /opt/report/venv
for unit in driver sevguest tsm tsm-svsm billing web report; do
	install -m 0644 "$here/$unit.service" "$root/etc/systemd/system/$unit.service"
done
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
for unit in driver sevguest; do
	ln -s "/etc/systemd/system/$unit.service" "$root/etc/systemd/system/multi-user.target.wants/$unit.service"
done
install -D -m 0644 "$here/sevguest.rules" "$root/etc/udev/rules.d/61-sevguest.rules"
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer systemd-networkd-wait-online.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# The services of packages start when a check starts them.
for unit in nginx postgresql docker containerd podman podman-restart podman-clean-transient podman-auto-update; do
	rm -f "$root/etc/systemd/system/multi-user.target.wants/$unit.service" "$root/etc/systemd/system/default.target.wants/$unit.service"
done
rm -f "$root"/etc/systemd/system/timers.target.wants/podman-auto-update.timer
printf '%s\n' billing:x:1200:1200::/nonexistent:/usr/sbin/nologin web:x:1201:1201::/nonexistent:/usr/sbin/nologin \
	report:x:1202:1202::/nonexistent:/usr/sbin/nologin alice:x:1500:1500::/home/alice:/bin/bash >>"$root/etc/passwd"
printf '%s\n' billing:x:1200: web:x:1201: report:x:1202: alice:x:1500: >>"$root/etc/group"
printf '%s:!:1::::::\n' billing web report alice >>"$root/etc/shadow"
install -d -o 1500 -g 1500 "$root/home/alice"
echo vm >"$root/etc/hostname"
# These take seconds at each boot and each daemon-reload on an emulated processor, and have
# nothing to do in this machine.
mkdir -p "$root/etc/systemd/system-generators"
for generator in debug gpt-auto hibernate-resume rc-local run ssh system-update sysv; do
	ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$generator-generator"
done
ln -s /dev/null "$root/etc/systemd/system-generators/postgresql-generator"
printf 'blacklist %s\n' kvm_amd kvm_intel kvm powernow_k8 acpi_cpufreq aesni_intel ghash_clmulni_intel cryptd edac_mce_amd \
	amd64_edac sha1_ssse3 sha256_ssse3 sha512_ssse3 >"$root/etc/modprobe.d/test.conf"
# After a power cut the test reads what was written to disk: the journal must not delay it.
install -d "$root/etc/systemd/journald.conf.d" "$root/var/log/journal"
printf '[Journal]\nStorage=persistent\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/test.conf"
"$guest" prepare "$root/var/lib/sevguest"
cp "$root/var/lib/sevguest/test-root.pem" "$root/var/lib/sevguest/measurement" "$cache/"

mke2fs -q -t ext4 -O verity -L root -d "$root" "$cache/disk" 3G >/dev/null
rm -rf "$root"
