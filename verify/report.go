// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// checkReport judges the report by itself: who signed it, and whether key, chip and
// firmware are what it says.
func (a *appraiser) checkReport() {
	kind := a.e.Report.Kind
	if !a.Decide(ReportKind, kind == evidence.ReportSNP, string(evidence.ReportSNP), text.Excerpt(kind), "the report is of a kind that this verifier does not know") {
		return
	}
	body, certificates := []byte(a.e.Report.Bytes), append(a.certificates(), a.config.Certificates...)
	certificates = slices.DeleteFunc(certificates, a.config.Roots.SNP.Holds) // they are looked among anyway
	var key evidence.Digest
	if a.cache != nil {
		key = reportKey(body, certificates, a.config.Roots.SNP)
		if known := a.cache.get(key); known != nil {
			a.knownReport(known)
			return
		}
		// What is parsed here may outlive the caller's buffers.
		body = bytes.Clone(body)
		for i, c := range certificates {
			certificates[i] = bytes.Clone(c)
		}
	}
	report, err := snp.ParseReport(body)
	if !a.DecideError(ReportDecode, err) || report == nil {
		return
	}
	a.report = report
	leaves, issuers, broken := snp.SortCertificates(certificates)
	chainOf := a.chainAhead(leaves, issuers)
	leaf, signed := a.checkSignature(leaves, broken)
	chain, err := chainOf(leaf)
	if leaf == nil {
		return
	}
	a.checkLeaf(leaf)
	if snp.CodeOf(err) == snp.CodeChainIncomplete {
		a.DecideError(ReportCertificate, err)
		return
	}
	a.Decide(ReportCertificate, true, "", "", "")
	if !a.DecideError(ReportChain, err) || chain == nil {
		return
	}
	if signed && err == nil && a.cache != nil {
		a.cache.put(&cacheEntry{key: key, report: report, chain: chain})
	}
	a.checkChain(chain)
}

// knownReport makes the checks that depend on more than bytes which were verified before.
func (a *appraiser) knownReport(known *cacheEntry) {
	a.report = known.report
	for _, id := range []CheckID{ReportDecode, ReportSignature, ReportCertificate, ReportChain} {
		a.Decide(id, true, "", "", "")
	}
	a.checkLeaf(known.chain.Leaf)
	a.checkChain(known.chain)
}

// checkLeaf holds the report against the certificate of the key that signed it.
func (a *appraiser) checkLeaf(leaf *snp.EndorsementKey) {
	report := a.report
	a.signer = strings.ToLower(leaf.Signer.String())
	a.DecideError(ReportSigner, snp.CheckSigner(report, leaf))
	switch err := snp.CheckChipID(report, leaf); snp.CodeOf(err) {
	case snp.CodeChipIDMasked, snp.CodeChipIDUnbound:
		a.Skip(ReportChip, "%v", err)
	default:
		a.DecideError(ReportChip, err)
	}
	a.DecideError(ReportTCB, snp.CheckTCB(report, leaf))
}

// checkChain makes the checks of a chain whose signatures hold.
func (a *appraiser) checkChain(chain *snp.Chain) {
	a.chain = chain
	a.product = strings.ToLower(chain.Product.String())
	a.DecideError(ReportValidity, chain.CheckValidity(a.now))
	a.DecideError(ReportProduct, snp.CheckProduct(a.report, chain))
	a.checkRevocation()
}

func (a *appraiser) certificates() [][]byte {
	out := make([][]byte, len(a.e.Certificates))
	for i, c := range a.e.Certificates {
		out[i] = c
	}
	return out
}

// checkSignature finds the certificate whose key signed the report. Where none did,
// it takes one of the kind that the report names, to tell a wrong signature from a
// missing certificate. Signed tells whether the signature holds, whatever the check
// was told to say. Of several certificates of that key, one that is valid is taken:
// whoever puts an old one into the evidence would else keep the verifier from its own.
func (a *appraiser) checkSignature(leaves []*snp.EndorsementKey, broken []error) (leaf *snp.EndorsementKey, signed bool) {
	var failed error
	var candidate *snp.EndorsementKey
	for _, leaf := range leaves {
		err := a.report.VerifySignature(leaf)
		if err == nil {
			a.Decide(ReportSignature, true, "", "", "")
			return a.validOf(leaf, leaves), true
		}
		if candidate == nil && leaf.Signer == a.report.KeyInfo.Signer() {
			candidate, failed = leaf, err
		}
	}
	if candidate != nil {
		a.DecideError(ReportSignature, failed)
		return candidate, false
	}
	switch s := a.report.KeyInfo.Signer(); s {
	case snp.SignerVCEK, snp.SignerVLEK:
		if a.report.KeyInfo.MaskChipKey() && s == snp.SignerVCEK {
			a.Decide(ReportSigner, false, "a signature by the VCEK", "the chip's keys are masked", "the host took the chip's keys out of use: nothing signed this report")
			return nil, false
		}
		found := fmt.Sprintf("%d certificates, none of a %v", len(leaves), s)
		if err := errors.Join(broken...); err != nil {
			found += "; unreadable: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		a.Decide(ReportCertificate, false, fmt.Sprintf("the certificate of the %v that signed the report", s), found,
			"the certificate of the key that signed the report is missing: add it to the evidence, or give it to the verifier")
	default:
		a.Decide(ReportSigner, false, "VCEK or VLEK", s.String(), "the report says that neither VCEK nor VLEK signed it")
	}
	return nil, false
}

// validOf is the first of leaves that certifies the same key as leaf, as the same
// signer, and is valid; where there is none, leaf.
func (a *appraiser) validOf(leaf *snp.EndorsementKey, leaves []*snp.EndorsementKey) *snp.EndorsementKey {
	for _, other := range append([]*snp.EndorsementKey{leaf}, leaves...) {
		c := other.Certificate
		if other.Signer == leaf.Signer && bytes.Equal(c.RawSubjectPublicKeyInfo, leaf.Certificate.RawSubjectPublicKeyInfo) &&
			!a.now.Before(c.NotBefore) && !a.now.After(c.NotAfter) {
			return other
		}
	}
	return leaf
}

// checkRevocation looks for intermediate and root on the root's list. VCEK and VLEK
// have serial number 0, so a list cannot name them.
func (a *appraiser) checkRevocation() {
	if a.p.NeedsRevocation() == Off {
		a.Skip(ReportRevocationList, "the policy does not ask about revocation")
		a.Skip(ReportRevocation, "the policy does not ask about revocation")
		return
	}
	err, inOrder := errors.New("no revocation list of the root is at hand"), false
	for _, l := range a.config.Revocation.SNP {
		if !l.For(a.chain) {
			continue
		}
		// All of them: one that is in order may be older than one that revokes.
		switch found := a.checkList(l); {
		case snp.CodeOf(found) == snp.CodeRevoked:
			a.Skip(ReportRevocationList, "a list of the root, which may be past its time, revokes: see %s", ReportRevocation)
			a.DecideError(ReportRevocation, found)
			return
		case found == nil:
			inOrder = true
		default:
			err = found
		}
	}
	if inOrder {
		a.Decide(ReportRevocationList, true, "", "", "")
		a.Decide(ReportRevocation, true, "", "", "")
		return
	}
	if a.p.NeedsRevocation() == Optional {
		a.Skip(ReportRevocationList, "%v", err)
		a.Skip(ReportRevocation, "not looked at: %v", err)
		return
	}
	if a.DecideError(ReportRevocationList, err) {
		a.Skip(ReportRevocation, "not looked at: %v", err)
	}
}

// checkList is [snp.RevocationList.Check], without the signature of a list that the
// cache knows.
func (a *appraiser) checkList(l *snp.RevocationList) error {
	if a.cache == nil {
		return l.Check(a.chain, a.now)
	}
	key := revocationKey(l, a.chain)
	if a.cache.get(key) == nil {
		if err := l.CheckIssuer(a.chain); err != nil {
			return err
		}
		a.cache.put(&cacheEntry{key: key})
	}
	return l.CheckAt(a.chain, a.now)
}

// checkBinding ties the report to the quote, and finds what that amounts to. Our own
// commitment in REPORT_DATA never gives more than guest-asserted, since any guest can
// put any 64 bytes there. That goes for a paravisor's runtime data too: it counts as
// such only for a launch measurement that the policy lists as a paravisor's.
func (a *appraiser) checkBinding() {
	if a.report == nil {
		return
	}
	switch a.material {
	case MaterialEvidence:
		want := a.e.ReportData()
		got := a.report.ReportData
		if a.Decide(BindingReportData, equal(got[:], want[:]), hex.EncodeToString(want[:]), hex.EncodeToString(got[:]),
			"the report was made for another agent key, AK, quote, tree or log") {
			a.structure = BindingGuestAsserted
		}
	case MaterialParavisor:
		a.checkRuntimeData()
	}
	listed := BindingGuestAsserted
	if a.launch = a.p.Launch(a.report.Measurement[:]); a.launch != nil {
		listed = a.launch.Kind.Binding()
	}
	a.binding = weaker(a.structure, listed)
}
