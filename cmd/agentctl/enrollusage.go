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

The record contains the EK's certificate and its issuers. "agentctl policy enrolment"
makes a policy rule from it. With "agentctl policy ek-roots" the verifier checks that
the certificate leads to a root.

Examples:
  agentctl enroll request --out request.json                          # machine
  agentctl enroll challenge --keep kept.json --out challenge.json request.json
  agentctl enroll activate --out answer.json challenge.json           # machine
  agentctl enroll finish --kept kept.json --out record.json answer.json
  agentctl policy enrolment record.json >> policy.toml
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
