// SPDX-License-Identifier: Apache-2.0

package crossmachine

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// aboveSVSM starts a machine with an SVSM, and asks it.
func aboveSVSM(t *testing.T, args ...string) *guest {
	t.Helper()
	return ofKind(t, "svsm", args...)
}

// ofKind starts a machine of that kind, and asks it.
func ofKind(t *testing.T, kind string, args ...string) *guest {
	t.Helper()
	g := &guest{Machine: start(t, kind, args...)}
	if err := g.ask(t.Context(), "of kind "+kind); err != nil {
		t.Fatal(err)
	}
	return g
}

// start starts a machine of that kind, under the root of the others.
func start(t *testing.T, kind string, args ...string) *simulated.Machine {
	t.Helper()
	need(t)
	m, err := simulated.Start(shared.commands, t.TempDir(), filepath.Join(filepath.Dir(shared.roots), "authority"),
		append([]string{"--product", "genoa", "--machine", kind}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// signed returns the bytes of a report over a nonce and a manifest that the firmware of g makes
// at a level, and the manifest.
func (g *guest) signed(t *testing.T, nonce [64]byte, manifest []byte, vmpl uint32) []byte {
	t.Helper()
	return append(g.over(t, sha512.Sum512(slices.Concat(nonce[:], manifest)), vmpl), manifest...)
}

// over returns a report with this data that the firmware of g makes at a level.
func (g *guest) over(t *testing.T, data [64]byte, vmpl uint32) []byte {
	t.Helper()
	p, err := soft.New(soft.Options{Directory: filepath.Join(g.Dir, "platform"), Product: snp.Genoa, VMPL: vmpl})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.Report(t.Context(), platform.Fixed(data))
	if err != nil {
		t.Fatal(err)
	}
	return r.Bytes
}

// split returns report and manifest.
func split(e *evidence.Evidence) (report, manifest []byte) {
	return e.Report.Bytes[:snp.ReportSize], e.Report.Bytes[snp.ReportSize:]
}

const asked = "binding = \"svsm\""

// TestSVSM: evidence of a machine whose SVSM names the attestation key has the binding that the
// policy asks for, and with one thing changed it is refused by a check of its own. Cases 51, 55,
// 90 and 93.
func TestSVSM(t *testing.T) {
	g, stranger := aboveSVSM(t), aboveSVSM(t)
	policy := policyFor("svsm", asked, "")
	for _, doc := range [][]byte{g.fresh, g.anchored} {
		if a := both(t, policy, doc); a.Binding != verify.BindingSVSM {
			t.Errorf("binding %s", a.Binding)
		}
		for _, kind := range []string{"plain", "paravisor"} {
			if a := both(t, policyFor(kind, "", ""), doc); a.Binding != verify.BindingGuestAsserted {
				t.Errorf("listed as %s, the binding is %s", kind, a.Binding)
			}
			both(t, policyFor(kind, asked, elsewhere+"\"svsm\"\n"), doc, "policy.binding")
		}
	}
	e, other := parse(t, g.fresh), parse(t, stranger.fresh)
	m, err := tpmwire.ParseManifest(e.Report.Bytes[snp.ReportSize:])
	if err != nil {
		t.Fatal(err)
	}
	data := e.ReportData()
	_, othersManifest := split(other)
	third := binary.BigEndian.AppendUint32(bytes.Clone(m.Bytes()[:4]), 3)
	third = append(third, m.Bytes()[8:]...)
	third = append(binary.BigEndian.AppendUint16(third, uint16(len(m.AK))), m.AK...)
	report, own := split(e)
	for _, c := range []struct {
		name  string
		bytes []byte
		fails []verify.CheckID
	}{
		{"report and manifest of another SVSM", other.Report.Bytes, []verify.CheckID{"report.signature", "report.chip", "binding.report-data", "binding.attestation-key"}},
		{"manifest of another SVSM", slices.Concat(report, othersManifest), []verify.CheckID{"binding.report-data", "binding.attestation-key"}},
		{"manifest of another SVSM, hashed", g.signed(t, data, othersManifest, 0), []verify.CheckID{"binding.attestation-key"}},
		{"endorsement key swapped", slices.Concat(report, evidencetest.Manifest(evidencetest.EK('e'), m.AK)), []verify.CheckID{"binding.report-data"}},
		{"attestation key not in the manifest", g.signed(t, data, evidencetest.Manifest(m.EK, evidencetest.ECCKey('x').Public()), 0), []verify.CheckID{"binding.attestation-key"}},
		{"a byte after it", slices.Concat(e.Report.Bytes, []byte{0}), []verify.CheckID{"svsm.manifest"}},
		{"a byte after it, hashed", g.signed(t, data, append(bytes.Clone(own), 0), 0), []verify.CheckID{"svsm.manifest"}},
		{"a third key", g.signed(t, data, third, 0), []verify.CheckID{"svsm.manifest"}},
		{"a key that ends with a genuine manifest", g.signed(t, data, evidencetest.Manifest(m.EK, evidencetest.KeyEndingIn(evidencetest.EK('g')).Public()), 0),
			[]verify.CheckID{"svsm.manifest-within", "binding.attestation-key"}},
		{"the manifest hashed, and left out", report, []verify.CheckID{"svsm.manifest"}},
		{"from VMPL 1", g.signed(t, data, own, 1), []verify.CheckID{"policy.vmpl", "policy.binding"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := *e
			changed.Report.Bytes = c.bytes
			both(t, policy, document(t, &changed), c.fails...)
		})
	}
}

// TestSVSMThatNamesNoAttestationKey: a manifest of version 0 ties the attestation key if the policy
// has an enrolment of it with the endorsement key in the manifest, and only then.
func TestSVSMThatNamesNoAttestationKey(t *testing.T) {
	g := aboveSVSM(t, "--svsm-manifest-0")
	if a := both(t, policyFor("svsm", "", ""), g.fresh); a.Binding != verify.BindingGuestAsserted {
		t.Errorf("not enrolled, the binding is %s", a.Binding)
	}
	both(t, policyFor("svsm", asked, ""), g.fresh, "policy.binding")
	r := newMaker(t).enrolled(t, g)
	for _, doc := range [][]byte{g.fresh, g.anchored} {
		if a := both(t, policyFor("svsm", asked, rule(t, r)), doc); a.Binding != verify.BindingSVSM {
			t.Errorf("enrolled, the binding is %s", a.Binding)
		}
	}
	if a := both(t, policyFor("plain", "", rule(t, r)), g.fresh); a.Binding != verify.BindingGuestAsserted {
		t.Errorf("listed as plain, the binding is %s", a.Binding)
	}
	other := newMaker(t).enrolled(t, shared.a)
	r.EK, r.EKCertificates = other.EK, other.EKCertificates
	for _, root := range []string{"", asked} {
		both(t, policyFor("svsm", root, rule(t, r)), g.fresh, "policy.endorsement-key")
	}
}

// TestImitatedSVSM: case 90. A plain guest that makes the whole structure of an SVSM, with the
// genuine keys of its vTPM and its own commitment, gets no more than guest-asserted.
func TestImitatedSVSM(t *testing.T) {
	need(t)
	ak, err := shared.a.Client().AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := parse(t, shared.a.fresh)
	e.Report.Kind = evidence.ReportSVSM
	for _, manifest := range [][]byte{evidencetest.Manifest(ak.EK, ak.Public), ak.EK} {
		e.Report.Bytes = shared.a.signed(t, e.ReportData(), manifest, 0)
		doc := document(t, e)
		for _, tables := range []string{"", rule(t, newMaker(t).enrolled(t, shared.a))} {
			if a := both(t, policyFor("plain", "", tables), doc); a.Binding != verify.BindingGuestAsserted {
				t.Errorf("binding %s", a.Binding)
			}
			both(t, policyFor("plain", asked, elsewhere+"\"svsm\"\n"+tables), doc, "policy.binding")
		}
	}
}
