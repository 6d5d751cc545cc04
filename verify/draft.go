// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// surveyPolicy accepts whatever is genuine: with it, an appraisal finds out what a
// machine is, not whether it is acceptable. It is for [DraftPolicy] alone.
const surveyPolicy = `version = 1
products = ["milan", "genoa", "turin"]
signers = ["vcek", "vlek"]
vmpl = [0, 1, 2, 3]
freshness = "anchored"
max_anchor_age = "8784h"
allow_provisional_firmware = true
allow_masked_chip = true
unlisted_launch = "allow"
log = "optional"
tolerate_gaps = true
tolerate_unmeasured = true

[guest_policy]
allow_debug = true
allow_migration_agent = true
allow_cxl = true
allow_reserved_bits = true
`

// DraftPolicy writes a policy, with comments, that accepts the machine that document
// comes from: a golden machine, whose state somebody has looked at. What is dangerous
// in that state is written down as DANGER and commented out, so that the policy refuses
// the very machine until somebody has decided.
//
// The text is empty where document does not verify: no signature, binding or log of
// it may be broken. The appraisal is under a policy that accepts everything genuine,
// and says nothing about what is acceptable.
func DraftPolicy(document []byte, c Config, expect Expect, now time.Time) (text []byte, a *Appraisal, err error) {
	s, a, err := survey(document, c, expect, now)
	if err != nil || a.Verdict != Pass {
		return nil, a, err
	}
	return s.write(), a, nil
}

// DraftPolicyFromUnverifiedEvidence is [DraftPolicy] for a document that does not
// verify: whoever made it chose what the policy accepts. The error is for documents
// without a report that can be read.
func DraftPolicyFromUnverifiedEvidence(document []byte, c Config, expect Expect, now time.Time) (text []byte, a *Appraisal, err error) {
	s, a, err := survey(document, c, expect, now)
	if err != nil {
		return nil, a, err
	}
	if s.report == nil {
		return nil, a, &RefusedError{Appraisal: a}
	}
	s.unverified = a.Verdict != Pass
	return s.write(), a, nil
}

func survey(document []byte, c Config, expect Expect, now time.Time) (*draft, *Appraisal, error) {
	p, err := ParsePolicy([]byte(surveyPolicy))
	if err != nil {
		return nil, nil, err
	}
	p.startValues = statedStart(document)
	v, err := New(p, c)
	if err != nil {
		return nil, nil, err
	}
	a, err := v.begin(MaterialEvidence, expect, now, nil)
	if err != nil {
		return nil, nil, err
	}
	a.document(document)
	r := a.result()
	d := &draft{report: a.report, a: r, log: a.log, start: p.startValues, product: a.product, signer: a.signer, ak: a.ak, firmware: a.firmware != nil}
	if a.batch != nil {
		d.quoted, d.selection = a.batch.values, a.batch.selection
	}
	if d.product == "" && a.report != nil {
		d.product = strings.ToLower(a.report.Product().String())
	}
	if d.signer == "" && a.report != nil {
		d.signer = strings.ToLower(a.report.KeyInfo.Signer().String())
	}
	return d, r, nil
}

// statedStart is the value that the log says its PCR began with, where not zero.
func statedStart(document []byte) map[pcr.Algorithm][][]byte {
	e, err := evidence.Parse(document)
	if err != nil || e.Log == nil || e.Log.Start != 0 {
		return nil
	}
	records, err := pcr.DecodeLog(e.Log.Records, 0)
	if err != nil {
		return nil
	}
	start, err := pcr.StartOf(records)
	if err != nil {
		return nil
	}
	digests, err := start.Digests()
	if err != nil {
		return nil
	}
	out := make(map[pcr.Algorithm][][]byte)
	for _, d := range digests {
		if d.Algorithm != pcr.SHA1 && !isZero(d.Value) {
			out[d.Algorithm] = [][]byte{d.Value}
		}
	}
	return out
}

// draft is what a survey found.
type draft struct {
	strings.Builder
	report     *snp.Report
	a          *Appraisal
	log        *LogState
	ak         *tpmwire.Key
	start      map[pcr.Algorithm][][]byte
	quoted     pcr.Values
	selection  pcr.Selection
	product    string
	signer     string
	firmware   bool // the evidence holds a firmware log that could be read
	unverified bool
}

// say writes a comment, broken into lines.
func (d *draft) say(format string, a ...any) {
	line := "#"
	for _, word := range strings.Fields(fmt.Sprintf(format, a...)) {
		if len(line)+1+len(word) > 88 {
			d.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	d.WriteString(line + "\n")
}

func (d *draft) line(format string, a ...any) { fmt.Fprintf(d, format+"\n", a...) }

// danger writes a rule that would weaken the policy: as a comment.
func (d *draft) danger(rule, format string, a ...any) {
	d.say("DANGER: "+format, a...)
	d.line("# %s", rule)
}

// quote spells a name from the log, which holds no control characters: what is left of
// Go's escapes means the same in TOML.
func quote(s string) string { return strconv.Quote(s) }

func hexOf(b []byte) string { return quote(hex.EncodeToString(b)) }

func (d *draft) write() []byte {
	d.say("A policy drafted from one machine. Read every line: it accepts what was found there, and a golden machine is only as good as whoever looked at it. docs/policy.md describes every key; \"agentctl policy explain\" says in words what this demands and leaves unchecked.")
	if d.unverified {
		d.line("#")
		d.say("DANGER: the evidence did NOT verify. Whoever made the file chose what stands here.")
		for _, c := range d.a.Failed() {
			if c.Verdict == Fail {
				d.say("%s: %s", c.ID, strings.Map(printable, c.Sentence))
			}
		}
	}
	d.line("")
	d.line("version = 1\n")
	d.machine()
	d.logRules()
	d.launch()
	d.guest()
	d.platform()
	d.levels()
	d.image()
	d.pcrs()
	d.apps()
	d.agents()
	return []byte(d.String())
}

// printable keeps text of the evidence on its line: a newline would end the comment.
func printable(r rune) rune {
	if r < 0x20 || r == 0x7f || r > 0x7e {
		return '?'
	}
	return r
}

func (d *draft) machine() {
	r := d.report
	if !slices.Contains(knownProducts(), d.product) {
		d.say("The processor is of no line that is known: name one.")
		d.line("# products = [\"genoa\"]")
	} else if d.product == "milan" {
		d.danger(`products = ["milan"]`, "the machine is a Milan. There is hardware that attacks its memory, and no newer firmware undoes that.")
	} else {
		d.say("The processor line.")
		d.line("products = [%q]", d.product)
	}
	if d.signer == "vlek" {
		d.danger(`signers = ["vlek"]`, "the report is signed by a VLEK, which belongs to a cloud and not to a chip: the cloud could load it into any of its machines.")
	} else {
		d.say("A VCEK belongs to one chip.")
		d.line("signers = [\"vcek\"]")
	}
	d.say("What a report before this version does not state is unknown.")
	d.line("min_report_version = %d", r.Version)
	if r.VMPL != 0 {
		d.danger(fmt.Sprintf("vmpl = [%d]", r.VMPL), "the report was asked for at VMPL %d, not 0.", r.VMPL)
	}
	if r.Provisional() {
		d.danger("allow_provisional_firmware = true", "the firmware is not committed: the host can go back to the older one at will.")
	}
	if isZero(r.ChipID[:]) {
		if d.signer == "vcek" {
			d.danger("allow_masked_chip = true", "the host masks the chip id, so that report and certificate cannot be held against each other.")
		}
	} else {
		d.say("To accept this very chip and no other. A machine on a cloud may start on another chip tomorrow.")
		d.line("# chips = [%s]", hexOf(r.ChipID[:]))
	}
	if d.ak != nil {
		d.say("To accept this very vTPM and no other.")
		d.line("# ak_names = [%s]", hexOf(d.ak.Name))
	}
	d.say("A report of its own for each request. Reports are scarce: an anchored one of some minutes takes far more requests.")
	d.line("freshness = \"fresh\"")
	d.line("# freshness = \"anchored\"\n# max_anchor_age = \"10m\"")
	d.say("With \"required\", a current revocation list must be given to the verifier (\"agentctl collateral fetch\").")
	d.line("revocation = \"optional\"")
}

func (d *draft) logRules() {
	if d.log == nil {
		d.danger("log = \"optional\"", "the evidence holds no log that could be read, so that nothing is known of the applications.")
		d.line("")
		return
	}
	if len(d.log.Gaps) > 0 || d.log.Full {
		d.danger("tolerate_gaps = true", "the log records gaps: changes may have happened unseen.")
	}
	if len(d.log.Unmeasured) > 0 {
		d.danger("tolerate_unmeasured = true", "the log records declared applications that could not be measured.")
	}
	if d.firmware {
		d.say("The evidence holds the firmware's event log. With this, it must lead to the quoted PCRs 0 to 7.")
		d.line("# firmware_log = \"required\"")
	}
	d.say("Applications beside those that are listed below are refused.")
	d.line("unlisted_apps = \"refuse\"\n")
}

func (d *draft) launch() {
	d.say("What was launched. Nobody can read from a report what kind of firmware it is and what its measurement covers: whoever built the image knows. \"plain\" and \"firmware\" claim the least.")
	d.line("[[launch]]")
	d.line("measurement = %s", hexOf(d.report.Measurement[:]))
	d.line("kind = \"plain\"")
	d.line("covers = \"firmware\"")
	d.line("label = \"golden machine, %s\"\n", d.a.Time.UTC().Format("2006-01-02"))
}

func (d *draft) guest() {
	p := d.report.Policy
	d.say("What the guest's owner allowed the host. These bits stand outside the launch measurement.")
	d.line("[guest_policy]")
	d.line("allow_smt = %t", p.Has(snp.PolicySMT))
	for _, x := range []struct {
		found        bool
		rule, danger string
	}{
		{p.Has(snp.PolicyDebug), "allow_debug = true", "the host may read and write all memory of this guest. Nothing in it is confidential."},
		{p.Has(snp.PolicyMigrationAgent), "allow_migration_agent = true", "a migration agent may hand this guest's memory to another machine."},
		{p.Has(snp.PolicyCXL), "allow_cxl = true", "memory of this guest may lie behind CXL, outside the processor."},
		{p.Wellformed() != nil, "allow_reserved_bits = true", "the guest policy holds bits that this version cannot name."},
	} {
		if x.found {
			d.danger(x.rule, "%s", x.danger)
		}
	}
	for _, x := range []struct {
		found bool
		rule  string
	}{
		{p.Has(snp.PolicySingleSocket), "require_single_socket"},
		{p.Has(snp.PolicyAES256XTS), "require_aes_256_xts"},
		{p.Has(snp.PolicyRAPLDisabled), "require_rapl_disabled"},
		{p.Has(snp.PolicyCiphertextHiding), "require_ciphertext_hiding"},
		{p.Has(snp.PolicyPageSwapDisabled), "require_page_swap_disabled"},
	} {
		if x.found {
			d.line("%s = true", x.rule)
		}
	}
	if p.ABIMajor() != 0 || p.ABIMinor() != 0 {
		d.line("min_abi = \"%d.%d\"", p.ABIMajor(), p.ABIMinor())
	}
	d.line("")
}

func (d *draft) platform() {
	var have []string
	for _, b := range platformBits {
		if d.report.PlatformInfo.Has(b.mask) && b.name != "smt" {
			have = append(have, quote(b.name))
		}
	}
	d.say("Properties of the machine that were found. alias_check_complete is what tells that memory is not aliased (BadRAM).")
	d.line("[platform]")
	if len(have) > 0 {
		d.line("require = [%s]", strings.Join(have, ", "))
	}
	if !d.report.PlatformInfo.Has(snp.PlatformAliasCheck) {
		d.say("DANGER: the machine does not state alias_check_complete.")
	}
	d.line("unknown_bits = \"allow\"\n")
	if m := d.report; m.LaunchMitigations != nil && m.CurrentMitigations != nil && m.Version >= 5 &&
		*m.LaunchMitigations <= 1<<62 && *m.CurrentMitigations <= 1<<62 && *m.LaunchMitigations|*m.CurrentMitigations != 0 {
		d.say("Mitigations of published holes that were in place.")
		d.line("[mitigations]")
		for _, x := range []struct {
			key   string
			value uint64
		}{{"launch", *m.LaunchMitigations}, {"current", *m.CurrentMitigations}} {
			if x.value != 0 {
				d.line("%s = %d", x.key, x.value)
			}
		}
		d.line("")
	}
}
