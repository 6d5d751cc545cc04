// SPDX-License-Identifier: Apache-2.0

package main

const secretChallengeUsage = `Usage: agentctl secret challenge --delivery FILE

Begin a delivery, at the relying party: print a challenge for "agentctl secret ticket",
in hexadecimal. A ticket for it was made after it.

  --delivery FILE   file of this delivery, which is made; required. "send" and "receipt"
                    want it. It is not secret, but no other user may write it

Examples:
  agentctl secret challenge --delivery billing.delivery
`

const secretTicketUsage = `Usage: agentctl secret ticket --app APP --challenge VALUE --sender FILE NAME
       agentctl secret ticket --app APP --challenge VALUE --any-sender NAME

Make a ticket, on the machine, as root: with it a relying party can encrypt one secret
to this agent, for this application as it is measured now. The ticket contains evidence
and is not secret. Its key is in the memory of the agent: a restart ends it. A later
ticket for the same secret takes its place.

  --app APP           application that the secret is for; required
  --challenge VALUE   what "agentctl secret challenge" printed; required
  --sender FILE       public half of the relying party's key, Ed25519, PEM: only what it
                      signed is stored
  --any-sender        store what any party encrypted that has the ticket. Use it only if
                      no other party can change what comes back, as over ssh
  --replace           the secret replaces the one of that name
  --valid-for TIME    how long the ticket is valid, up to 24h (default: 1h), by the clock
                      that starts with the kernel
  --out FILE          write the ticket to FILE

Exit codes: 1 no such application, or its secret exists, 6 no evidence can be made now,
7 not root, 8 the store cannot be opened.

Examples:
  agentctl secret ticket --app billing --challenge 5f2b... --sender sender.pem \
      --out ticket db-password
`

const secretSendUsage = `Usage: agentctl secret send --to HOST:PORT --policy FILE --app APP --sender-key KEY
                           [flags] NAME [FILE]
       agentctl secret send --delivery FILE --policy FILE --ticket TICKET --app APP
                           [flags] NAME [FILE]

Verify a ticket, at the relying party, and encrypt a secret to it. The secret is FILE, or
else standard input, byte for byte: a line feed at its end is part of it. On a terminal
it is one line, without its end, which is not shown. Only the agent that made the ticket
can open what is sent, and it stores it for this application, under this name. Each
delivery sends one secret.

With --to HOST:PORT all is done over one attested connection to "agentctl secret serve":
challenge, ticket, message and receipt. Without it, files come and go by any carrier.

  --to WHERE        address of the machine; or "-" (default): the message goes to --out or
                    standard output
  --policy FILE     what the machine must meet (docs/policy.md); required. An [[app]] must
                    list the application. It needs no [caller]: by files root asks for the
                    ticket, over a connection the unit of --unit
  --policy-keys FILE
                    public keys, PEM, one of which must have signed the policy
  --policy-threshold N
                    how many of these keys must have signed (default 1)
  --policy-number N
                    refuse a signed policy with a smaller number: an older one
  --app APP         application that the secret is for; required
  --sender-key KEY  private key, Ed25519, PEM, whose public half the ticket names; no other
                    user may read the file. Required over a connection
  --delivery FILE   by files: file of "agentctl secret challenge"; required. Over a
                    connection: a file that is made, and says what became of it
  --ticket TICKET   by files: file of "agentctl secret ticket", "-" is standard input;
                    required
  --unit UNIT       over a connection: unit that serves on the machine, unless the policy
                    names a caller (default: agentd-secrets.service)
  --replace         the secret replaces the one of that name
  --max-age TIME    by files: refuse a challenge that is older (default: 1h), by the clock
                    here
  --max-validity TIME  refuse a ticket that is valid for longer (default: 1h)
  --known-log FILE  state of the machine's log that --save-log wrote: the log must continue
                    it. A policy with continuation = "required" wants one
  --save-log FILE   if accepted, write the state of the log for the next time
  --replace-known-log  begin a new history, as of another boot
  --enrolments FILE|DIR  enrolments apart from the policy, of "agentctl enroll add". They
                    count if it says outside_enrolments = "approved"
  --collateral DIR  certificates and revocation lists from "agentctl collateral fetch"
  --certificate FILE  further certificates, PEM or DER; may be repeated
  --crl FILE        a revocation list of the root, DER; may be repeated
  --at TIME         time of the appraisal (default: now)
  --out FILE        write the message to FILE

  --trust-test-root-that-vouches-for-no-hardware FILE
                    trust this root instead of AMD's: for agentd-sim

Exit codes: 1 misuse, or a ticket of another delivery, 2 the ticket is forged, 3 a
certificate or CRL is missing or out of date, 4 revoked, 5 refused by policy, 6 no
connection, as for a key that the machine does not list; or no receipt: the secret may be
stored or not, 7 the machine does not list that secret for this sender.

Examples:
  agentctl secret send --to vm.example:8444 --policy policy.toml --app billing \
      --sender-key sender-key.pem db-password < password

  agentctl secret send --delivery billing.delivery --policy policy.toml --ticket ticket \
      --app billing --sender-key sender-key.pem --out message db-password < password
`

const secretReceiveUsage = `Usage: agentctl secret receive [--out FILE] MESSAGE

Store a secret that "agentctl secret send" encrypted, on the machine, as root, and write
the receipt. The same message again gets the same receipt, and stores nothing.

  --out FILE   write the receipt to FILE

Exit codes: 1 the ticket is expired, used or not of this agent, or the message was
changed, 7 not root, or of another sender, 8 the store cannot be opened.

Examples:
  agentctl secret receive --out receipt message
`

const secretReceiptUsage = `Usage: agentctl secret receipt --delivery FILE RECEIPT [--json]

Verify a receipt, at the relying party: the agent whose ticket was verified stored the
message that was sent. Without a receipt the secret may be stored or not.

  --delivery FILE   file of this delivery; required

Exit codes: 1 nothing was sent, 2 the receipt is forged, or of another message.

Examples:
  agentctl secret receipt --delivery billing.delivery receipt
`
