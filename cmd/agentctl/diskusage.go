// SPDX-License-Identifier: Apache-2.0

package main

const diskUsage = `Usage: agentctl disk COMMAND

Volumes that are encrypted with LUKS2, and that open at boot with a key which only the
agent of this machine has. The host can write to a disk at any time, so the key is given
out only for the header that was recorded.

  enroll DEVICE   add a key slot of the agent, and record the header
  list            enrolled volumes
  check NAME      compare the header on the device with the recorded one
  rotate NAME     a new key and key slot in place of the agent's
  remove NAME     remove the agent's key slot and forget the key
  prepare NAME    what the unit of the volume runs first: check the header, and copy it
                  into memory, for systemd-cryptsetup

Volumes with data are meant, not the root file system: the agent starts from that.

Exit codes: 7 not permitted to this caller, 8 a header is not the recorded one, or the
record cannot be opened.

Examples:
  agentctl disk enroll /dev/vdb --name data --key-file recovery.key
  agentctl disk check data
`

const diskEnrollUsage = `Usage: agentctl disk enroll DEVICE --name NAME --key-file FILE... [flags]

Let the agent open a LUKS2 volume. The command checks the header, adds a key slot with
a random key that the agent seals, records the header, and writes a line in
/etc/crypttab and a drop-in of systemd-cryptsetup@NAME.service.

The key slots that the volume has are its recovery: they open it on any machine. Every
one must be opened by a given key. One that is not could be another party's.

  --name NAME       name of the volume: it opens as /dev/mapper/NAME; required
  --key-file FILE   the key of a key slot, as for cryptsetup: all of the file counts,
                    a line feed at its end too; may be repeated; required
  --lose-on-hardware-change
                    remove those key slots: what the agent cannot open is lost
  --replace         record a volume anew that is enrolled, after its header was changed
  --no-crypttab     write no line and no drop-in
  --yes             write them without asking

Volumes are accepted with AES in XTS mode, one segment, up to 8 key slots, and neither
tokens nor integrity. docs/disks.md says what that protects from.

Examples:
  cryptsetup luksFormat --type luks2 --key-file recovery.key /dev/vdb
  agentctl disk enroll /dev/vdb --name data --key-file recovery.key
`

const diskListUsage = `Usage: agentctl disk list [--json]

List the enrolled volumes: key slots, header, and whether the record opens.

Examples:
  agentctl disk list
`

const diskCheckUsage = `Usage: agentctl disk check NAME [--device PATH] [--json]

Compare the header on the device with the recorded one, and say whether the volume opens
at the next boot: crypttab, drop-in, key slots.

  --device PATH   the device (default: that with the recorded UUID, or else the one that
                  was enrolled)

Exit codes: 8 the header is not the recorded one, or the record cannot be opened.

Examples:
  agentctl disk check data
`

const diskPrepareUsage = `Usage: agentctl disk prepare NAME [--device PATH]

Check the header on the device, and write a copy of it to memory, from which
systemd-cryptsetup opens the volume. The drop-in of the volume's unit runs this before
each start.

  --device PATH   the device (default: that with the recorded UUID, or else the one that
                  was enrolled)

Exit codes: 8 the header is not the recorded one, or the record cannot be opened.

Examples:
  agentctl disk prepare data
`

const diskRotateUsage = `Usage: agentctl disk rotate NAME [--device PATH] [--json]

Give the agent a new key and key slot, and remove the former one. The volume may be in
use. After a crash or a power cut the volume opens, and the same command ends what was
begun. The key that encrypts the data stays: a party that had the former key and the
former header has that.

  --device PATH   the device (default: that with the recorded UUID, or else the one that
                  was enrolled)

Exit codes: 8 the header is not the recorded one, or the record cannot be opened.

Examples:
  agentctl disk rotate data
`

const diskRemoveUsage = `Usage: agentctl disk remove NAME [--device PATH] [--forget] [--json]

Remove the agent's key slot, the line in /etc/crypttab and the drop-in, and have the
agent forget the key. The recovery key opens the volume as before.

  --device PATH   the device (default: that with the recorded UUID, or else the one that
                  was enrolled)
  --forget        leave the device as it is: for one that is gone, or whose header
                  was changed

Exit codes: 8 the header is not the recorded one, or the record cannot be opened.

Examples:
  agentctl disk remove data
`
