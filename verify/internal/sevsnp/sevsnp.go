// SPDX-License-Identifier: Apache-2.0

// Package sevsnp parses, chains and checks reports of AMD SEV-SNP for the verifier.
package sevsnp

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/snp"
)

var (
	decode         = check.Definition{ID: "report.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "the report is an SNP attestation report of a known version and exactly 1184 bytes", Stops: "fields read from the wrong place"}
	signer         = check.Definition{ID: "report.signer", Class: check.Binding, Ground: check.OnProcessor, Checks: "the report says that VCEK or VLEK signed it, and the certificate is of that kind", Stops: "a report without a signature, or under a key of another kind"}
	product        = check.Definition{ID: "report.product", Class: check.Binding, Ground: check.OnProcessor, Checks: "processor, certificate and root belong to the same product", Stops: "a report of one generation under a chain of another"}
	certificate    = check.Definition{ID: "report.certificate", Class: check.Collateral, Ground: check.OnVerifier, Checks: "the evidence contains a certificate for the key that signed the report, and its issuer is known", Stops: "a report that cannot be checked"}
	chained        = check.Definition{ID: "report.chain", Class: check.Binding, Ground: check.OnProcessor, Checks: "the certificate leads to a root that the verifier trusts", Stops: "a report signed by a key that the attacker made"}
	validity       = check.Definition{ID: "report.validity", Class: check.Collateral, Ground: check.OnVerifier, Checks: "every certificate of the chain is valid at the time of appraisal", Stops: "use of keys beyond their time"}
	revocationList = check.Definition{ID: "report.revocation-list", Class: check.Collateral, Ground: check.OnVerifier, Checks: "if the policy asks for one, there is a revocation list of the root, signed by it and current", Stops: "a newer list withheld, so that a revoked key stays in use"}
	revocation     = check.Definition{ID: "report.revocation", Class: check.Revoked, Ground: check.OnProcessor, Checks: "no revocation list of the root, current or expired, lists a certificate of the chain", Stops: "use of an intermediate key that AMD withdrew"}
	signature      = check.Definition{ID: "report.signature", Class: check.Binding, Ground: check.OnProcessor, Checks: "the signature over the report verifies under the certificate", Stops: "an invented or altered report"}
	chip           = check.Definition{ID: "report.chip", Class: check.Binding, Ground: check.OnProcessor, Checks: "the report's chip id is the one in the certificate", Stops: "a report of one chip under the certificate of another"}
	tcb            = check.Definition{ID: "report.tcb", Class: check.Binding, Ground: check.OnProcessor, Checks: "the report's TCB version is, component by component, the one in the certificate", Stops: "old firmware that reports a new TCB version"}
	table          = check.Definition{ID: "report.table", Class: check.Binding, Ground: check.OnVerifier, Checks: "the certificate table after a bare report is well-formed, and its entries for VCEK, VLEK, ASK and ARK are certificates", Stops: "a table that points out of itself, or has something else for a certificate; nothing relies on entries of other kinds and bytes between entries, which are not looked at"}
)

// The checks of a report, and of what a host adds to a bare one.
var (
	Definitions      = []check.Definition{decode, signer, product, certificate, chained, validity, revocationList, revocation, signature, chip, tcb}
	TableDefinitions = []check.Definition{table}
)

// Platform checks reports of SEV-SNP. Several goroutines may use it.
type Platform struct {
	Roots        *snp.Roots            // trusted root keys
	Lists        []*snp.RevocationList // of the roots; those of other roots are ignored
	Certificates [][]byte              // X.509 DER, in addition to those that come with a report; unverified
	Cache        *cache.Cache          // of verified reports and lists; may be nil
}

// Genuine returns the checks that tell that a processor of AMD made the report.
func (*Platform) Genuine() []check.ID { return []check.ID{chained.ID, signature.ID} }

// Definitions returns nothing: the reports of other kinds contain one of SEV-SNP too.
func (*Platform) Definitions() []check.Definition { return nil }

// Report is what a report of SEV-SNP says.
type Report struct {
	*snp.Report
	Chain   *snp.Chain // nil if it was not verified
	Product string     // line of the chain, lower case; empty if it was not verified
	Signer  string     // "vcek" or "vlek"; empty if no certificate was found
	CSPID   string     // cloud that a VLEK belongs to; empty for a VCEK

	until time.Time // when the first certificate of Chain, or the list of revocations, ends
}

// Until returns when the first certificate of the chain ends, or the list of revocations that was
// used, whichever is first; the zero time if no chain was verified.
func (r *Report) Until() time.Time { return r.until }

// Of returns the report of SEV-SNP in a report of any kind, or nil if there is none.
func Of(r report.Report) *Report {
	if x, ok := r.(interface{ SEVSNP() *Report }); ok {
		return x.SEVSNP()
	}
	return nil
}

// SEVSNP returns r itself, also of what embeds it.
func (r *Report) SEVSNP() *Report { return r }

// Vouch finds that nothing vouches for a key: REPORT_DATA is what the guest put there.
func (*Report) Vouch(f *check.Findings, _ report.Known) report.Voucher {
	f.Skip(report.VouchedKey.ID, "there is no structure around the report that names an attestation key")
	return report.ByGuest
}

// Data returns REPORT_DATA.
func (r *Report) Data() [report.DataSize]byte { return r.ReportData }

// Over returns data: the guest puts its bytes into REPORT_DATA as they are.
func (*Report) Over(data [report.DataSize]byte) [report.DataSize]byte { return data }

// Measurement returns MEASUREMENT.
func (r *Report) Measurement() []byte { return r.Report.Measurement[:] }

// Privileged reports whether the report was requested at VMPL 0.
func (r *Report) Privileged() bool { return r.VMPL == 0 }

// ReportID returns REPORT_ID in hexadecimal, which the firmware chooses when it launches a
// guest and keeps until the guest ends (SEV-SNP Firmware ABI Specification, table
// "ATTESTATION_REPORT Structure"). Zeros name no guest: it returns nothing then.
func (r *Report) ReportID() string {
	if check.Zero(r.Report.ReportID[:]) {
		return ""
	}
	return hex.EncodeToString(r.Report.ReportID[:])
}

// Root returns the common name of the root, and reports whether it is a test root. The
// chain must have been verified.
func (r *Report) Root() (name string, test bool) {
	return r.Chain.Root.Subject.CommonName, r.Chain.Test
}

// Levels returns a TCB version by component.
func (r *Report) Levels(t snp.TCB) map[string]uint8 {
	out := make(map[string]uint8)
	levels, _, _ := t.Components(r.Chain.Product) // none of an unknown product
	for _, l := range levels {
		out[string(l.Component)] = l.Value
	}
	return out
}

// Split parts a report from the certificate table of its host (GHCB, section "SNP
// Extended Guest Request"). Of the table it looks at the directory, and at the entries of the
// four kinds of certificates. It ignores entries of other kinds, and bytes that no entry names:
// hosts add entries of their own and fill pages up.
func (*Platform) Split(f *check.Findings, raw []byte) (body []byte, certificates [][]byte) {
	if len(raw) <= snp.ReportSize {
		f.Skip(table.ID, "nothing follows the report")
		return raw, nil
	}
	certificates, err := snp.TableCertificates(raw[snp.ReportSize:])
	if !f.DecideError(table.ID, err) {
		certificates = nil
	}
	return raw[:snp.ReportSize], certificates
}

// verified is what the cache remembers of a report.
type verified struct {
	report *snp.Report
	chain  *snp.Chain
}

// reportKey returns the key of a report with these certificates, under these roots.
func reportKey(body []byte, certificates [][]byte, roots *snp.Roots) evidence.Digest {
	id := roots.Digest()
	return evidence.Sum256("agentd/cache/report/1", append([][]byte{id[:], body}, certificates...)...)
}

// judge is the check of one report.
type judge struct {
	*Platform
	*check.Findings
	m report.Material
	r *Report
}

// Judge checks a report, see [report.Platform].
func (p *Platform) Judge(f *check.Findings, m report.Material) report.Report {
	j := &judge{Platform: p, Findings: f, m: m}
	if j.judge(); j.r == nil {
		return nil
	}
	return j.r
}

func (j *judge) judge() {
	body := j.m.Body
	// VerifyChain has those of the roots already.
	certificates := slices.DeleteFunc(slices.Concat(j.m.Certificates, j.Certificates), j.Roots.Contains)
	var key evidence.Digest
	if j.Cache != nil {
		key = reportKey(body, certificates, j.Roots)
		if known, ok := j.Cache.Get(key); ok {
			j.known(known.(*verified))
			return
		}
		// What is parsed here may outlive the caller's buffers.
		body = bytes.Clone(body)
		for i, c := range certificates {
			certificates[i] = bytes.Clone(c)
		}
	}
	parsed, err := snp.ParseReport(body)
	if !j.DecideError(decode.ID, err) || parsed == nil {
		return
	}
	j.r = &Report{Report: parsed}
	leaves, issuers, broken := snp.SortCertificates(certificates)
	chainOf := j.chainAhead(leaves, issuers)
	leaf, signed := j.checkSignature(leaves, broken)
	chain, err := chainOf(leaf)
	if leaf == nil {
		return
	}
	j.checkLeaf(leaf)
	if snp.CodeOf(err) == snp.CodeChainIncomplete {
		j.DecideError(certificate.ID, err)
		return
	}
	j.Decide(certificate.ID, true, "", "", "")
	if !j.DecideError(chained.ID, err) || chain == nil {
		return
	}
	if signed && err == nil {
		j.Cache.Put(key, &verified{parsed, chain})
	}
	j.checkChain(chain)
}

// known makes the checks that depend on more than bytes which were verified before.
func (j *judge) known(v *verified) {
	j.r = &Report{Report: v.report}
	for _, d := range []check.Definition{decode, signature, certificate, chained} {
		j.Decide(d.ID, true, "", "", "")
	}
	j.checkLeaf(v.chain.Leaf)
	j.checkChain(v.chain)
}

// checkLeaf compares the report with the certificate of the key that signed it.
func (j *judge) checkLeaf(leaf *snp.EndorsementKey) {
	j.r.Signer, j.r.CSPID = strings.ToLower(leaf.Signer.String()), leaf.CSPID
	j.DecideError(signer.ID, snp.CheckSigner(j.r.Report, leaf))
	switch err := snp.CheckChipID(j.r.Report, leaf); snp.CodeOf(err) {
	case snp.CodeChipIDMasked, snp.CodeChipIDUnbound:
		j.Skip(chip.ID, "%v", err)
	default:
		j.DecideError(chip.ID, err)
	}
	j.DecideError(tcb.ID, snp.CheckTCB(j.r.Report, leaf))
}

// checkChain makes the checks of a chain whose signatures verified.
func (j *judge) checkChain(chain *snp.Chain) {
	j.r.Chain, j.r.Product = chain, strings.ToLower(chain.Product.String())
	for _, c := range []*x509.Certificate{chain.Leaf.Certificate, chain.Intermediate, chain.Root} {
		j.r.until = report.Earlier(j.r.until, c.NotAfter)
	}
	j.DecideError(validity.ID, chain.CheckValidity(j.m.Now))
	j.DecideError(product.ID, snp.CheckProduct(j.r.Report, chain))
	j.checkRevocation(chain)
}

// checkRevocation looks for intermediate and root on the root's lists. VCEK and VLEK have
// serial number 0, so a list cannot name them.
func (j *judge) checkRevocation(chain *snp.Chain) {
	if j.m.RevocationOff {
		j.Skip(revocationList.ID, "the policy does not ask about revocation")
		j.Skip(revocation.ID, "the policy does not ask about revocation")
		return
	}
	err, current := errors.New("there is no revocation list of the root"), time.Time{} // the end of the last current list
	for _, l := range j.Lists {
		if !l.For(chain) {
			continue
		}
		// Every list: a current one may be older than one that revokes.
		switch found := j.checkList(l, chain); {
		case snp.CodeOf(found) == snp.CodeRevoked:
			j.Skip(revocationList.ID, "a list of the root, which may be expired, revokes: see %s", revocation.ID)
			j.DecideError(revocation.ID, found)
			return
		case found == nil:
			if current.Before(l.NextUpdate()) {
				current = l.NextUpdate()
			}
		default:
			err = found
		}
	}
	if !current.IsZero() {
		j.r.until = report.Earlier(j.r.until, current)
		j.Decide(revocationList.ID, true, "", "", "")
		j.Decide(revocation.ID, true, "", "", "")
		return
	}
	if j.SkipIf(j.m.RevocationOptional, revocationList.ID, "%v", err) || j.DecideError(revocationList.ID, err) {
		j.Skip(revocation.ID, "not checked: %v", err)
	}
}

// checkList does what [snp.RevocationList.Check] does, without verifying the signature of
// a list that the cache knows.
func (j *judge) checkList(l *snp.RevocationList, chain *snp.Chain) error {
	if j.Cache == nil {
		return l.Check(chain, j.m.Now)
	}
	key := evidence.Sum256("agentd/cache/revocation/1", l.Bytes(), chain.Root.Raw)
	if _, ok := j.Cache.Get(key); !ok {
		if err := l.CheckIssuer(chain); err != nil {
			return err
		}
		j.Cache.Put(key, nil)
	}
	return l.CheckAt(chain, j.m.Now)
}
