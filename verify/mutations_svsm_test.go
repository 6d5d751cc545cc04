// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// svsm makes evidence of a machine with an SVSM.
func svsm(change func(*evidencetest.Recipe)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		*r = *evidencetest.NewSVSM()
		if change != nil {
			change(r)
		}
	}
}

// manifest replaces the manifest that the SVSM hashes and hands out.
func manifest(make func(ak []byte) []byte) func(*testing.T, *evidencetest.Recipe) {
	return svsm(func(r *evidencetest.Recipe) { r.SVSM.Manifest = make })
}

// svsmBytes changes report and manifest after the report was made.
func svsmBytes(change func([]byte) []byte) func(*testing.T, *evidencetest.Recipe) {
	return svsm(func(r *evidencetest.Recipe) { r.SVSM.Bytes = change })
}

// version0 is the manifest with the endorsement key of a letter.
func version0(letter byte) func([]byte) []byte {
	return func([]byte) []byte { return evidencetest.EK(letter) }
}

// services puts the manifest of a vTPM into that of all services, before the one of UEFI variables.
func services(vtpm func(ak []byte) []byte) func(ak []byte) []byte {
	return func(ak []byte) []byte {
		return evidencetest.Services(tpmwire.Service{GUID: tpmwire.ServiceVTPM, Data: vtpm(ak)}, tpmwire.Service{GUID: tpmwire.ServiceUEFI, Data: make([]byte, 8)})
	}
}

// version1 is a manifest of version 1 of any keys.
func version1(keys ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, uint32(len(keys)))
	for _, k := range keys {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(k))), k...)
	}
	return b
}

// attributes flips bits of the attributes in a TPMT_PUBLIC.
func attributes(public []byte, bits uint32) []byte {
	b := bytes.Clone(public)
	binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(b[4:])^bits)
	return b
}

// enrolledWith is the [[enrolment]] of the recipe's AK with the endorsement key of a letter.
func enrolledWith(letter byte) string {
	return fmt.Sprintf("[[enrolment]]\ntype = \"agentd/enrolment/2\"\nek = %q\nak = \"000b%s\"\nek_issuer = \"none\"\nenrolled = \"2026-01-31T12:00:00Z\"\n", ekName(letter), recipeAK())
}

// endsInManifest is a key of the guest whose modulus ends with the genuine manifest 'g'.
var endsInManifest = sync.OnceValue(func() *evidencetest.AK { return evidencetest.KeyEndingIn(evidencetest.EK('g')) })

// longNonce is root of a guest whose SVSM takes nonces of any size: the genuine manifest becomes
// the end of a manifest that names a key of the guest.
func longNonce(r *evidencetest.Recipe) {
	r.AK = endsInManifest()
	genuine, forged := evidencetest.EK('g'), evidencetest.Manifest(evidencetest.EK('e'), r.AK.Public())
	r.SVSM.Manifest = func([]byte) []byte { return forged }
	r.SVSM.Nonce = func(n []byte) []byte { return append(n, forged[:len(forged)-len(genuine)]...) }
	r.SVSM.Hashed = genuine
}

// vmpl has the report asked for at another level.
func vmpl(level uint32) func(*testing.T, *evidencetest.Recipe) {
	return svsm(func(r *evidencetest.Recipe) { r.Report.Body = le32(evidencetest.AtVMPL, level) })
}

// otherSVSM lists another measurement as an SVSM's, so that a policy may ask for one.
var otherSVSM = "[[launch]]\nmeasurement = \"" + repeated(9, 48) + "\"\nkind = \"svsm\"\ncovers = \"firmware\"\n"

var asksSVSM = listed("svsm", `binding = "svsm"`)

// svsmMutations: one thing is wrong about evidence of a machine with an SVSM.
var svsmMutations = []mutation{
	{id: SVSMWithin, name: "case 90 a nonce that ends in a genuine manifest", policy: asksSVSM, recipe: svsm(longNonce)},
	{id: SVSMManifest, name: "absent", policy: asksSVSM, blind: true, recipe: svsmBytes(func(b []byte) []byte { return b[:1184] })},
	{id: SVSMManifest, name: "report cut off", policy: asksSVSM, blind: true, recipe: svsmBytes(func(b []byte) []byte { return b[:1183] })},
	{id: SVSMManifest, name: "a byte after it", policy: asksSVSM, blind: true, recipe: svsmBytes(func(b []byte) []byte { return append(b, 0) })},
	{id: SVSMManifest, name: "a byte short", policy: asksSVSM, blind: true, recipe: svsmBytes(func(b []byte) []byte { return b[:len(b)-1] })},
	{id: SVSMManifest, name: "a bare report of that kind", policy: asksSVSM, blind: true, recipe: document(func(e *evidence.Evidence) { e.Report.Kind = evidence.ReportSVSM })},
	{id: SVSMManifest, name: "a third key, hashed with it", policy: asksSVSM, blind: true, recipe: manifest(func(ak []byte) []byte {
		return version1(evidencetest.EK('e'), ak, ak)
	})},
	{id: SVSMManifest, name: "case 90 a byte after it, hashed with it", policy: asksSVSM, blind: true, recipe: manifest(func(ak []byte) []byte {
		return append(evidencetest.Manifest(evidencetest.EK('e'), ak), 0)
	})},
	{id: SVSMManifest, name: "of no version that is known", policy: asksSVSM, blind: true, recipe: manifest(func(ak []byte) []byte {
		b := evidencetest.Manifest(evidencetest.EK('e'), ak)
		b[3] = 2
		return b
	})},
	{id: SVSMManifest, name: "of all services, with that of the vTPM", policy: asksSVSM + enrolledWith('e'), blind: true, recipe: manifest(services(version0('e')))},
	{id: SVSMManifest, name: "of all services, with one that names the attestation key", policy: asksSVSM, blind: true, recipe: manifest(services(func(ak []byte) []byte {
		return evidencetest.Manifest(evidencetest.EK('e'), ak)
	}))},
	{id: SVSMManifest, name: "an attestation key in the place of the endorsement key", policy: asksSVSM, blind: true, recipe: manifest(func(ak []byte) []byte { return ak })},
	{id: SVSMManifest, name: "an endorsement key that signs", policy: asksSVSM + enrolledWith('e'), blind: true, recipe: manifest(func([]byte) []byte {
		return attributes(evidencetest.EK('e'), 1<<18)
	})},
	{id: SVSMManifest, name: "an endorsement key that is not restricted", policy: asksSVSM + enrolledWith('e'), blind: true, recipe: manifest(func([]byte) []byte {
		return attributes(evidencetest.EK('e'), 1<<16)
	})},
	{id: SVSMManifest, name: "case 50 an attestation key that is not restricted", policy: asksSVSM, blind: true, recipe: manifest(func(ak []byte) []byte {
		return evidencetest.Manifest(evidencetest.EK('e'), attributes(ak, 1<<16))
	})},
	{id: ReportDecode, name: "report and manifest as a bare report", policy: asksSVSM, blind: true, recipe: svsm(func(r *evidencetest.Recipe) {
		r.Document = func(e *evidence.Evidence) { e.Report.Kind = evidence.ReportSNP }
	})},
	{id: BindingReportData, name: "case 51 manifest of another SVSM", policy: asksSVSM, recipe: svsm(func(r *evidencetest.Recipe) {
		r.SVSM.Hashed = evidencetest.Manifest(evidencetest.EK('g'), r.AK.Public())
	})},
	{id: BindingReportData, name: "case 51 endorsement key swapped after the report", policy: asksSVSM, recipe: svsmBytes(func(b []byte) []byte {
		return bytes.Replace(b, evidencetest.EK('e'), evidencetest.EK('g'), 1)
	})},
	{id: BindingReportData, name: "case 52 an SVSM's report of before", policy: asksSVSM, recipe: svsm(func(r *evidencetest.Recipe) {
		r.SVSM.Nonce = func(n []byte) []byte { n[0] ^= 1; return n }
	})},
	{id: BindingReportData, name: "the commitment as a plain guest has it", policy: asksSVSM, recipe: svsm(func(r *evidencetest.Recipe) {
		r.ReportOf = func(s evidence.Snapshot) evidence.Snapshot { s.Time++; return s }
	})},
	{id: BindingVouchedKey, name: "case 51 the manifest names another attestation key", policy: asksSVSM, recipe: manifest(func([]byte) []byte {
		return evidencetest.Manifest(evidencetest.EK('e'), evidencetest.ECCKey('x').Public())
	})},
	{id: PolicyEndorsementKey, name: "case 51 enrolled with another vTPM, version 0", policy: listed("svsm", "") + enrolledWith('e'), recipe: manifest(version0('g'))},
	{id: PolicyEndorsementKey, name: "case 51 enrolled with another vTPM, version 1", policy: asksSVSM + enrolledWith('g'), recipe: svsm(nil)},
	{id: ReportSignature, name: "an SVSM's report altered", policy: asksSVSM, recipe: svsmBytes(flip(0x140, 1))},
	{id: PolicyVMPL, name: "case 55 an SVSM's structure from VMPL 1", policy: listed("svsm", ""), recipe: vmpl(1)},
	{id: PolicyBinding, name: "case 55 an SVSM's structure from VMPL 1, and the policy accepts that level", policy: listed("svsm", "binding = \"svsm\"\nvmpl = [0, 1]"), recipe: vmpl(1)},
	{id: PolicyBinding, name: "case 90 an SVSM's structure of a plain launch", policy: listed("plain", `binding = "svsm"`) + otherSVSM, recipe: svsm(nil)},
	{id: PolicyBinding, name: "case 93 an SVSM's structure of a paravisor's launch", policy: listed("paravisor", `binding = "svsm"`) + otherSVSM, recipe: svsm(nil)},
	{id: PolicyBinding, name: "case 93 a paravisor is asked for, and it is a plain launch", policy: listed("plain", `binding = "paravisor"`) + otherSVSM, recipe: svsm(nil)},
	{id: PolicyBinding, name: "version 0 and an attestation key that was not enrolled", policy: asksSVSM, recipe: manifest(version0('e'))},
	{id: PolicyBinding, name: "version 0 and an attestation key that is known by its name alone", policy: listed("svsm", "binding = \"svsm\"\nak_names = [\"000b"+recipeAK()+"\"]"), recipe: manifest(version0('e'))},
	{id: PolicyBinding, name: "a bare report of an SVSM's launch", policy: asksSVSM},
	{id: PolicyBasisHistory, name: "an SVSM's structure of a plain launch", policy: listed("plain", "") + otherSVSM + "[basis]\nhistory = \"tpm\"\n", recipe: svsm(nil)},
}

// TestSVSMAccepted: what the mutations start from is accepted, fresh and anchored, by a manifest
// of version 1 and by one of version 0 with an enrolment. Cases 90 and 93: a guest that imitates
// the structure gets guest-asserted, whatever it puts into it.
func TestSVSMAccepted(t *testing.T) {
	const word = "By the guest's word alone"
	enrolled := asksSVSM + enrolledWith('e')
	for _, c := range []struct {
		name, policy string
		recipe       func(*testing.T, *evidencetest.Recipe)
		binding      Binding
		history      Basis
		says         string
	}{
		{"version 1", asksSVSM, svsm(nil), BindingSVSM, ByTPM, "measured SVSM"},
		{"version 1, anchored", listed("svsm", "binding = \"svsm\"\n"+anchoredPolicy), svsm(anchored), BindingSVSM, ByTPM, "measured SVSM"},
		{"version 1, enrolled", enrolled, svsm(nil), BindingSVSM, ByTPM, "measured SVSM"},
		{"version 1, history by the TPM", asksSVSM + "[basis]\nhistory = \"tpm\"\n", svsm(nil), BindingSVSM, ByTPM, "measured SVSM"},
		{"version 0, enrolled", enrolled, manifest(version0('e')), BindingSVSM, ByTPM, "measured SVSM"},
		{"stronger than asked", listed("svsm", `binding = "paravisor"`), svsm(nil), BindingSVSM, ByTPM, "measured SVSM"},
		{"version 0, not enrolled", listed("svsm", ""), manifest(version0('e')), BindingGuestAsserted, ByGuest, word},
		{"imitated by a plain guest", listed("plain", ""), svsm(nil), BindingGuestAsserted, ByGuest, word},
		{"imitated by a plain guest, enrolled", listed("plain", "") + enrolledWith('e'), manifest(version0('e')), BindingGuestAsserted, ByTPM, "word of every program"},
		{"imitated under a paravisor", listed("paravisor", ""), svsm(nil), BindingGuestAsserted, ByGuest, word},
		{"imitated by firmware that is not listed", "version = 1\nunlisted_launch = \"allow\"\n", svsm(nil), BindingGuestAsserted, ByGuest, "not listed"},
		{"from VMPL 1", listed("svsm", "vmpl = [1]"), vmpl(1), BindingGuestAsserted, ByGuest, word},
		{"bare report under an SVSM", listed("svsm", ""), nil, BindingGuestAsserted, ByGuest, word},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			o.Policy = mustPolicy(t, c.policy)
			r := evidencetest.New()
			if c.recipe != nil {
				c.recipe(t, r)
			}
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := a.Claims()
			if err != nil || a.Binding != c.binding || claims.Basis.Log != c.history || claims.Basis.PCRs != c.history || !says(a, c.says) {
				t.Fatalf("%v, binding %s, %+v, %q\n%s", err, a.Binding, claims, a.Sentences, explain(a))
			}
			if claims.Basis.Caller != ByGuest {
				t.Errorf("the caller is by %s: no SVSM vouches for one", claims.Basis.Caller)
			}
			word := map[Binding]Basis{BindingSVSM: ByLaunch, BindingGuestAsserted: ByGuest}[c.binding]
			if k := a.Check(PolicyEndorsementKey); k.Verdict == Pass && k.Basis != word {
				t.Errorf("the endorsement key in the manifest is by %s, want by %s: who made the manifest chose it", k.Basis, word)
			}
			if r.SVSM != nil && (claims.Machine.Platform != evidence.ReportSVSM || claims.Machine.SNP == nil) {
				t.Errorf("machine %+v", claims.Machine)
			}
		})
	}
}

// TestServicesSayWhy: a manifest of all services is refused as what it is, not as a key that cannot
// be read.
func TestServicesSayWhy(t *testing.T) {
	o := baseOptions(t)
	o.Policy = mustPolicy(t, asksSVSM)
	r := evidencetest.New()
	manifest(services(version0('e')))(t, r)
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if c := a.Check(SVSMManifest); c.Verdict != Fail || !strings.Contains(c.Sentence, "want that of its vTPM alone") {
		t.Errorf("%s, %q", c.Verdict, c.Sentence)
	}
}

// TestUntiedSaysWhy: if nothing ties the vTPM to the report, the check of the binding names what
// did not pass, and nothing that did.
func TestUntiedSaysWhy(t *testing.T) {
	for want, c := range map[string]struct {
		policy string
		recipe func(*testing.T, *evidencetest.Recipe)
	}{
		"see svsm.manifest-within":    {asksSVSM, svsm(longNonce)},
		"see policy.endorsement-key":  {asksSVSM + enrolledWith('g'), svsm(nil)},
		"see binding.report-data":     {asksSVSM, svsm(func(r *evidencetest.Recipe) { r.SVSM.Nonce = func(n []byte) []byte { n[0] ^= 1; return n } })},
		"see binding.runtime-data":    {asksParavisor, blobBytes(func(b []byte) []byte { b[bytes.Index(b, []byte("secure"))] = 'S'; return b })},
		"see binding.attestation-key": {asksParavisor, azure(func(_ *testing.T, r *evidencetest.Recipe) { r.HCL.Names, r.AK = r.AK, evidencetest.ECCKey('k') })},
	} {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, c.policy)
		r := evidencetest.New()
		c.recipe(t, r)
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil {
			t.Fatal(err)
		}
		if b := a.Check(PolicyBinding); b.Verdict != NotAsserted || !strings.HasSuffix(b.Sentence, want) {
			t.Errorf("%s, %q, want %q", b.Verdict, b.Sentence, want)
		}
	}
}

// TestForgedManifestVerifies: the manifest of the attack with a long nonce is one by its form,
// and its key signs. So only [SVSMWithin] and the SVSM are in its way.
func TestForgedManifestVerifies(t *testing.T) {
	r := evidencetest.NewSVSM()
	longNonce(r)
	m, err := tpmwire.ParseManifest(r.SVSM.Manifest(nil))
	if err != nil || !bytes.Equal(m.AK, r.AK.Public()) || !bytes.HasSuffix(m.AK, evidencetest.EK('g')) {
		t.Fatalf("%+v, %v", m, err)
	}
}

// TestBareSVSMReport: a report with a manifest, without evidence, is compared with a nonce as
// the SVSM hashes it. It vouches for no vTPM: nothing was quoted.
func TestBareSVSMReport(t *testing.T) {
	e := evidencetest.NewSVSM().Build(t)
	data := e.ReportData()
	var certificates [][]byte
	for _, c := range e.Certificates {
		certificates = append(certificates, c)
	}
	o := baseOptions(t)
	o.Policy = mustPolicy(t, listed("svsm", "binding = \"none\"\nlog = \"optional\"\nfreshness = \"any\""))
	o.Nonce, o.ReportData = nil, data[:]
	raw := RawReport{Kind: evidence.ReportSVSM, Report: e.Report.Bytes, Certificates: certificates}
	a, err := appraiseReport(raw, o)
	if err != nil || a.Verdict != Pass || a.Binding != BindingNone {
		t.Fatalf("%v, binding %s\n%s", err, a.Binding, explain(a))
	}
	o.ReportData = bytes.Repeat([]byte{1}, 64)
	if a, err = appraiseReport(raw, o); err != nil || len(failedIDs(a)) != 1 || failedIDs(a)[0] != ReportExpectedData {
		t.Errorf("%v, failed are %v", err, failedIDs(a))
	}
	raw.Report = raw.Report[:len(raw.Report)-1]
	if a, err = appraiseReport(raw, o); err != nil || !strings.Contains(fmt.Sprint(failedIDs(a)), string(SVSMManifest)) {
		t.Errorf("%v, failed are %v", err, failedIDs(a))
	}
}
