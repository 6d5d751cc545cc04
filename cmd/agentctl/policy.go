// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/junit"
	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

const policyUsage = `Usage: agentctl policy COMMAND [flags]

Policies say which evidence is acceptable (docs/policy.md).

  init --from EVIDENCE        write a commented policy from a golden machine
  init --machine NAME         begin a policy for azure, gcp, aws, svsm or qemu
  explain FILE                say in words what a policy requires, and what it leaves open
  check --policy FILE EVIDENCE...
                              which checks evidence would fail, without a nonce
  reference DECLARATION...    digests of applications, from their files
  ima-reference PACKAGE...    digests of files of packages, for lists of IMA
  image-reference IMAGE       digests of an image of containers
  diff POLICY EVIDENCE...     what applications changed that a policy lists
  add-digest DIGEST           list a digest of an application
  enrolment RECORD...         rules for attestation keys that were enrolled
  ek-roots FILE...            authorities that may have certified their TPMs
  sign --key FILE POLICY      sign a policy; relying parties then refuse every other one
  verify-signature POLICY     say who signed a policy
  launch --firmware FILE      launch measurements, from the files of a launch
  id-block COMMAND            sign what a host may launch, and check such a signature

Examples:
  agentctl policy init --from golden.json --out policy.toml
  agentctl policy explain policy.toml
  agentctl policy check --policy policy.toml evidence/*.json
  agentctl policy reference --root build/rootfs build/rootfs/usr/lib/agentd/apps.d/billing.toml
`

func policyCommand(t *terminal, s *sockets) *cobra.Command {
	return group(t, "policy", policyUsage, policyInitCommand(t), policyExplainCommand(t), policyCheckCommand(t), policyReferenceCommand(t), policyIMACommand(t), policyImageCommand(t), policyDiffCommand(t, s), policyAddCommand(t), policyEnrolmentCommand(t), policyEKRootsCommand(t), policyLaunchCommand(t), policyIDBlockCommand(t), policySignCommand(t), policyVerifyCommand(t))
}

const policyInitUsage = `Usage: agentctl policy init --from EVIDENCE [--out FILE] [flags]
       agentctl policy init --machine NAME [--out FILE]

Write a commented policy from the evidence of a golden machine, whose state you
inspected. What is dangerous in that state is marked DANGER and commented out:
until you decide, the policy may refuse that machine.

Evidence with a broken signature, binding or log is refused.

With --machine, begin a policy for a kind of machine. It says what is true there and
what cannot be, and refuses everything until you fill in what it marks.

  --from EVIDENCE        evidence of the golden machine, or its bare report
  --machine NAME         azure, gcp, aws, svsm or qemu
  --out FILE             file to write (default: standard output)
  --audience NAME        audience that the evidence was asked for, if any
  --collateral DIR       files from "agentctl collateral fetch"
  --certificate FILE     further certificates, PEM or DER; may be repeated
  --crl FILE             a revocation list of the root, DER; may be repeated
  --at TIME              time of the appraisal (default: now)
  --from-unverified-evidence
                         write a policy all the same; the author of the file
                         then chose what it accepts
  --trust-test-root-that-vouches-for-no-hardware FILE
                         trust this root instead of AMD's: for agentd-sim

Examples:
  agentctl attest --nonce $(openssl rand -hex 32) --out golden.json
  agentctl policy init --from golden.json --out policy.toml
  agentctl policy init --machine gcp --out policy.toml
`

func policyInitCommand(t *terminal) *cobra.Command {
	var f trustFlags
	var from, machine, out, audience string
	var unverified bool
	c := command("init", policyInitUsage, arguments(), func(c *cobra.Command, _ []string) error {
		switch {
		case from == "" && machine == "":
			return misuse(errors.New("--from is missing: a policy is drafted from evidence of a machine; or begin one with --machine")).withHint(helpHint(c))
		case from != "" && machine != "":
			return misuse(errBoth).withHint(helpHint(c))
		case machine != "":
			text, err := machinePolicy(machine)
			if err != nil {
				return misuse(err)
			}
			return t.writeOutput(out, text)
		}
		o, err := t.trustInputs(&f)
		if err != nil {
			return err
		}
		o.Audience = audience
		carried, err := t.readCarried(from)
		if err != nil {
			return err
		}
		text, a, err := draftPolicy(o, from, carried.document, unverified)
		if x := new(exitError); errors.As(err, &x) {
			return x
		}
		if errors.As(err, new(*verify.RefusedError)) {
			return t.refuseDraft(a)
		}
		if err != nil {
			return misuse(err)
		}
		if unverified && a.Verdict != verify.Pass {
			fmt.Fprintf(t.err, "agentctl: the evidence did not verify: the author of %s chose what the policy accepts\n", from)
		}
		return t.writeOutput(out, text)
	})
	f.add(c)
	c.Flags().StringVar(&from, "from", "", "")
	c.Flags().StringVar(&machine, "machine", "", "")
	c.Flags().StringVar(&out, "out", "", "")
	c.Flags().StringVar(&audience, "audience", "", "")
	c.Flags().BoolVar(&unverified, "from-unverified-evidence", false, "")
	return c
}

// draftPolicy drafts a policy from evidence, or from a bare report in any form that is read.
func draftPolicy(o *appraisalInputs, from string, document []byte, unverified bool) ([]byte, *verify.Appraisal, error) {
	report := reportInEvidence(document)
	bare := report == nil
	if bare {
		report = reportIn(document, 0)
	}
	with, err := o.withCollateral(report[:min(len(report), snp.ReportSize)])
	if err != nil {
		return nil, nil, err
	}
	switch {
	case bare && report != nil && (unverified || o.Audience != ""):
		return nil, nil, misuse(fmt.Errorf("%s is a bare report, which --audience and --from-unverified-evidence are not for", from))
	case bare && report != nil:
		return verify.DraftPolicyFromReport(verify.RawReport{Kind: evidence.ReportSNP, Report: report}, with.Config, with.Expect, with.at)
	case unverified:
		return verify.DraftPolicyFromUnverifiedEvidence(document, with.Config, with.Expect, with.at)
	}
	return verify.DraftPolicy(document, with.Config, with.Expect, with.at)
}

// refuseDraft says why no policy is drafted from the evidence.
func (t *terminal) refuseDraft(a *verify.Appraisal) error {
	for _, c := range a.Failed() {
		if c.Verdict == verify.Fail {
			fmt.Fprintf(t.err, "%s  %s: %s\n", of(c.Verdict, "").word, c.ID, cleanLine(c.Sentence))
		}
	}
	x := &exitError{code: a.ExitCode(), err: errors.New("the evidence does not verify, so no policy is drafted from it")}
	return x.withHint("--collateral DIR and --certificate FILE add missing certificates; --from-unverified-evidence drafts all the same")
}

const policyExplainUsage = `Usage: agentctl policy explain [flags] FILE

Say in words what a policy requires, which of its rules weaken it, and what it
leaves unchecked. A policy with a mistake is an error that names its line. Of a
signed policy, say first who signed it, and whether that was verified.

  --policy-keys FILE     public keys, one of which must have signed the policy; without
                         it, no signature is verified
  --policy-threshold N   how many of these keys must have signed (default 1)
  --policy-number N      refuse a signed policy with a smaller number: an older one
  --json                 print as JSON

Examples:
  agentctl policy explain policy.toml
  agentctl policy explain --policy-keys policy-keys.pem policy.dsse
`

// explainedPolicy is what policy explain prints as JSON.
type explainedPolicy struct {
	verify.PolicyWords
	Signature *policySignature `json:"signature,omitzero"` // absent if the policy is not signed
}

func policyExplainCommand(t *terminal) *cobra.Command {
	var f policyKeyFlags
	c := command("explain", policyExplainUsage, arguments("FILE"), func(_ *cobra.Command, args []string) error {
		p, signature, err := t.readShownPolicy(args[0], &f)
		if err != nil {
			return err
		}
		w := p.Explain()
		if t.json {
			return t.writeJSON(explainedPolicy{*w, signature})
		}
		t.saySignature(signature)
		for _, part := range []struct {
			title string
			list  []string
		}{{"Danger", w.Dangers}, {"Demanded", w.Demands}, {"Not checked", w.Unchecked}} {
			if len(part.list) == 0 {
				continue
			}
			fmt.Fprintf(t.out, "%s:\n", part.title)
			for _, s := range part.list {
				t.say(unmarked("  "), s, 4)
			}
			fmt.Fprintln(t.out)
		}
		t.say(unmarked(""), "Signatures, certificates, formats and the binding of all parts are checked under every policy.", 2)
		return nil
	})
	f.add(c.Flags())
	return c
}

const policyCheckUsage = `Usage: agentctl policy check --policy FILE [flags] EVIDENCE...

Say which checks evidence would fail under a policy. This is a dry run: no nonce
and no known log is compared, so nothing may be concluded from it. The exit code is
that of the gravest refusal, or 0 if all would be accepted.

  --policy FILE          the policy; required
  --audience NAME        audience that the evidence was asked for, if any
  --public-key FILE      key that the evidence must have (PEM or DER)
  --user-data VALUE      user data that is expected: hexadecimal, base64 or @FILE
  --policy-keys FILE     public keys, one of which must have signed the policy
  --policy-threshold N   how many of these keys must have signed (default 1)
  --policy-number N      refuse a signed policy with a smaller number: an older one
  --enrolments FILE|DIR  enrolments apart from the policy, if it looks at them
  --collateral DIR       files from "agentctl collateral fetch"
  --certificate FILE     further certificates, PEM or DER; may be repeated
  --crl FILE             a revocation list of the root, DER; may be repeated
  --ima-reference FILE   digests that the policy names by their SHA-256; may be repeated
  --at TIME              time of the appraisal (default: now)
  --verbose              the complete table of checks for each file
  --quiet                print no appraisal: the exit code alone says the result
  --format FORMAT        how to print it: text (default), json, or junit: XML for a CI
                         server, a suite for each file and a test case for each check
  --json                 as --format json: the appraisals, one JSON object after the
                         other
  --trust-test-root-that-vouches-for-no-hardware FILE
                         trust this root instead of AMD's: for agentd-sim

Example:
  agentctl policy check --policy new.toml fleet/*.json
`

func policyCheckCommand(t *terminal) *cobra.Command {
	var f appraisalFlags
	c := command("check", policyCheckUsage, atLeastOne("EVIDENCE"), func(c *cobra.Command, args []string) error {
		if err := f.formatFlags.check(t); err != nil {
			return misuse(err).withHint(helpHint(c))
		}
		o, err := t.appraisalInputs(&f)
		if err != nil {
			return err
		}
		o.NewHistory = true // no file is compared with a known log
		return t.checkEach(o, args, &f.formatFlags)
	})
	f.add(c)
	return c
}

// gravity orders exit codes: forged is worse than revoked, and revoked is worse than a
// missing file.
var gravity = map[int]int{0: 0, int(verify.ClassPolicy): 1, int(verify.ClassCollateral): 2, int(verify.ClassRevoked): 3, int(verify.ClassBinding): 4}

// dryRun is what policy check prints as JSON for each file.
type dryRun struct {
	File string `json:"file"` // file of the evidence
	verify.Appraisal
}

func (t *terminal) checkEach(o *appraisalInputs, names []string, f *formatFlags) error {
	code := exitOK
	var suites []junit.Suite
	for _, name := range names {
		c, err := t.readCarried(name)
		if err != nil {
			return err
		}
		one := *o // what a certificate adds is of this file alone
		if err := c.expectKey(&one.Expect); err != nil {
			return err
		}
		a, err := one.appraiseDocument(c.document)
		if errors.Is(err, verify.ErrMisuse) {
			return misuse(err)
		}
		if err != nil {
			return err
		}
		if gravity[a.ExitCode()] > gravity[code] {
			code = a.ExitCode()
		}
		if f.format == formatJUnit {
			suites = append(suites, junitOf(name, a))
			continue
		}
		if err := t.printDryRun(name, a, f); err != nil {
			return err
		}
	}
	if f.format == formatJUnit {
		if err := t.writeJUnit("agentctl policy check", suites); err != nil {
			return err
		}
	}
	if code != exitOK {
		return &exitError{code: code}
	}
	return nil
}

// printDryRun prints the appraisal of one file.
func (t *terminal) printDryRun(name string, a *verify.Appraisal, f *formatFlags) error {
	switch {
	case f.quiet:
		return nil
	case f.format == formatJSON:
		return t.writeJSON(dryRun{name, *a})
	case f.verbose:
		t.printChecks(a, true)
	}
	if a.Verdict == verify.Pass {
		t.say(of(a.Verdict, "  "), fmt.Sprintf("%s: would be accepted%s, with its nonce", name, verdict.OnGuestWord(a)), idColumn)
		return nil
	}
	t.say(of(a.Verdict, "  "), fmt.Sprintf("%s: would be refused (%s)", name, a.Class), idColumn)
	for _, c := range verdict.With(a, verify.Fail) {
		t.printCheck("      ", c)
	}
	return nil
}
