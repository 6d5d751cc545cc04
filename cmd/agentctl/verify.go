// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

const verifyUsage = `Usage: agentctl verify --policy FILE --nonce VALUE [flags] EVIDENCE
       agentctl verify --policy FILE --report-data VALUE --snp-report FILE
       agentctl verify --policy FILE --nonce VALUE --azure-hcl FILE --quote FILE
                       --signature FILE --pcrs FILE

Check evidence against a policy: offline, without a TPM, and with a reason for
every check. What could not be checked is listed as not asserted.

New to this? Evidence is a file from a confidential VM. "agentctl show" prints what
it claims; "agentctl policy init --from EVIDENCE" writes a policy that you read and
mend; this command tells whether the claims hold. docs/verify.md goes through it.

  --policy FILE          what is acceptable (docs/policy.md); required
  --nonce VALUE          the nonce that was sent: hexadecimal, base64 or @FILE
  --accept-replay        no nonce is known: the evidence may be old
  --audience NAME        who you are; evidence for others is refused
  --public-key FILE      the key that is seen in use (PEM or DER); it must be the
                         one in the evidence
  --user-data VALUE      the user data that is expected, like --nonce
  --collateral DIR       certificates and revocation lists that "agentctl collateral
                         fetch" keeps; nothing is fetched here
  --certificate FILE     further certificates, PEM or DER; may be repeated
  --crl FILE             a revocation list of the root, DER; may be repeated
  --at TIME              time of the appraisal, as 2026-01-31 or
                         2026-01-31T12:00:00Z (default: now)
  --known-log FILE       state that --save-log wrote: a log that starts at an index
                         must continue it, a whole log of the same boot contain it
  --save-log FILE        where accepted, write the state of the log for the next time
  --json                 the appraisal as JSON

In place of EVIDENCE, what other systems record. Each proves less than evidence,
and the verdict says what:

  --snp-report FILE      a bare report, with the host's certificate table behind it
                         or not. There is no vTPM: the policy must say
                         binding = "none" and log = "optional"
  --report-data VALUE    what REPORT_DATA must be, like --nonce; zeros follow
  --azure-hcl FILE       a paravisor's set: the HCL report (NV index 0x01400001),
  --quote FILE           TPMS_ATTEST,
  --signature FILE       its signature (TPMT_SIGNATURE, or RSASSA with SHA-256),
  --pcrs FILE            PCRs 0 to 23 of bank SHA-256, 768 bytes, and if it is there
  --firmware-log FILE    the firmware's event log, as Linux shows it in
                         /sys/kernel/security/tpm0/binary_bios_measurements

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

  agentctl verify --policy policy.toml --report-data @data.bin --snp-report report.bin \
      --certificate vcek.der
`

// verifyFlags are what the command line says of an appraisal.
type verifyFlags struct {
	policy, nonce, audience, publicKey, userData string
	at, testRoot, knownLog, saveLog              string
	certificates, crls                           []string
	acceptReplay                                 bool
	material                                     materialFiles
}

func verifyCommand(t *terminal) *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use:  "verify",
		Long: verifyUsage,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			go prepareP384()
			if f.saveLog == "-" {
				return misuse(errors.New("--save-log - would mix with the appraisal: name a file")).withHint(helpHint(c))
			}
			kind, err := f.material.kind(&f, args)
			if err != nil {
				return misuse(err).withHint(helpHint(c))
			}
			o, err := t.verifyOptions(kind, &f)
			if err != nil {
				return err
			}
			a, err := t.appraise(kind, &f, args, o)
			if errors.Is(err, verify.ErrMisuse) {
				return misuse(err).withHint(helpHint(c))
			}
			if err != nil {
				return err
			}
			return t.finishVerify(a, &f)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.policy, "policy", "", "")
	flags.StringVar(&f.nonce, "nonce", "", "")
	flags.BoolVar(&f.acceptReplay, "accept-replay", false, "")
	flags.StringVar(&f.audience, "audience", "", "")
	flags.StringVar(&f.publicKey, "public-key", "", "")
	flags.StringVar(&f.userData, "user-data", "", "")
	flags.StringArrayVar(&f.certificates, "certificate", nil, "")
	flags.StringArrayVar(&f.crls, "crl", nil, "")
	flags.StringVar(&f.at, "at", "", "")
	flags.StringVar(&f.testRoot, "trust-test-root-that-vouches-for-no-hardware", "", "")
	flags.StringVar(&f.knownLog, "known-log", "", "")
	flags.StringVar(&f.saveLog, "save-log", "", "")
	f.material.add(c)
	return c
}

// maxCertificates is the largest file of certificates that is read, in bytes.
const maxCertificates = 512 << 10

// appraisalInputs are the policy, trust, expectations and time of an appraisal.
type appraisalInputs struct {
	policy *verify.Policy
	verify.Config
	verify.Expect
	at time.Time
}

// verifyOptions reads everything that the flags name.
func (t *terminal) verifyOptions(kind verify.Material, f *verifyFlags) (*appraisalInputs, error) {
	o := &appraisalInputs{Expect: verify.Expect{UnsafeAcceptReplay: f.acceptReplay, Audience: f.audience}, at: time.Now()}
	if f.policy == "" {
		return nil, misuse(errors.New("--policy is missing: what is acceptable depends on who asks")).withHint("docs/policy.md describes the file")
	}
	text, err := t.readInput(f.policy, verify.MaxPolicy)
	if err != nil {
		return nil, err
	}
	if o.policy, err = verify.ParsePolicy(text); err != nil {
		return nil, misuse(fmt.Errorf("%s: %w", f.policy, err))
	}
	switch {
	case f.nonce == "" && f.material.reportData == "" && !f.acceptReplay:
		return nil, misuse(errors.New("--nonce is missing: without the nonce that was sent, old evidence passes for new")).
			withHint("give --nonce, or --accept-replay where old evidence will do")
	case f.nonce != "":
		if o.Nonce, err = t.nonceOf(kind, f.nonce); err != nil {
			return nil, err
		}
	}
	if f.material.reportData != "" {
		if o.ReportData, err = t.reportDataOf(f.material.reportData); err != nil {
			return nil, err
		}
	}
	if f.publicKey != "" {
		if o.PublicKey, err = t.readPublicKey(f.publicKey); err != nil {
			return nil, err
		}
	}
	if f.userData != "" {
		if o.UserData, err = t.parseBytes("--user-data", f.userData, 1, evidence.MaxUserData); err != nil {
			return nil, err
		}
	}
	if f.at != "" {
		if o.at, err = parseTime(f.at); err != nil {
			return nil, err
		}
	}
	for _, name := range f.certificates {
		ders, err := t.readCertificates(name)
		if err != nil {
			return nil, err
		}
		o.Certificates = append(o.Certificates, ders...)
	}
	for _, name := range f.crls {
		b, err := t.readInput(name, maxCertificates)
		if err != nil {
			return nil, err
		}
		list, err := snp.ParseRevocationList(b)
		if err != nil {
			return nil, misuse(fmt.Errorf("%s: %w", name, err))
		}
		o.Revocation.SNP = append(o.Revocation.SNP, list)
	}
	if f.testRoot != "" {
		if o.Roots.SNP, err = t.testRoots(f.testRoot); err != nil {
			return nil, err
		}
	}
	if f.knownLog != "" {
		b, err := t.readInput(f.knownLog, evidence.MaxEvidence)
		if err != nil {
			return nil, err
		}
		o.LogState = new(verify.LogState)
		if err := strictjson.Decode(b, evidence.MaxEvidence, o.LogState); err != nil {
			return nil, misuse(fmt.Errorf("%s: %w", f.knownLog, err))
		}
	}
	return o, nil
}

func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, misuse(fmt.Errorf("--at %q is not a time: write it like 2026-01-31 or 2026-01-31T12:00:00Z", s))
}

func (t *terminal) readCertificates(name string) ([][]byte, error) {
	b, err := t.readInput(name, maxCertificates)
	if err != nil {
		return nil, err
	}
	ders, err := snp.DecodeCertificates(b)
	if err != nil {
		return nil, misuse(fmt.Errorf("%s: %w", name, err))
	}
	return ders, nil
}

// testRoots trusts the self-signed certificates in a file, and nothing else.
func (t *terminal) testRoots(name string) (*snp.Roots, error) {
	b, err := t.readInput(name, maxCertificates)
	if err != nil {
		return nil, err
	}
	parsed, err := snp.ParseCertificates(b)
	if err != nil {
		return nil, misuse(fmt.Errorf("%s: %w", name, err))
	}
	roots := new(snp.Roots)
	for _, c := range parsed {
		if err := roots.AddTestRootThatVouchesForNoHardware(c); err != nil {
			return nil, misuse(fmt.Errorf("%s: %w", name, err))
		}
	}
	fmt.Fprintf(t.err, "agentctl: the roots in %s are trusted in place of AMD's: whatever the verdict, it vouches for no hardware\n", name)
	return roots, nil
}

// finishVerify prints the appraisal and turns it into an exit code.
func (t *terminal) finishVerify(a *verify.Appraisal, f *verifyFlags) error {
	if t.json {
		if err := t.writeJSON(a); err != nil {
			return err
		}
	} else {
		t.printAppraisal(a)
	}
	claims, err := a.Claims()
	if err != nil {
		return &exitError{code: a.ExitCode()} // the reasons were printed
	}
	if f.saveLog == "" {
		return nil
	}
	if claims.Log == nil {
		return misuse(errors.New("--save-log: the evidence holds no log"))
	}
	b, err := strictjson.Encode(claims.Log)
	if err != nil {
		return misuse(err)
	}
	return t.writeOutput(f.saveLog, b)
}

// marks are how verdicts are drawn: plain, and on a terminal that shows colour.
var marks = map[verify.Verdict]struct{ plain, colour string }{
	verify.Pass:        {"pass", "\x1b[32mpass\x1b[0m"},
	verify.Fail:        {"FAIL", "\x1b[1;31mFAIL\x1b[0m"},
	verify.NotAsserted: {"-   ", "-   "},
}

func (t *terminal) mark(v verify.Verdict) string {
	if t.colour() {
		return marks[v].colour
	}
	return marks[v].plain
}

// printAppraisal prints what failed first, for whoever reads no further, and the verdict
// last, where a terminal leaves off.
func (t *terminal) printAppraisal(a *verify.Appraisal) {
	for _, part := range []struct {
		title   string
		verdict verify.Verdict
	}{{"Failed", verify.Fail}, {"Passed", verify.Pass}} {
		var list []verify.Check
		for _, c := range a.Checks {
			if c.Verdict == part.verdict {
				list = append(list, c)
			}
		}
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(t.out, "%s, %d of %d checks:\n", part.title, len(list), len(a.Checks))
		for _, c := range list {
			t.printCheck(c)
		}
		fmt.Fprintln(t.out)
	}
	fmt.Fprintln(t.out, "Not asserted:")
	t.printNotAsserted(a)
	fmt.Fprintln(t.out)
	for _, s := range a.Sentences {
		fmt.Fprintln(t.out, cleanLine(s))
	}
	if a.Verdict == verify.Pass {
		fmt.Fprintf(t.out, "%s: accepted. Binding %s, AK known by %s, report %s.\n", t.mark(verify.Pass), a.Binding, akOrigin(a.AKOrigin), a.Freshness)
		return
	}
	fmt.Fprintf(t.out, "%s: refused (%s), exit code %d.\n", t.mark(verify.Fail), a.Class, a.ExitCode())
}

// printNotAsserted lists what nothing is claimed of, the checks with one reason
// together: those that refuse the evidence first.
func (t *terminal) printNotAsserted(a *verify.Appraisal) {
	type reason struct {
		required bool
		sentence string
	}
	var order []reason
	ids := map[reason][]string{}
	for _, c := range a.Checks {
		if c.Verdict != verify.NotAsserted {
			continue
		}
		r := reason{c.Required, c.Sentence}
		if ids[r] == nil {
			order = append(order, r)
		}
		ids[r] = append(ids[r], string(c.ID))
	}
	slices.SortStableFunc(order, func(a, b reason) int {
		switch {
		case a.required == b.required:
			return 0
		case a.required:
			return -1
		}
		return 1
	})
	for _, r := range order {
		name := ids[r][0]
		if len(ids[r]) > 1 {
			name = fmt.Sprintf("%d checks", len(ids[r]))
		}
		needed := ""
		if r.required {
			needed = "(but required) "
		}
		fmt.Fprintf(t.out, "%s  %-26s %s%s\n", t.mark(verify.NotAsserted), name, needed, cleanLine(r.sentence))
		if len(ids[r]) > 1 {
			t.printIDs(ids[r])
		}
	}
	if len(order) == 0 {
		fmt.Fprintln(t.out, "      nothing")
	}
}

// idColumns is how wide a line of ids may become.
const idColumns = 100

// printIDs lists ids below their common reason.
func (t *terminal) printIDs(ids []string) {
	const indent = "          "
	line := indent
	for i, id := range ids {
		if i < len(ids)-1 {
			id += ","
		}
		if len(line) > len(indent) && len(line)+1+len(id) > idColumns {
			fmt.Fprintln(t.out, line)
			line = indent
		}
		if len(line) > len(indent) {
			line += " "
		}
		line += id
	}
	fmt.Fprintln(t.out, line)
}

func akOrigin(o verify.AKOrigin) string {
	switch o {
	case verify.AKEnrolled:
		return "enrolment"
	case verify.AKCertified:
		return "certificate"
	}
	return "the report alone"
}

func (t *terminal) printCheck(c verify.Check) {
	fmt.Fprintf(t.out, "%s  %-26s %s\n", t.mark(c.Verdict), c.ID, cleanLine(c.Sentence))
	if c.Verdict == verify.Fail {
		if c.Expected != "" {
			fmt.Fprintf(t.out, "%-33sexpected %s\n", "", cleanLine(c.Expected))
		}
		if c.Found != "" && c.Found != c.Sentence {
			fmt.Fprintf(t.out, "%-33sfound    %s\n", "", cleanLine(c.Found))
		}
	}
}
