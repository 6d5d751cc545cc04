// SPDX-License-Identifier: Apache-2.0

package crossmachine

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// A plain guest can ask for a report over any 64 bytes, and so imitate whatever a
// paravisor or an SVSM would put there. These tests are such a guest on the chip of A.

// report is one over data that the guest chose, with the certificates of A's chip.
func (g *guest) report(t *testing.T, data [64]byte) ([]byte, [][]byte) {
	t.Helper()
	p, err := soft.New(soft.Options{Directory: filepath.Join(g.Dir, "platform"), Product: snp.Genoa})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.Report(t.Context(), platform.Fixed(data))
	if err != nil {
		t.Fatal(err)
	}
	return r.Bytes, r.Certificates
}

// measurement of a launch that no machine here has.
const elsewhere = "[[launch]]\nmeasurement = \"" +
	"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee" +
	"\"\ncovers = \"firmware\"\nkind = "

// TestListedAsAnotherKind: case 93. What the policy lists never makes more of evidence
// than its structure shows, and the structure never more than what is listed.
func TestListedAsAnotherKind(t *testing.T) {
	need(t)
	for _, kind := range []string{"paravisor", "svsm"} {
		t.Run(kind, func(t *testing.T) {
			for _, doc := range [][]byte{shared.a.fresh, shared.a.anchored} {
				if a := both(t, policyFor(kind, "", ""), doc); a.Binding != verify.BindingGuestAsserted {
					t.Errorf("listed as %s, the binding is %s", kind, a.Binding)
				}
				asked := "log = \"optional\"\nbinding = \"" + kind + "\""
				both(t, policyFor(kind, asked, ""), doc, "policy.binding")
				both(t, policy(asked, elsewhere+"\""+kind+"\"\n"), doc, "policy.binding")
			}
		})
	}
}

// manifest is the vTPM service manifest of an SVSM, version 1: big-endian 1, the number
// of keys, then each as a TPM2B_PUBLIC.
func manifest(keys ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(keys)))
	for _, k := range keys {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(k))), k...)
	}
	return b
}

// TestImitatedManifest: case 90. REPORT_DATA over a service manifest that holds the
// genuine EK and AK of A is not a binding, whatever the policy lists the launch as.
func TestImitatedManifest(t *testing.T) {
	need(t)
	ak, err := shared.a.Client().AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data := sha512.Sum512(append(append([]byte{}, nonce...), manifest(ak.EK, ak.Public)...))
	report, certificates := shared.a.report(t, data)
	for _, kind := range []string{"plain", "svsm"} {
		t.Run("in evidence, listed as "+kind, func(t *testing.T) {
			e := shared.a.parts(t).fresh
			e.Report.Bytes = report
			both(t, policyFor(kind, "", ""), document(t, e), "binding.report-data")
		})
	}
	bare := func(t *testing.T, policy string, want ...verify.CheckID) *verify.Appraisal {
		t.Helper()
		a, err := verifier(t, policy).AppraiseReport(verify.RawReport{Kind: evidence.ReportSNP, Report: report, Certificates: certificates}, verify.Expect{ReportData: data[:]}, shared.at)
		if err != nil {
			t.Fatal(err)
		}
		hold(t, "library", a, want)
		hold(t, "command", command(t, policy, nil, append(certificateFlags(t, certificates),
			"--snp-report", file(t, "report", report), "--report-data", "hex:"+hex.EncodeToString(data[:]))...), want)
		return a
	}
	t.Run("bare", func(t *testing.T) {
		if a := bare(t, policyFor("svsm", "binding = \"none\"\nlog = \"optional\"\nfreshness = \"any\"", "")); a.Binding != verify.BindingNone {
			t.Errorf("binding %s", a.Binding)
		}
	})
	t.Run("bare, an SVSM asked for", func(t *testing.T) {
		bare(t, policyFor("svsm", "binding = \"svsm\"\nlog = \"optional\"\nfreshness = \"any\"", ""), "policy.binding")
	})
}

// TestImitatedRuntimeData: case 90. A guest that writes runtime data with a key of its
// own, and signs a quote with it, gets no more than guest-asserted.
func TestImitatedRuntimeData(t *testing.T) {
	need(t)
	r := evidencetest.NewParavisor()
	r.Nonce = nonce
	r.UserData = append(append([]byte{}, nonce...), make([]byte, 64-len(nonce))...)
	var certificates [][]byte
	r.Blob = func(b []byte) []byte {
		const at = 32 // of the report in the blob
		var data [64]byte
		copy(data[:], b[at+evidencetest.AtReportData:])
		var report []byte
		report, certificates = shared.a.report(t, data)
		copy(b[at:], report)
		return b
	}
	s := verify.AzureSet(r.Build(t))
	s.Certificates = certificates
	for _, c := range []struct {
		name, policy string
		fails        []verify.CheckID
	}{
		{"guest-asserted is all that is asked", policy("log = \"optional\"", ""), nil},
		{"a paravisor asked for", policy("log = \"optional\"\nbinding = \"paravisor\"", elsewhere+"\"paravisor\"\n"), []verify.CheckID{"policy.binding"}},
		{"an SVSM asked for, listed as one", policyFor("svsm", "log = \"optional\"\nbinding = \"svsm\"", ""), []verify.CheckID{"policy.binding"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := verifier(t, c.policy).AppraiseParavisor(s, verify.Expect{Nonce: nonce, UserData: r.UserData}, shared.at)
			if err != nil {
				t.Fatal(err)
			}
			hold(t, "library", a, c.fails)
			hold(t, "command", command(t, c.policy, nil, append(certificateFlags(t, certificates), "--nonce", "hex:"+hex.EncodeToString(nonce),
				"--user-data", "hex:"+hex.EncodeToString(r.UserData), "--azure-hcl", file(t, "hcl", s.HCL), "--quote", file(t, "quote", s.Quote),
				"--signature", file(t, "signature", s.Signature), "--pcrs", file(t, "pcrs", s.PCRs))...), c.fails)
			if len(c.fails) == 0 && a.Binding != verify.BindingGuestAsserted {
				t.Errorf("binding %s", a.Binding)
			}
		})
	}
}

func file(t *testing.T, name string, b []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func certificateFlags(t *testing.T, ders [][]byte) []string {
	t.Helper()
	var args []string
	for _, der := range ders {
		args = append(args, "--certificate", file(t, "certificate", der))
	}
	return args
}
