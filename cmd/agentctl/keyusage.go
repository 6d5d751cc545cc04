// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/cvm-agentd/agentd/api"

const keyUsage = `Usage: agentctl key COMMAND

Derive secrets of applications, and look after what is sealed.

For applications, over the client socket:
  derive           a secret of the calling application, the same after each restart
  public           public half of a key that it signs with (agentctl sign)
  certify          the TPM's word that it has such a key

For root, over the admin socket; none of these shows a secret:
  list             every sealed blob, and the state of the store
  show APP [NAME]  what a root or a secret opens on, and what would lock it out
  rewrap           seal everything to the machine as it is now
  rotate APP       a new version of the application's root; older ones stay
  retire APP N     forget version N of the root
  store-key        public half of the key that signs every blob
  rotate-store-key a new store key; what the old one signed is recovered no more
  recover          seal to this machine what only a recovery identity can still open
  recipients       other recovery recipients for everything, now and later
  accept-rollback  make an older state of the store, which was put back, the current one
  replace-ak       make a new attestation key if this TPM does not load the stored one
  require-digest   give an application its keys only while it has a digest
  authorize        allow one more digest, before an upgrade
  withdraw         allow one less
  lift-digest      no digest is required any more

To move everything to another image, for root (docs/upgrades.md):
  pin-release-key  the key that signs releases
  sign-release     name the images of a release, where the private key is
  prepare-upgrade  old machine: name the successors, and see what would go over
  upgrade-request  successor: ask, with evidence
  upgrade-answer   old machine: verify, and seal the store to the successor
  upgrade-accept   successor: take the store over
  upgrade-status   how far it is
  upgrade-abort    old machine: give it up, or go back
  upgrade-finish   successor: remove what the predecessor left

Exit codes: 7 not permitted to this caller, 8 a sealed blob cannot be opened.

Examples:
  agentctl key derive --label disk --length 32 --out /run/billing/disk.key
  agentctl key show billing
`

const keyDeriveUsage = `Usage: agentctl key derive --label TEXT --length BYTES [flags]

Derive a secret of the calling application. The same label, length and version give
the same bytes after each restart, and another application gets other ones. Only a
system unit that a declaration names gets them.

  --label TEXT      what the secret is for; required
  --length BYTES    length of the secret; required
  --version NUMBER  version of the application's root (default: the newest)
  --out FILE        a file of mode 0600, instead of standard output

Exit codes: 7 not an application's unit and user, 8 the store cannot be opened.

Examples:
  agentctl key derive --label disk --length 32 --out /run/billing/disk.key
`

const keyShowUsage = `Usage: agentctl key show APP [NAME] [--json]

Show what the root of an application opens on, or its secret of that name: chip,
launch, firmware, TPM and recovery recipients. Show what would lock it out.

Examples:
  agentctl key show billing
  agentctl key show billing db-password
`

const keyRotateUsage = `Usage: agentctl key rotate APP [--json]

Give an application a new version of its root. Secrets are derived from the newest
version by default. Older versions stay until "agentctl key retire".

Examples:
  agentctl key rotate billing
`

const keyRetireUsage = `Usage: agentctl key retire APP VERSION

Forget an older version of an application's root. What was derived from it cannot be
derived again.

Examples:
  agentctl key retire billing 1
`

const keyRecoverUsage = `Usage: agentctl key recover --identity FILE --store-key KEY --recipient AGE [flags]
       agentctl key recover --store-key KEY --recipient AGE

Seal to this machine what only a recovery identity can still open: the chip, the
launch or the TPM is another one. Only what the store key signed is taken. The files
on the disk are not asked who may recover from now on: name it.

Without --identity, salvage a store of which only the manifest is lost.

  --identity FILE   recovery identity, as age-keygen writes it
  --store-key KEY   what "agentctl key store-key" printed when the store was open
  --recipient AGE   a recovery recipient from now on; may be repeated
  --lose-on-hardware-change
                    from now on no recipient: another chip loses everything
  --accept-rollback
                    take a state that does not match the TPM's counter
  --trust-unknown-writer-of-this-disk
                    in place of --store-key: take over what an attacker may have
                    written. Applications derive from new roots then, and stored
                    secrets may be of an attacker's choice

Exit codes: 7 not permitted to this caller, 8 something stayed closed.

Examples:
  agentctl key recover --identity /media/usb/identity.txt \
      --store-key agentd-store-key:1f0a... --recipient age1...
`

const keyRecipientsUsage = `Usage: agentctl key recipients RECIPIENT...
       agentctl key recipients --lose-on-hardware-change

Seal everything to other recovery recipients, now and later. If one goes, the store
gets a new store key: keep it in place of the old one.

  --lose-on-hardware-change   no recipient: another chip loses everything

Examples:
  agentctl key recipients age1... age1...
`

const keyListUsage = `Usage: agentctl key list [--json]

Show the state of the store, and every sealed blob. Each is shown with the TCB and
the slot that it is sealed to, and the store with its recovery recipients and key.

Exit codes: 8 the store cannot be opened.

Examples:
  agentctl key list
`

const keyRewrapUsage = `Usage: agentctl key rewrap [--json]

Seal everything to the machine as it is now: its TCB, and its TPM. The agent does
this by itself at its start.

Exit codes: 8 something stayed closed.

Examples:
  agentctl key rewrap
`

const keyRotateStoreKeyUsage = `Usage: agentctl key rotate-store-key [--json]

Give the store a new store key, and sign every blob with it. What the old one signed
is recovered no more: keep the new one in its place.

Exit codes: 8 something stayed closed.

Examples:
  agentctl key rotate-store-key
`

const keyStoreKeyUsage = `Usage: agentctl key store-key [--json]

Print the public half of the key that signs every blob. Keep it with the recovery
identity, because recovery takes only what it signed. It is not a secret.

Exit codes: 8 the store cannot be opened.

Examples:
  agentctl key store-key > store-key.txt
`

const keyAcceptRollbackUsage = `Usage: agentctl key accept-rollback [--json]

Make an older state of the store, which was put back, the current one. What was
sealed since then is lost.

Exit codes: 8 the store cannot be opened.

Examples:
  agentctl key accept-rollback
`

const keyReplaceAKUsage = `Usage: agentctl key replace-ak [--json]

Make a new attestation key if this TPM does not load the stored one: the TPM was
cleared or replaced, or the file is damaged. A file keeps the old key. Verifiers have
to enrol the new one. The command refuses while the stored key loads.

Examples:
  agentctl key replace-ak
`

const keyRequireUsage = `Usage: agentctl key require-digest --app NAME [--digest DIGEST] [--json]

From now on give an application its keys only while it has this digest, or one that
"agentctl key authorize" adds.

  --app NAME       the application; required
  --digest DIGEST  64 hexadecimal digits (default: the digest measured now)

Examples:
  agentctl key require-digest --app billing
`

const keyAuthorizeUsage = `Usage: agentctl key authorize --app NAME --digest DIGEST [--json]

Allow one more digest to an application that requires its digest. Do this before you
upgrade the application.

  --app NAME       the application; required
  --digest DIGEST  64 hexadecimal digits; required

Examples:
  agentctl key authorize --app billing --digest 5f2b...
`

const keyWithdrawUsage = `Usage: agentctl key withdraw --app NAME --digest DIGEST [--json]

Allow one digest less. An application with that digest gets no keys any more.

  --app NAME       the application; required
  --digest DIGEST  64 hexadecimal digits; required

Examples:
  agentctl key withdraw --app billing --digest 5f2b...
`

const keyLiftUsage = `Usage: agentctl key lift-digest --app NAME [--json]

Require no digest of an application any more: its unit and user alone decide.

  --app NAME       the application; required
  --digest DIGEST  refused: the command lifts all

Examples:
  agentctl key lift-digest --app billing
`

// digestUsage returns the help of the command for an action.
func digestUsage(action api.DigestAction) string {
	switch action {
	case api.DigestRequire:
		return keyRequireUsage
	case api.DigestAuthorize:
		return keyAuthorizeUsage
	case api.DigestWithdraw:
		return keyWithdrawUsage
	}
	return keyLiftUsage
}
