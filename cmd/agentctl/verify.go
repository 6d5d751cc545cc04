// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/junit"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

const verifyUsage = `Usage: agentctl verify --policy FILE --nonce VALUE [flags] EVIDENCE
       agentctl verify --policy FILE --report-data VALUE --snp-report FILE
       agentctl verify --policy FILE --nonce VALUE --azure-hcl FILE --quote FILE
                       --signature FILE --pcrs FILE

Check evidence against a policy, offline and without a TPM. The output is what
failed and why, what was not asserted, what limits the conclusion, and the verdict.
Lines fit the terminal, or 80 columns. --verbose adds every check with its reason.

New to this? Evidence is a file from a confidential VM. "agentctl show" prints what
it claims; "agentctl policy init --from EVIDENCE" writes a policy that you read and
correct; this command says which claims are accepted, and on whose word. A verdict
"by the guest's word" rests on what root of the VM can invent, without a TPM too.
docs/verify.md has the steps.

  --policy FILE          what is acceptable (docs/policy.md); required
  --policy-keys FILE     public keys, PEM, one of which must have signed the policy: an
                         envelope of "agentctl policy sign". Every other policy is refused
  --policy-threshold N   how many of these keys must have signed (default 1)
  --policy-number N      refuse a signed policy with a smaller number: an older one
  --nonce VALUE          the nonce that was sent: hexadecimal, base64 or @FILE
  --accept-replay        accept evidence without a known nonce: it may be old
  --audience NAME        your name; evidence for another audience is refused
  --public-key FILE      the key that you see in use (PEM or DER); the evidence must
                         have the same
  --user-data VALUE      the user data that is expected, like --nonce
  --enrolments FILE|DIR  enrolments apart from the policy, of "agentctl enroll add". They
                         count if it says outside_enrolments = "approved"
  --collateral DIR       certificates and revocation lists from "agentctl collateral
                         fetch"; this command fetches nothing
  --certificate FILE     further certificates, PEM or DER; may be repeated
  --crl FILE             a revocation list of the root, DER; may be repeated
  --ima-list FILE        the kernel's list of IMA, as Linux shows it to root in
                         /sys/kernel/security/ima/binary_runtime_measurements. Read it
                         after the evidence, or the quote, was made. Evidence of
                         "agentctl attest --ima" has a list, which must not contradict it
  --ima-reference FILE   digests of files that the policy names by their SHA-256; may be
                         repeated
  --at TIME              time of the appraisal, as 2026-01-31 or
                         2026-01-31T12:00:00Z (default: now)
  --known-log FILE       state that --save-log wrote: a log that starts at an index
                         must continue it, a whole log of the same boot contain it. A
                         list of IMA that starts at an index must continue it too
  --save-log FILE        if accepted, write the state of the log for the next time. A
                         known history is replaced only by one that continues it
  --replace-known-log    begin a new history: --save-log replaces that of another boot
                         or machine, and the policy's continuation = "required" is
                         not asked for this time
  --verbose              the complete table of checks, each with its reason, and every
                         claim of evidence that was accepted
  --quiet                print no appraisal: the exit code alone says the verdict.
                         Errors and warnings still go to standard error
  --format FORMAT        how to print it: text (default), json, or junit: XML for a CI
                         server, a test case for each check. What was not asserted is
                         skipped there, or failed if it was required
  --json                 as --format json: the appraisal as JSON, with every check
  --html FILE            write the result as a page for people too, also if the evidence
                         is refused: one file that loads nothing. "-" needs --quiet

EVIDENCE is the document of "agentctl attest"; or a CMW of it, JSON or CBOR; or a
certificate that contains it (id-pe-cmw), PEM or DER. The evidence must name the key of
the certificate. Who presents the certificate, a connection shows, not this command.

A token says the result to programs that know nothing of evidence (docs/tokens.md):

  --token FILE           write the result as a token: a signed JWT (EAR). Nothing is
                         written if the evidence is refused. "-" needs --quiet
  --token-key FILE       private key that signs it, PEM: Ed25519, or ECDSA on P-256. A
                         file that other users can read is refused
  --token-audience NAME  the party that may accept the token
  --token-issuer NAME    your name in it (default: the thumbprint of the key)
  --token-lifetime TIME  how long it is valid, 1s to 24h (default: 5m). Certificates,
                         revocation lists and max_anchor_age can end it sooner
  --token-profile YEAR   spelling of the claims: 2023 (default), which today's libraries
                         read, or 2026, of draft-ietf-rats-ear-03
  --token-names-machine  name chip, boot and attestation key in it, by which the machine is
                         recognised
  --token-if-refused     write a token of refused evidence too, with the status
                         contraindicated; the exit code stays what it is

Instead of EVIDENCE, what other systems record. Each proves less than evidence,
and the verdict says what:

  --snp-report FILE      a bare report; the host's certificate table may follow it. Also
                         in hexadecimal, base64, or JSON of TSM, virtee or Trustee.
                         There is no vTPM: the policy must say binding = "none"
                         and log = "optional"
  --report-data VALUE    what REPORT_DATA must be, like --nonce; zeros follow. It does
                         not date the report: the policy must say freshness = "any"
  --azure-hcl FILE       a paravisor's set: the HCL report (NV index 0x01400001),
  --quote FILE           the quote (TPMS_ATTEST),
  --signature FILE       its signature (TPMT_SIGNATURE, or RSASSA with SHA-256),
  --pcrs FILE            values of bank SHA-256: PCRs 0 to 23 (768 bytes), or those that
                         the quote selects, or a file of "tpm2_quote -o"; optionally
  --firmware-log FILE    the firmware's event log, as Linux shows it in
                         /sys/kernel/security/tpm0/binary_bios_measurements.
                         --azure-hcl alone is appraised as far as it goes
  --ak FILE              the key of a quote alone (TPMT_PUBLIC, TPM2B_PUBLIC, or an RSA
                         key in PEM), with --quote, --signature and --pcrs. It is never
                         accepted: nothing is known of the machine

  --trust-test-root-that-vouches-for-no-hardware FILE
                         trust this root instead of AMD's: for agentd-sim

Exit codes: 0 accepted, 1 misuse, 2 a signature or binding is broken,
3 a certificate or CRL is missing or out of date, 4 revoked, 5 refused by policy.

Examples:
  nonce=$(openssl rand -hex 32)
  agentctl attest --nonce $nonce --out evidence.json
  agentctl verify --policy policy.toml --nonce $nonce evidence.json

  agentctl verify --policy policy.toml --nonce @nonce.bin --public-key peer.pem \
      --json - < evidence.json

  agentctl verify --policy policy.toml --nonce $nonce --token token.jwt \
      --token-key token.key --token-audience https://vault.example evidence.json

  agentctl verify --policy policy.toml --report-data @data.bin --snp-report report.bin \
      --certificate vcek.der
`

// verifyFlags are the flags of verify.
type verifyFlags struct {
	appraisalFlags
	nonce        string
	acceptReplay bool
	log          logFlags
	token        tokenFlags
	material     materialFiles
	imaList      string
	page         string
	report       []byte // that was appraised; set by appraise
}

func verifyCommand(t *terminal) *cobra.Command {
	var f verifyFlags
	c := command("verify", verifyUsage, cobra.ArbitraryArgs, func(c *cobra.Command, args []string) error {
		if err := errors.Join(f.formatFlags.check(t), f.log.check()); err != nil {
			return misuse(err).withHint(helpHint(c))
		}
		kind, err := f.material.kind(&f, args)
		if err == nil {
			err = cmp.Or(f.token.check(kind, f.acceptReplay, f.quiet), f.checkPage())
		}
		if err != nil {
			return misuse(err).withHint(helpHint(c))
		}
		o, err := t.verifyInputs(&f)
		if err != nil {
			return err
		}
		key, err := t.readTokenKey(&f.token)
		if err != nil {
			return err
		}
		a, err := t.appraiseWithList(kind, &f, args, o)
		if errors.Is(err, verify.ErrMisuse) {
			return misuse(err).withHint(helpHint(c))
		}
		if err != nil {
			return err
		}
		verdict := t.finishVerify(a, o.LogState, &f, args)
		if err := t.writePage(&f, args, a); err != nil {
			return err
		}
		if verdict != nil && a.Verdict == verify.Pass { // the state of the log was not saved
			return verdict
		}
		if err := t.writeToken(&f.token, key, o, a); err != nil {
			return &exitError{code: cmp.Or(a.ExitCode(), exitMisuse), err: err}
		}
		return verdict
	})
	f.appraisalFlags.add(c)
	flags := c.Flags()
	flags.StringVar(&f.nonce, "nonce", "", "")
	flags.BoolVar(&f.acceptReplay, "accept-replay", false, "")
	flags.StringVar(&f.log.known, "known-log", "", "")
	flags.StringVar(&f.log.save, "save-log", "", "")
	flags.BoolVar(&f.log.replace, "replace-known-log", false, "")
	flags.StringVar(&f.imaList, "ima-list", "", "")
	flags.StringVar(&f.page, "html", "", "")
	f.material.add(c)
	f.token.add(c)
	return c
}

// appraiseWithList appraises the material with the list of IMA, if there is one.
func (t *terminal) appraiseWithList(kind verify.Material, f *verifyFlags, args []string, o *appraisalInputs) (*verify.Appraisal, error) {
	if f.imaList == "" {
		return t.appraise(kind, f, args, o)
	}
	l, err := t.openIMAList(f.imaList)
	if err != nil {
		return nil, err
	}
	o.IMAList = l.pieces()
	a, err := t.appraise(kind, f, args, o)
	return a, cmp.Or(l.close(), err)
}

// verifyInputs reads everything that the flags name.
func (t *terminal) verifyInputs(f *verifyFlags) (*appraisalInputs, error) {
	o, err := t.appraisalInputs(&f.appraisalFlags)
	if err != nil {
		return nil, err
	}
	o.UnsafeAcceptReplay, o.NewHistory = f.acceptReplay, f.log.replace
	switch {
	case f.nonce == "" && f.material.reportData == "" && !f.acceptReplay:
		return nil, misuse(errors.New("--nonce is missing: without the nonce that was sent, old evidence passes for new")).
			withHint("give --nonce, or --accept-replay if old evidence is acceptable")
	case f.nonce != "":
		if o.Nonce, err = t.parseBytes("--nonce", f.nonce, evidence.MinNonce, evidence.MaxNonce); err != nil {
			return nil, err
		}
	}
	if f.material.reportData != "" {
		if o.ReportData, err = t.parseBytes("--report-data", f.material.reportData, 1, len(snp.Report{}.ReportData)); err != nil {
			return nil, err
		}
	}
	if f.log.known != "" {
		o.LogState, err = readDocument[verify.LogState](t, f.log.known, evidence.MaxEvidence)
	}
	return o, err
}

// printAs prints an appraisal in the format that was asked for.
func (t *terminal) printAs(a *verify.Appraisal, f *verifyFlags, args []string) error {
	switch {
	case f.quiet:
		return nil
	case f.format == formatJSON:
		return t.writeJSON(a)
	case f.format == formatJUnit:
		return t.writeJUnit("agentctl verify", []junit.Suite{junitOf(slices.Concat(args, []string{string(a.Material)})[0], a)})
	}
	t.printAppraisal(a, f.verbose)
	return nil
}

// finishVerify prints the appraisal and returns its exit code.
func (t *terminal) finishVerify(a *verify.Appraisal, known *verify.LogState, f *verifyFlags, args []string) error {
	if err := t.printAs(a, f, args); err != nil {
		return err
	}
	claims, err := a.Claims()
	if err != nil {
		x := &exitError{code: a.ExitCode()} // the reasons were printed
		if a.Class == verify.ClassCollateral && !f.quiet {
			x.hint = f.getCollateral(args)
		}
		return x
	}
	if f.log.save == "" {
		return nil
	}
	return t.saveLog(a, claims.Log, known, &f.log)
}
