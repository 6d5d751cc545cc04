// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// materialFiles name what other systems recorded, instead of evidence.
type materialFiles struct {
	report     string // bare report
	reportData string
	hcl        string // paravisor's set
	ak         string // of a bare quote
	quote      string
	signature  string
	pcrs       string
	firmware   string
}

func (m *materialFiles) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&m.report, "snp-report", "", "")
	flags.StringVar(&m.reportData, "report-data", "", "")
	flags.StringVar(&m.hcl, "azure-hcl", "", "")
	flags.StringVar(&m.ak, "ak", "", "")
	flags.StringVar(&m.quote, "quote", "", "")
	flags.StringVar(&m.signature, "signature", "", "")
	flags.StringVar(&m.pcrs, "pcrs", "", "")
	flags.StringVar(&m.firmware, "firmware-log", "", "")
}

// kind returns what is to be appraised, or why the flags and arguments do not say.
func (m *materialFiles) kind(f *verifyFlags, args []string) (verify.Material, error) {
	key := struct{ flag, value string }{"--azure-hcl", m.hcl}
	if m.ak != "" {
		key = struct{ flag, value string }{"--ak", m.ak}
	}
	set := []struct{ flag, value string }{key, {"--quote", m.quote}, {"--signature", m.signature}, {"--pcrs", m.pcrs}}
	var have, missing []string
	for _, x := range set {
		if x.value == "" {
			missing = append(missing, x.flag)
		} else {
			have = append(have, x.flag)
		}
	}
	alone := m.hcl != "" && m.ak == "" && len(have) == 1 // as far as it goes
	switch {
	case m.ak != "" && m.hcl != "":
		return "", errors.New("--ak is for a quote alone, and a paravisor's report names its own key: leave one of --ak and --azure-hcl out")
	case m.report != "" && len(have) > 0:
		return "", fmt.Errorf("--snp-report is a bare report, and %s belongs to a quote or a paravisor's set: give one of the two", have[0])
	case (m.report != "" || len(have) > 0) && len(args) > 0:
		return "", fmt.Errorf("there is material from flags and EVIDENCE %q: give one of the two", args[0])
	case len(have) > 0 && len(missing) > 0 && !alone:
		return "", fmt.Errorf("%s is given without %s: a paravisor's set has --azure-hcl, --quote, --signature and --pcrs, a quote alone has --ak in the place of --azure-hcl", have[0], strings.Join(missing, " and "))
	case m.firmware != "" && (len(have) == 0 || m.ak != ""):
		return "", errors.New("--firmware-log belongs to a paravisor's set: a bare report has no quote for it, a quote alone has no machine, and evidence contains its own")
	case f.imaList != "" && m.report != "":
		return "", errors.New("--ima-list belongs to a quote: a bare report has none")
	case m.reportData != "" && m.report == "":
		return "", errors.New("--report-data belongs to --snp-report: in evidence and in a paravisor's set, REPORT_DATA is the commitment to everything else")
	case (m.report != "" || len(have) > 0) && f.log.given():
		return "", errors.New("--known-log, --save-log and --replace-known-log are for evidence: other material contains no log")
	case m.report != "":
		return verify.MaterialReport, nil
	case m.ak != "":
		return verify.MaterialQuote, nil
	case len(have) > 0:
		return verify.MaterialParavisor, nil
	case len(args) == 0:
		return "", errors.New("EVIDENCE is missing")
	case len(args) > 1:
		return "", fmt.Errorf("unexpected argument %q", args[1])
	}
	return verify.MaterialEvidence, nil
}

// Caps on files of other systems, in bytes.
const (
	maxHCL       = 64 << 10 // NV index 0x01400001 has 2600
	maxAttest    = evidence.MaxQuote
	maxSignature = evidence.MaxQuote
	maxPCRs      = 24 * 32
)

// appraise reads the material and appraises it.
func (t *terminal) appraise(kind verify.Material, f *verifyFlags, args []string, o *appraisalInputs) (*verify.Appraisal, error) {
	switch kind {
	case verify.MaterialReport:
		b, err := t.readReport(f.material.report)
		if err != nil {
			return nil, err
		}
		f.report = b
		v, err := o.verifier(b)
		if err != nil {
			return nil, err
		}
		return v.AppraiseReport(verify.RawReport{Kind: evidence.ReportSNP, Report: b}, o.Expect, o.at)
	case verify.MaterialParavisor:
		s, err := t.paravisorSet(&f.material)
		if err != nil {
			return nil, err
		}
		f.report = s.HCL[min(len(s.HCL), hclReport):]
		v, err := o.verifier(f.report)
		if err != nil {
			return nil, err
		}
		return v.AppraiseParavisor(*s, o.Expect, o.at)
	}
	if kind == verify.MaterialQuote {
		s, err := t.quoteSet(&f.material)
		if err != nil {
			return nil, err
		}
		v, err := o.verifier(nil)
		if err != nil {
			return nil, err
		}
		return v.AppraiseQuote(*s, o.Expect, o.at)
	}
	return t.appraiseCarried(f, args[0], o)
}

// appraiseCarried appraises evidence, which may be in a CMW or a certificate.
func (t *terminal) appraiseCarried(f *verifyFlags, name string, o *appraisalInputs) (*verify.Appraisal, error) {
	c, err := t.readCarried(name)
	if err != nil {
		return nil, err
	}
	if err := c.expectKey(&o.Expect); err != nil {
		return nil, err
	}
	f.report = reportInEvidence(c.document)
	a, err := o.appraiseDocument(c.document)
	if err == nil {
		c.limit(a)
	}
	return a, err
}

// getCollateral says how to get the certificates and lists that an appraisal lacks: with the
// line that fetches them, or where else they are.
func (f *verifyFlags) getCollateral(args []string) string {
	r, err := snp.ParseReport(f.report[:min(len(f.report), snp.ReportSize)])
	if err != nil {
		return ""
	}
	dir := cmp.Or(f.collateral, "collateral")
	line := []string{"agentctl collateral fetch --dir", quoteWord(dir)}
	switch {
	case f.material.report != "":
		line = append(line, "--snp-report", quoteWord(f.material.report))
	case f.material.hcl != "":
		line = append(line, "--azure-hcl", quoteWord(f.material.hcl))
	default:
		line = append(line, quoteWord(args[0]))
	}
	if r.Product() == snp.ProductUnknown {
		line = append(line, "--product milan|genoa|turin")
	}
	hint := fmt.Sprintf("`%s` fetches what AMD has; then verify again with --collateral %s", strings.Join(line, " "), quoteWord(dir))
	if slices.Contains(args, "-") || f.material.report == "-" || f.material.hcl == "-" {
		hint = strings.ReplaceAll(hint, " -` ", " FILE` ") + " and FILE, in the place of standard input"
	}
	switch {
	case r.KeyInfo.Signer() == snp.SignerVLEK:
		hint += ". The certificate of a VLEK comes from the cloud alone: have the machine add it to evidence (/etc/agentd/certs), or give it with --certificate"
	case r.ChipID == [64]byte{}:
		hint = "the host masks the chip's id, so that AMD's service cannot tell which certificate is meant: ask the host for the VCEK certificate, and give it with --certificate"
	}
	return hint
}

// quoteWord returns s as a word of a shell's line.
func quoteWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(plainWord, r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// plainWord are the characters that mean themselves to every shell.
const plainWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./,:@%="

// appraiseDocument appraises evidence.
func (o appraisalInputs) appraiseDocument(document []byte) (*verify.Appraisal, error) {
	v, err := o.verifier(reportInEvidence(document))
	if err != nil {
		return nil, err
	}
	return v.Appraise(document, o.Expect, o.at)
}

// paravisorSet reads the files of a paravisor's set.
func (t *terminal) paravisorSet(m *materialFiles) (*verify.AzureSet, error) {
	s := new(verify.AzureSet)
	for _, x := range []struct {
		name  string
		limit int
		to    *[]byte
	}{
		{m.hcl, maxHCL, &s.HCL}, {m.quote, maxAttest, &s.Quote}, {m.signature, maxSignature, &s.Signature}, {m.pcrs, maxPCRFile, &s.PCRs},
		{m.firmware, evidence.MaxFirmwareLog, &s.FirmwareLog},
	} {
		if x.name == "" { // the firmware's log, or the whole quote
			continue
		}
		b, err := t.readInput(x.name, x.limit)
		if err != nil {
			return nil, err
		}
		*x.to = b
	}
	if m.firmware != "" && len(s.FirmwareLog) == 0 {
		return nil, misuse(fmt.Errorf("--firmware-log %s: the file is empty", m.firmware))
	}
	if m.pcrs == "" {
		return s, nil
	}
	values, err := pcrValues(s.PCRs, s.Quote)
	if err != nil {
		return nil, misuse(fmt.Errorf("%s: %w", m.pcrs, err)).withHint("tpm2_quote -o FILE writes them with the quote, tpm2_pcrread -o FILE sha256:all writes all")
	}
	s.PCRs = values
	return s, nil
}

// hclReport is the offset of the report in a paravisor's attestation report.
const hclReport = 32
