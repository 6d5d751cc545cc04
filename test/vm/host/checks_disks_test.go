// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"

	"github.com/cvm-agentd/agentd/api"
)

// The volume of the checks, and where its file system is.
const (
	volumeDisk = "/dev/vdc"
	volumeUnit = "systemd-cryptsetup@data.service"
)

// volumeHas checks that the volume is open and mounted, with its content.
func (s *session) volumeHas() {
	s.t.Helper()
	s.eventually("systemctl is-active " + volumeUnit + " srv.mount")
	s.want("cat /srv/content; findmnt -no SOURCE /srv", "what the disk keeps", "/dev/mapper/data")
}

// volumeOpens encrypts the second disk, enrols it and opens it through crypttab.
func (s *session) volumeOpens() {
	s.run(`set -e
head -c 32 /dev/urandom >/root/recovery.key
cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /root/recovery.key ` + volumeDisk + `
agentctl disk enroll ` + volumeDisk + ` --name data --key-file /root/recovery.key --yes
systemctl start ` + volumeUnit + `
mke2fs -q -t ext4 /dev/mapper/data
echo '/dev/mapper/data /srv ext4 nofail,x-systemd.device-timeout=10min 0 0' >>/etc/fstab
systemctl daemon-reload; systemctl start srv.mount; echo "what the disk keeps" >/srv/content; sync`)
	s.volumeHas()
	s.want("agentctl disk check data; agentctl disk list", "data")
	s.run("systemctl stop srv.mount " + volumeUnit + " && systemctl start " + volumeUnit + " srv.mount")
	s.volumeHas()
	s.volumeRotated()
}

// volumeRotated rotates the key of the volume, and checks that the recovery key and one key of the
// agent are left.
func (s *session) volumeRotated() {
	s.t.Helper()
	s.run("agentctl disk rotate data && agentctl disk check data")
	s.want("cryptsetup luksDump --dump-json-metadata "+volumeDisk+" | jq -c '[(.keyslots|length), (.digests|length)]'", "[2,1]")
	s.run("cryptsetup open --test-passphrase --key-file /root/recovery.key " + volumeDisk)
}

// forge is a script that changes the metadata of a LUKS2 volume by a jq filter, in both copies and
// with valid checksums, as the owner of the disk can.
const forge = `python3 - %s '%s' <<'EOF'
import hashlib, json, struct, subprocess, sys
with open(sys.argv[1], "r+b") as f:
    for start in (0, None):
        if start is None:
            start = size
        f.seek(start)
        head = bytearray(f.read(4096))
        size = struct.unpack(">Q", head[8:16])[0]
        f.seek(start + 4096)
        text = f.read(size - 4096).split(b"\0")[0]
        text = subprocess.run(["jq", "-c", sys.argv[2]], input=text, stdout=subprocess.PIPE, check=True).stdout.strip()
        area = text.ljust(size - 4096, b"\0")
        head[448:512] = bytes(64)
        head[448:480] = hashlib.sha256(bytes(head) + area).digest()
        f.seek(start)
        f.write(bytes(head) + area)
EOF`

// volumeForged writes headers as the owner of the disk can: one with a cipher that encrypts
// nothing, one with another segment, one with a key slot more. The volume does not open, and the
// journal of its unit says why. With the header of before it opens again.
func (s *session) volumeForged() {
	s.run("systemctl stop srv.mount " + volumeUnit + " && rm -f /root/good && cryptsetup luksHeaderBackup " + volumeDisk + " --header-backup-file /root/good")
	restore := "dd if=/root/good of=" + volumeDisk + " conv=notrunc,fsync bs=1M status=none"
	for _, forged := range []struct {
		code   api.Code
		script string
	}{
		{api.CodeDiskCipher, fmt.Sprintf(forge, volumeDisk, `.segments["0"].encryption = "cipher_null-ecb"`)},
		{api.CodeDiskChanged, fmt.Sprintf(forge, volumeDisk, `.segments["0"].offset = "20971520"`)},
		{api.CodeDiskSlot, "cryptsetup luksAddKey --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /root/recovery.key " + volumeDisk + " /root/good --new-keyfile-size 32"},
	} {
		s.run(forged.script)
		s.fails("agentctl disk check data --json", `"code":"`+string(forged.code)+`"`)
		s.fails("systemctl start " + volumeUnit)
		s.want("test ! -e /dev/mapper/data && journalctl --sync && journalctl -q -o cat --no-pager -n 30 -u "+volumeUnit, "agentctl: ", "hint: find out who wrote this disk")
		s.run(restore + "; systemctl reset-failed " + volumeUnit)
	}
	s.run("rm /root/good; systemctl start " + volumeUnit + " srv.mount")
	s.volumeHas()
}

// volumeCut cuts the power while the key of the volume is rotated, one time after the other. At
// the next boot the volume opens by itself, and the rotation is finished or taken back by the next
// one.
func (s *session) volumeCut() {
	s.run(`rm -f /tmp/rotated; touch /tmp/rotated; sync
(while agentctl disk rotate data >/tmp/rotate.log 2>&1; do echo >>/tmp/rotated; done) >/dev/null 2>&1 &
a=$(date +%s%N); until [ $(wc -l </tmp/rotated) -ge 2 ]; do sleep 0.05; done; b=$(date +%s%N)
sleep $(awk -v t=$((b-a)) 'BEGIN { srand(); printf "%.3f", rand() * t / 2e9 }')`)
	s.machine.cut()
	s.must(s.machine.start(s.ctx, direct))
	s.volumeHas()
	s.volumeRotated()
	s.volumeHas()
}

// volumeRecovered opens the volume with the recovery key on a machine whose agent has no keys, and
// which did not open it at boot.
func (s *session) volumeRecovered() {
	s.fails("systemctl is-active " + volumeUnit)
	s.run("cryptsetup open --key-file /root/recovery.key " + volumeDisk + " recovered && mount /dev/mapper/recovered /mnt")
	s.want("cat /mnt/content", "what the disk keeps")
	s.run("umount /mnt && cryptsetup close recovered")
}
