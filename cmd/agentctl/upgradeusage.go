// SPDX-License-Identifier: Apache-2.0

package main

const keyPinReleaseKeyUsage = `Usage: agentctl key pin-release-key FILE [--json]

Pin the key that signs releases: from now on "agentctl key prepare-upgrade" takes only
what it signed. A store that is made pins the key of the configuration by itself
(release_key in [keys]); a file that is changed later changes nothing. A preparation
that is under way ends.

  FILE  public key: PEM with Ed25519 or with ECDSA on P-256 or P-384, or the file of a
        minisign public key

Examples:
  openssl pkey -in release-key.pem -pubout -out release-pub.pem
  agentctl key pin-release-key release-pub.pem
`

const keySignReleaseUsage = `Usage: agentctl key sign-release --release-key KEY --number N --measurement M... --release FILE --signature FILE [flags]

Name the images of a release, and sign that. The command needs no agent: run it where
the private key is. Other tools can sign the statement too: openssl pkeyutl -rawin,
or minisign.

  --release-key KEY   private key, Ed25519 or ECDSA on P-256 or P-384, PEM; required
  --number N          number of the release; a store never goes over to a lower one
  --measurement M     launch measurement of a successor: hexadecimal, base64 or @FILE;
                      may be repeated; "agentctl policy launch" computes it
  --product NAME      processor line that is accepted: milan, genoa or turin; may be
                      repeated (default: genoa and turin)
  --policy FILE       what a successor must meet, in place of --measurement and
                      --product: docs/policy.md
  --valid-for TIME    how long upgrades to this release may be prepared (default: 24h)
  --release FILE      file to write the statement to; required
  --signature FILE    file to write the signature to; required

Examples:
  agentctl key sign-release --release-key release-key.pem --number 7 \
      --measurement 5f2b... --release release.json --signature release.sig
`

const keyPrepareUpgradeUsage = `Usage: agentctl key prepare-upgrade --release FILE --signature FILE --out OFFER [flags]
       agentctl key prepare-upgrade --measurement M... --release-key KEY --out OFFER [flags]

Name the images that may take over the store of sealed blobs, on the old machine, and
print what would go over. Nothing goes over yet. The release must be signed by the key
that the store pinned. A preparation serves one successor, and a new one replaces it.

  --release FILE      release statement, as "agentctl key sign-release" writes it
  --signature FILE    its signature
  --valid-for TIME    how long the preparation is valid, at most 720h (default: 24h).
                      The host can set the clock of this machine
  --out OFFER         file to write the offer to, for "agentctl key upgrade-request";
                      required

To sign a release here, which needs the private key on this machine:

  --release-key KEY   private key that signs the release
  --number N          number of the release (default: that of this store)
  --measurement M     launch measurement of a successor; may be repeated
  --product NAME      processor line that is accepted; may be repeated
  --policy FILE       what a successor must meet, in place of the two

Examples:
  agentctl key prepare-upgrade --release release.json --signature release.sig --out offer
  agentctl key prepare-upgrade --measurement 5f2b... --release-key release-key.pem \
      --valid-for 24h --out offer
`

const keyUpgradeRequestUsage = `Usage: agentctl key upgrade-request OFFER [--out FILE]

Ask for the store of another image, on the successor. The request has fresh evidence of
this machine and a key that only this agent has; it is not secret. The store of this
machine must be new, or be that of the predecessor. Asking again is allowed.

  OFFER       what "agentctl key prepare-upgrade" wrote on the old machine
  --out FILE  file to write the request to, instead of standard output

Examples:
  agentctl key upgrade-request offer --out request
`

const keyUpgradeAnswerUsage = `Usage: agentctl key upgrade-answer REQUEST [--out FILE]

Verify the request of a successor by the preparation, on the old machine, and seal the
store to its key. From then on nothing is changed here, until "agentctl key
upgrade-abort". If the answer is lost, answer the same successor again.

  REQUEST     what "agentctl key upgrade-request" wrote on the successor
  --out FILE  file to write the answer to, instead of standard output

Examples:
  agentctl key upgrade-answer request --out answer
  ssh new agentctl key upgrade-request - <offer | agentctl key upgrade-answer - --out answer
`

const keyUpgradeAcceptUsage = `Usage: agentctl key upgrade-accept --store-key KEY ANSWER [--json]

Take over the store, on the successor: everything is sealed to this image and this
machine. What apps derive and sign with stays the same. In the folder of the
predecessor its files stay, until "agentctl key upgrade-finish".

  --store-key KEY  store key of the old store, as root kept it; required
  ANSWER           what "agentctl key upgrade-answer" wrote on the old machine

Examples:
  agentctl key upgrade-accept --store-key agentd-store-key:5f2b... answer
`

const keyUpgradeStatusUsage = `Usage: agentctl key upgrade-status [--json]

Print how far an upgrade to another image is, and the release key that is pinned.

Examples:
  agentctl key upgrade-status
`

const keyUpgradeAbortUsage = `Usage: agentctl key upgrade-abort [--json]

Give an upgrade up, on the old machine: a preparation, or a store that was handed over.
If the successor took the store over in this very folder, launch the old image, and
this command puts its store back. What the successor stored is lost then.

Examples:
  agentctl key upgrade-abort
`

const keyUpgradeFinishUsage = `Usage: agentctl key upgrade-finish [--json]

Remove what the predecessor left in this folder and in the TPM, on the successor: its
image opens nothing here any more, and cannot go back.

Examples:
  agentctl key upgrade-finish
`
