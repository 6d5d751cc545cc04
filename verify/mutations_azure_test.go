// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
)

// listed is makePolicy with the launch measurement listed as of this kind.
func listed(kind, root string) string {
	return strings.Replace(makePolicy(root, ""), `kind = "plain"`, `kind = "`+kind+`"`, 1)
}

// azure makes evidence of a machine with a paravisor.
func azure(change func(*testing.T, *evidencetest.Recipe)) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) {
		*r = *evidencetest.NewAzure()
		if change != nil {
			change(t, r)
		}
	}
}

// structure changes the structure around the report.
func structure(change func(*evidencetest.HCL)) func(*testing.T, *evidencetest.Recipe) {
	return azure(func(_ *testing.T, r *evidencetest.Recipe) { change(r.HCL) })
}

// blobBytes changes the blob after the report was made.
func blobBytes(change func([]byte) []byte) func(*testing.T, *evidencetest.Recipe) {
	return structure(func(h *evidencetest.HCL) { h.Blob = change })
}

func flip(at int, bits byte) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= bits; return b }
}

// runtimeOf replaces text of the runtime data before the report is made over it.
func runtimeOf(old, new string) func(*testing.T, *evidencetest.Recipe) {
	return structure(func(h *evidencetest.HCL) {
		h.Runtime = func(s string) string { return strings.Replace(s, old, new, 1) }
	})
}

var asksParavisor = listed("paravisor", `binding = "paravisor"`)

// azureMutations: one thing is wrong about evidence of a paravisor, and the policy lists the
// launch measurement as a paravisor's, unless the case is about that.
var azureMutations = []mutation{
	{id: BindingVouchedKey, name: "case 115 runtime data of another AK", policy: asksParavisor, recipe: azure(func(t *testing.T, r *evidencetest.Recipe) {
		r.HCL.Names = evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA)
	})},
	{id: BindingVouchedKey, name: "case 115 a key of the guest's own", policy: asksParavisor, recipe: azure(func(_ *testing.T, r *evidencetest.Recipe) {
		r.HCL.Names, r.AK = r.AK, evidencetest.ECCKey('k')
	})},
	{id: BindingReportData, name: "case 141 paravisor's report of before", policy: asksParavisor, recipe: azure(func(t *testing.T, r *evidencetest.Recipe) {
		old := evidencetest.NewAzure()
		old.Statement.Nonce = bytes.Repeat([]byte{1}, 32)
		report := old.Build(t).Report
		r.Document = func(e *evidence.Evidence) { e.Report = report }
	})},
	{id: BindingReportData, name: "user data of another commitment", policy: asksParavisor, recipe: structure(func(h *evidencetest.HCL) {
		h.UserData = func(d *[64]byte) { d[63] ^= 1 }
	})},
	{id: BindingReportData, name: "runtime data without user data", policy: asksParavisor, recipe: runtimeOf(`"user-data"`, `"other-data"`)},
	{id: BindingReportData, name: "the commitment in another member", policy: asksParavisor, recipe: structure(func(h *evidencetest.HCL) {
		h.Runtime = func(s string) string {
			return strings.Replace(s, `"user-data"`, `"user-data":"`+strings.Repeat("00", 64)+`","user-Data"`, 1)
		}
	})},
	{id: BindingRuntimeData, name: "case 51 altered in evidence", policy: asksParavisor, recipe: blobBytes(func(b []byte) []byte {
		b[bytes.Index(b, []byte("secure"))] = 'S'
		return b
	})},
	{id: BindingRuntimeData, name: "evidence with more in the report data", policy: asksParavisor, recipe: azure(func(_ *testing.T, r *evidencetest.Recipe) {
		r.Report.Body = func(b []byte) { b[evidencetest.AtReportData+63] = 1 }
	})},
	{id: ParavisorDecode, name: "evidence, garbage", policy: asksParavisor, blind: true, recipe: blobBytes(func([]byte) []byte { return bytes.Repeat([]byte{0xa5}, 2600) })},
	{id: ParavisorDecode, name: "evidence, zeros after the runtime data", policy: asksParavisor, blind: true, recipe: blobBytes(func(b []byte) []byte { return append(b, 0) })},
	{id: ParavisorDecode, name: "evidence, cut off", policy: asksParavisor, blind: true, recipe: blobBytes(func(b []byte) []byte { return b[:len(b)-1] })},
	{id: ParavisorDecode, name: "evidence, TDX", policy: asksParavisor, blind: true, recipe: blobBytes(flip(1224, 2^4))},
	{id: ParavisorDecode, name: "evidence, a member twice", policy: asksParavisor, blind: true, recipe: runtimeOf(`{"keys":`, `{"keys":[],"keys":`)},
	{id: ParavisorDecode, name: "evidence, short user data", policy: asksParavisor, blind: true, recipe: runtimeOf(`"user-data":"`, `"user-data":"0011","other":"`)},
	{id: ParavisorDecode, name: "a bare report of that kind", policy: asksParavisor, blind: true, recipe: document(func(e *evidence.Evidence) { e.Report.Kind = evidence.ReportParavisor })},
	{id: ReportDecode, name: "a paravisor's structure as a bare report", policy: asksParavisor, blind: true, recipe: azure(func(_ *testing.T, r *evidencetest.Recipe) {
		r.Document = func(e *evidence.Evidence) { e.Report.Kind = evidence.ReportSNP }
	})},
	{id: ParavisorKey, name: "evidence, absent", policy: asksParavisor, blind: true, recipe: runtimeOf("HCLAkPub", "HCLAkPriv")},
	{id: ParavisorKey, name: "evidence, two of the name", policy: asksParavisor, blind: true, recipe: runtimeOf("HCLEkPub", "HCLAkPub")},
	{id: ReportSignature, name: "paravisor's report altered", policy: asksParavisor, recipe: blobBytes(flip(32+0x140, 1))},
	{id: PolicyVMPL, name: "case 55 paravisor's structure from VMPL 1", policy: listed("paravisor", ""), recipe: azure(func(_ *testing.T, r *evidencetest.Recipe) {
		r.Report.Body = le32(evidencetest.AtVMPL, 1)
	})},
	{id: PolicyBinding, name: "case 55 paravisor's structure from VMPL 1, and the policy accepts that level", policy: listed("paravisor", "binding = \"paravisor\"\nvmpl = [0, 1]"), recipe: azure(func(_ *testing.T, r *evidencetest.Recipe) {
		r.Report.Body = le32(evidencetest.AtVMPL, 1)
	})},
	{id: PolicyBinding, name: "case 93 paravisor's structure of a plain launch", policy: listed("plain", `binding = "paravisor"`) + otherParavisor, recipe: azure(nil)},
	{id: PolicyBinding, name: "paravisor's structure of an SVSM's launch", policy: listed("svsm", `binding = "paravisor"`) + otherParavisor, recipe: azure(nil)},
	{id: PolicyBinding, name: "a bare report of a paravisor's launch", policy: asksParavisor},
	{id: PolicyBasisHistory, name: "paravisor's structure of a plain launch", policy: listed("plain", "") + otherParavisor + "[basis]\nhistory = \"tpm\"\n", recipe: azure(nil)},
}

// otherParavisor lists another measurement as a paravisor's, so that a policy may ask for one.
var otherParavisor = "[[launch]]\nmeasurement = \"" + repeated(9, 48) + "\"\nkind = \"paravisor\"\ncovers = \"firmware\"\n"

// azureName returns the name of the paravisor's AK.
func azureName(t *testing.T) []byte {
	t.Helper()
	p, err := keys.ParsePublic(evidencetest.NewAzure().AK.Public())
	if err != nil {
		t.Fatal(err)
	}
	return p.Name()
}

// TestAzureAccepted: what the mutations start from is accepted, fresh and anchored. A guest
// that imitates the structure gets guest-asserted, whatever it puts into it.
func TestAzureAccepted(t *testing.T) {
	for _, c := range []struct {
		name, policy string
		recipe       func(*testing.T, *evidencetest.Recipe)
		binding      Binding
		history      Basis
		says         string
	}{
		{"fresh", asksParavisor, azure(nil), BindingParavisor, ByTPM, "measured paravisor"},
		{"anchored", listed("paravisor", "binding = \"paravisor\"\n"+anchoredPolicy), azure(func(_ *testing.T, r *evidencetest.Recipe) { anchored(r) }), BindingParavisor, ByTPM, "measured paravisor"},
		{"history by the TPM", asksParavisor + "[basis]\nhistory = \"tpm\"\n", azure(nil), BindingParavisor, ByTPM, "measured paravisor"},
		{"with rules about caller and key", listed("paravisor", "binding = \"paravisor\"\nak_names = [\""+hex.EncodeToString(azureName(t))+"\"]") + "[caller]\nunit = \"billing.service\"\n", azure(nil), BindingParavisor, ByTPM, "measured paravisor"},
		{"imitated by a plain guest", listed("plain", ""), azure(nil), BindingGuestAsserted, ByGuest, "By the guest's word alone"},
		{"imitated under an SVSM", listed("svsm", ""), azure(nil), BindingGuestAsserted, ByGuest, "By the guest's word alone"},
		{"imitated by firmware that is not listed", "version = 1\nunlisted_launch = \"allow\"\n", azure(nil), BindingGuestAsserted, ByGuest, "not listed"},
		{"from VMPL 1", listed("paravisor", "vmpl = [1]"), azure(func(_ *testing.T, r *evidencetest.Recipe) {
			r.Report.Body = le32(evidencetest.AtVMPL, 1)
		}), BindingGuestAsserted, ByGuest, "By the guest's word alone"},
		{"bare report under a paravisor", listed("paravisor", ""), nil, BindingGuestAsserted, ByGuest, "By the guest's word alone"},
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
				t.Errorf("the caller is by %s: no paravisor vouches for one", claims.Basis.Caller)
			}
			if r.HCL != nil && (claims.Machine.Platform != evidence.ReportParavisor || claims.Machine.SNP == nil) {
				t.Errorf("machine %+v", claims.Machine)
			}
		})
	}
}

// TestBareParavisorReport: a paravisor's blob without evidence, with the zeros that fill the NV index
// up, is compared with a nonce in its user data. It vouches for no vTPM: nothing was quoted.
func TestBareParavisorReport(t *testing.T) {
	e := evidencetest.NewAzure().Build(t)
	data := e.ReportData()
	o := baseOptions(t)
	o.Policy = mustPolicy(t, listed("paravisor", "binding = \"none\"\nlog = \"optional\"\nfreshness = \"any\""))
	whole := append(bytes.Clone(e.Report.Bytes), make([]byte, 100)...)
	for name, c := range map[string]struct {
		blob, data []byte
		failed     []CheckID
	}{
		"good":                {whole, data[:], nil},
		"without zeros":       {e.Report.Bytes, data[:], nil},
		"other user data":     {whole, bytes.Repeat([]byte{1}, 64), []CheckID{ReportExpectedData}},
		"something after it":  {append(bytes.Clone(whole), 1), data[:], []CheckID{ParavisorDecode}},
		"altered":             {bytes.Replace(whole, []byte("secure"), []byte("Secure"), 1), data[:], []CheckID{BindingRuntimeData}},
		"no paravisor's blob": {e.Report.Bytes[32:][:1184], data[:], []CheckID{ParavisorDecode}},
	} {
		raw := RawReport{Kind: evidence.ReportParavisor, Report: c.blob}
		for _, x := range e.Certificates {
			raw.Certificates = append(raw.Certificates, x)
		}
		o.Nonce, o.ReportData = nil, c.data
		a, err := appraiseReport(raw, o)
		if err != nil || !sameIDs(failedIDs(a), c.failed) || (a.Verdict == Pass) != (c.failed == nil) || a.Binding != BindingNone {
			t.Errorf("%s: %v, failed are %v, want %v, binding %s\n%s", name, err, failedIDs(a), c.failed, a.Binding, explain(a))
		}
	}
}

// TestAzureWithCache: a report that is known from the cache undergoes the same checks.
func TestAzureWithCache(t *testing.T) {
	o := baseOptions(t)
	o.Policy = mustPolicy(t, asksParavisor)
	v, err := New(o.Policy, Config{Roots: Roots{SNP: o.Roots}, CacheEntries: 10})
	if err != nil {
		t.Fatal(err)
	}
	r := evidencetest.NewAzure()
	good := r.Build(t)
	other := *good
	other.Report.Bytes = bytes.Clone(good.Report.Bytes)
	other.Report.Bytes[bytes.Index(other.Report.Bytes, []byte("secure"))] = 'S'
	for _, c := range []struct {
		e    *evidence.Evidence
		want []CheckID
	}{{good, nil}, {good, nil}, {&other, []CheckID{BindingRuntimeData}}} {
		a, err := v.Appraise([]byte(encoded(t, c.e)), o.expect(), o.Time)
		if err != nil || !sameIDs(failedIDs(a), c.want) {
			t.Errorf("failed are %v, want %v, %v", failedIDs(a), c.want, err)
		}
	}
}
