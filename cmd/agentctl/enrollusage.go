// SPDX-License-Identifier: Apache-2.0

package main

const enrollUsage = `Usage: agentctl enroll COMMAND [flags]

Prove to a verifier that an attestation key (AK) is in the TPM of a certain
endorsement key (EK). Each step runs at the place that it names, and passes a file
to the next.

  request    on the machine: show AK and EK
  challenge  at the verifier: encrypt a secret for that EK and AK
  activate   on the machine, as root: let the TPM decrypt it
  finish     at the verifier: compare, and write the enrolment record
  add        at the verifier: add records to a folder apart from the policy
  approve    at the verifier: say that a pending machine is one of yours
  list       at the verifier: list a folder or a file of enrolments

The record contains the EK's certificate and its issuers. "agentctl policy enrolment"
makes a policy rule from it. With "agentctl policy ek-roots" the verifier checks that
the certificate leads to a root. With many machines, "agentctl enroll add" keeps the
records apart from the policy, which then says outside_enrolments = "approved".

Examples:
  agentctl enroll request --out request.json                          # machine
  agentctl enroll challenge --keep kept.json --out challenge.json request.json
  agentctl enroll activate --out answer.json challenge.json           # machine
  agentctl enroll finish --kept kept.json --out record.json answer.json
  agentctl policy enrolment record.json >> policy.toml
  agentctl enroll add --enrolments enrolments --approved-by alice record.json
`

const enrollRequestUsage = `Usage: agentctl enroll request [--out FILE]

Write the public areas of the attestation key and the endorsement key of this
machine, with the EK's certificates. The first step of an enrolment.

  --out FILE    file to write (default: standard output)

Examples:
  agentctl enroll request --out request.json
`

const enrollChallengeUsage = `Usage: agentctl enroll challenge --keep FILE [flags] REQUEST

At the verifier: encrypt a secret that only the TPM with both keys of the request can
decrypt.

  --keep FILE            file for what only the verifier may know; required
  --ek-roots FILE        authorities, one of which must have certified the EK
  --ek-certificate FILE  issuers in between, or the EK's certificate if its TPM has
                         none; may be repeated
  --out FILE             file for the challenge (default: standard output)

Exit codes: 2 a certificate does not fit the EK, 3 a certificate is missing.

Examples:
  agentctl enroll challenge --keep kept.json --out challenge.json request.json
`

const enrollActivateUsage = `Usage: agentctl enroll activate [--out FILE] CHALLENGE

On the machine, as root: let the TPM decrypt the secret of a challenge.

  --out FILE    file for the answer (default: standard output)

Examples:
  agentctl enroll activate --out answer.json challenge.json
`

const enrollFinishUsage = `Usage: agentctl enroll finish --kept FILE [flags] ANSWER

At the verifier: compare the answer with what challenge kept, and write the enrolment
record.

  --kept FILE       the file that challenge wrote for --keep; required
  --ek-issuer NAME  replaces the name of the root that challenge found
  --out FILE        file for the record (default: standard output)

Exit codes: 2 the answer is not that of the TPM that was asked.

Examples:
  agentctl enroll finish --kept kept.json --out record.json answer.json
`

const enrollAddUsage = `Usage: agentctl enroll add --enrolments DIR [flags] RECORD...

At the verifier: add records of "agentctl enroll finish" to a folder of enrolments
apart from the policy, one file for each. They are pending until "agentctl enroll
approve". A policy with outside_enrolments = "approved" accepts those that are
approved. A party that can write to the folder decides which machines count.

  --enrolments DIR    the folder, created if it is missing; required
  --approved-by NAME  add them as approved by this party
  --json              list what was added as JSON

Examples:
  agentctl enroll add --enrolments enrolments record.json
`

const enrollApproveUsage = `Usage: agentctl enroll approve --enrolments DIR --by NAME AK...

At the verifier: approve pending enrolments, by the name of the attestation key. The
name of the party is written down as it is given, and appraisals show it.

  --enrolments DIR  the folder of "agentctl enroll add"; required
  --by NAME         the party that approves; required
  --json            list what was approved as JSON

Examples:
  agentctl enroll list --pending enrolments
  agentctl enroll approve --enrolments enrolments --by alice 000b5f3a...
`

const enrollListUsage = `Usage: agentctl enroll list [flags] FILE|DIR

List enrolments apart from the policy: a file with one on each line, or a folder of
such files, which end in .json.

  --pending  only those that no party has approved
  --json     list them as JSON

Examples:
  agentctl enroll list enrolments
`
