// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// shared are the commands, and a software platform whose test root all machines have.
var shared struct{ commands, platform, dir string }

func TestMain(m *testing.M) {
	os.Exit(simulated.Main(m, func(commands, dir string) (func() error, error) {
		shared.commands, shared.dir = commands, dir
		var err error
		shared.platform, err = simulated.Platform(commands, filepath.Join(dir, "first"))
		return nil, err
	}))
}

// machine is a running machine, and what it was asked for.
type machine struct {
	*simulated.Machine
	nonce    []byte
	document *evidence.Evidence
}

// start starts a machine of a kind, with further flags of the simulator, and asks for evidence.
func start(t *testing.T, kind string, flags ...string) *machine {
	t.Helper()
	if shared.platform == "" {
		t.Skip(simulated.ErrNoTPM)
	}
	dir, err := os.MkdirTemp(shared.dir, kind)
	if err != nil {
		t.Fatal(err)
	}
	s, err := simulated.Start(shared.commands, dir, shared.platform, append([]string{"--machine", kind}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	m := &machine{Machine: s, nonce: make([]byte, 32)}
	rand.Read(m.nonce)
	b, err := s.Client().Evidence(t.Context(), api.EvidenceRequest{Nonce: m.nonce})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Output())
	}
	if m.document, err = evidence.Parse(b); err != nil {
		t.Fatal(err)
	}
	return m
}

// initial is the policy that agentctl begins for a kind, with texts replaced: old, new, and so on.
// Each old text must be there.
func initial(t *testing.T, kind string, replace ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(shared.commands, "agentctl"), "policy", "init", "--machine", kind).Output()
	if err != nil {
		t.Fatal(err)
	}
	text := string(out)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("the policy for %s does not contain %q", kind, replace[i])
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	return text
}

// appraise appraises a document of m under a policy, as the machine's test root allows.
func (m *machine) appraise(t *testing.T, e *evidence.Evidence, policy string) *verify.Appraisal {
	t.Helper()
	p, err := verify.ParsePolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(m.Root())
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := snp.ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	roots := new(snp.Roots)
	for _, c := range certificates {
		if err := roots.AddTestRootThatVouchesForNoHardware(c); err != nil {
			t.Fatal(err)
		}
	}
	v, err := verify.New(p, verify.Config{Roots: verify.Roots{SNP: roots}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := strictjson.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	a, err := v.Appraise(b, verify.Expect{Nonce: m.nonce}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// failed lists the checks that failed.
func failed(a *verify.Appraisal) (ids []verify.CheckID) {
	for _, c := range a.Failed() {
		if c.Verdict == verify.Fail {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

const (
	unfilled  = "46494c4c20494e20746865206c61756e6368206d6561737572656d656e74206f6620796f7572206d616368696e652e2e"
	simulates = `products = ["milan"]`
)

// launched is the launch measurement of m.
func (m *machine) launched(t *testing.T) string {
	t.Helper()
	return relying.Policy(t, m.Machine).Launches[0].Measurement
}

// googleRoot is the key roots of [gcp], with the authority of a machine.
func (m *machine) googleRoot(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Dir, "platform", "google-root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return "roots = \"\"\"\n" + string(b) + "\"\"\"\n"
}

// filled returns what an operator fills in for a machine of a kind.
func (m *machine) filled(t *testing.T, kind string) []string {
	t.Helper()
	launch := []string{unfilled, m.launched(t)}
	switch kind {
	case "gcp":
		return append(launch, `projects = ["my-project"]`, "projects = [\"simulated-project\"]\n"+m.googleRoot(t))
	case "azure":
		return launch
	case "aws":
		return append(launch, "CN=cc-us-east-2.amazonaws.com", "CN=cc-simulated.amazonaws.com")
	}
	return append(launch, `products = ["genoa", "turin"]`, simulates)
}

// TestMachines: evidence of each machine has the binding and the origin of its attestation key that
// its page states, under the example of the simulator and under the policy that agentctl begins,
// once that is filled in. Before it is, everything is refused.
func TestMachines(t *testing.T) {
	for _, c := range []struct {
		kind    string
		binding verify.Binding
		origin  verify.AKOrigin
	}{
		{"aws", verify.BindingGuestAsserted, verify.AKNone},
		{"azure", verify.BindingParavisor, verify.AKNone},
		{"gcp", verify.BindingGuestAsserted, verify.AKCertified},
		{"qemu", verify.BindingGuestAsserted, verify.AKNone},
		{"svsm", verify.BindingSVSM, verify.AKNone},
	} {
		t.Run(c.kind, func(t *testing.T) {
			m := start(t, c.kind)
			example, err := os.ReadFile(m.Policy())
			if err != nil {
				t.Fatal(err)
			}
			for what, text := range map[string]string{"the example": string(example), "the policy to begin with": initial(t, c.kind, m.filled(t, c.kind)...)} {
				a := m.appraise(t, m.document, text)
				if a.Verdict != verify.Pass || a.Binding != c.binding || a.AKOrigin != c.origin {
					t.Errorf("%s: %s, binding %s, AK %s, %v\n%s", what, a.Verdict, a.Binding, a.AKOrigin, failed(a), strings.Join(a.Sentences, "\n"))
				}
			}
			if a := m.appraise(t, m.document, initial(t, c.kind)); a.Verdict != verify.Fail || !slices.Contains(failed(a), verify.CheckID("policy.launch")) {
				t.Errorf("as it is: %s, %v", a.Verdict, failed(a))
			}
		})
	}
}

// TestConfigFS: a plain guest whose reports come by configfs-tsm makes the same evidence as one with
// the SNP driver alone. The agent finds out itself what the machine is: on AWS by what signs the
// reports, on Google Cloud by the vTPM.
func TestConfigFS(t *testing.T) {
	for kind, c := range map[string]struct{ is, why string }{
		"qemu": {"sev-snp", "configfs-tsm has an entry"},
		"gcp":  {"gcp", "a template of Google's attestation key"},
		"aws":  {"aws", `a VLEK signs its reports, and the host's certificate says that it is of "CN=cc-simulated.amazonaws.com"`},
	} {
		t.Run(kind, func(t *testing.T) {
			m := start(t, kind, "--configfs")
			example, err := os.ReadFile(m.Policy())
			if err != nil {
				t.Fatal(err)
			}
			if a := m.appraise(t, m.document, string(example)); a.Verdict != verify.Pass || a.Binding != verify.BindingGuestAsserted {
				t.Errorf("%s, binding %s, %v", a.Verdict, a.Binding, failed(a))
			}
			st, err := m.Client().Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if p := st.Platform; p.Machine != c.is || p.Source != "configfs" || !strings.Contains(p.Why, c.why) || strings.Contains(p.Why, "no derived keys") {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestFoundByItsSigner: nothing but what signs the reports of a machine of AWS makes it one.
func TestFoundByItsSigner(t *testing.T) {
	for kind, is := range map[string]string{"aws": "aws", "qemu": "sev-snp"} {
		st, err := start(t, kind).Client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p := st.Platform; p.Machine != is || strings.Contains(p.Why, "VLEK") != (kind == "aws") {
			t.Errorf("%s: %+v", kind, p)
		}
	}
}

// TestGCPChanged: case 118. With one thing changed, evidence of a machine of Google Cloud is refused
// by a check of its own.
func TestGCPChanged(t *testing.T) {
	m, other := start(t, "gcp"), start(t, "gcp")
	good := initial(t, "gcp", m.filled(t, "gcp")...)
	isAK := func(c evidence.Bytes) bool { return strings.Contains(string(c), "simulated-project") }
	replaced := func(by evidence.Certificates) *evidence.Evidence {
		e := *m.document
		e.Certificates = append(slices.DeleteFunc(slices.Clone(e.Certificates), isAK), by...)
		return &e
	}
	i := slices.IndexFunc(other.document.Certificates, isAK)
	if i < 0 || !slices.ContainsFunc(m.document.Certificates, isAK) {
		t.Fatal("evidence without a certificate of the AK")
	}
	issuer, err := os.ReadFile(filepath.Join(other.Dir, "platform", "google-issuer.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(issuer)
	if block == nil {
		t.Fatal(errors.New("no issuer"))
	}
	theirs := evidence.Certificates{other.document.Certificates[i], block.Bytes}
	for _, c := range []struct {
		name   string
		e      *evidence.Evidence
		policy string
		want   []verify.CheckID
	}{
		{"another project", m.document, strings.Replace(good, "simulated-project", "my-project", 1), []verify.CheckID{"policy.gcp-project"}},
		{"this machine and another", m.document, strings.Replace(good, `# instances = [`, `instances = ["1", `, 1), nil},
		{"another machine", m.document, strings.Replace(good, `# instances = ["6524697943022743941"]`, `instances = ["1"]`, 1), []verify.CheckID{"policy.gcp-machine"}},
		{"another root", m.document, strings.Replace(good, m.googleRoot(t), other.googleRoot(t), 1), []verify.CheckID{"policy.gcp-chain"}},
		{"Google's root", m.document, strings.Replace(good, m.googleRoot(t), "", 1), []verify.CheckID{"policy.gcp-chain"}},
		{"another machine's certificate", replaced(theirs), strings.Replace(good, m.googleRoot(t), other.googleRoot(t), 1), []verify.CheckID{"policy.gcp-key"}},
		{"no certificate", replaced(nil), good, []verify.CheckID{"policy.gcp-certificate"}},
		{"garbage for a certificate", replaced(evidence.Certificates{evidence.Bytes("garbage")}), good, []verify.CheckID{"policy.gcp-certificate"}},
	} {
		a := m.appraise(t, c.e, c.policy)
		got := failed(a)
		got = slices.DeleteFunc(got, func(id verify.CheckID) bool { return id == "policy.basis-history" }) // it follows
		if !slices.Equal(got, c.want) || (len(c.want) == 0) != (a.Verdict == verify.Pass) || a.AKOrigin == verify.AKCertified != (len(c.want) == 0) {
			t.Errorf("%s: %s, AK %s, failed are %v, want %v", c.name, a.Verdict, a.AKOrigin, got, c.want)
		}
	}
}

// TestAWSChanged does the same for a machine of AWS.
func TestAWSChanged(t *testing.T) {
	m := start(t, "aws")
	good := initial(t, "aws", m.filled(t, "aws")...)
	if n := len(m.document.Certificates); n != 2 { // the VLEK's of the host, and the issuer's of the guest
		t.Errorf("%d certificates, want 2", n)
	}
	alone := *m.document
	alone.Certificates = alone.Certificates[:1]
	for _, c := range []struct {
		name   string
		e      *evidence.Evidence
		policy string
		want   []verify.CheckID
	}{
		{"another region", m.document, strings.Replace(good, "cc-simulated", "cc-eu-west-1", 1), []verify.CheckID{"policy.vlek-csp"}},
		{"chips alone", m.document, strings.Replace(strings.Replace(good, `signers = ["vlek"]`, `signers = ["vcek"]`, 1), "vlek_csps", "# vlek_csps", 1), []verify.CheckID{"policy.signer"}},
		{"without the issuer", &alone, good, []verify.CheckID{"report.certificate"}},
	} {
		a := m.appraise(t, c.e, c.policy)
		if got := failed(a); !slices.Equal(got, c.want) {
			t.Errorf("%s: %s, failed are %v, want %v", c.name, a.Verdict, got, c.want)
		}
	}
	if p, err := hex.DecodeString(m.launched(t)); err != nil || len(p) != 48 {
		t.Errorf("%x, %v", p, err)
	}
}
