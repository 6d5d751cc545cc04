// SPDX-License-Identifier: Apache-2.0

package ear

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// scene is what a test appraises. The zero value is good evidence under a policy without floors.
type scene struct {
	root, tables string // of the policy
	covers       verify.Cover
	change       func(*evidencetest.Recipe)
	lists        []*snp.RevocationList
	replay       bool
	at           time.Time
}

const tcbFloor = "\n[tcb.genoa]\nreported = { bootloader = 9, tee = 3, snp = 23, microcode = 72 }\n"

func (s scene) appraise(t *testing.T) (*verify.Policy, *verify.Appraisal) {
	t.Helper()
	covers := s.covers
	if covers == "" {
		covers = verify.CoversKernel
	}
	text := fmt.Sprintf("version = 1\n%s\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = %q\nlabel = \"image 7\"\n%s", s.root, hex.EncodeToString(evidencetest.Measurement), covers, s.tables)
	p, err := verify.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	v, err := verify.New(p, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}, Revocation: verify.Revocation{SNP: s.lists}})
	if err != nil {
		t.Fatal(err)
	}
	r := evidencetest.New()
	if s.change != nil {
		s.change(r)
	}
	expect := verify.Expect{Nonce: evidencetest.Nonce}
	if s.replay {
		expect = verify.Expect{UnsafeAcceptReplay: true}
	}
	if s.at.IsZero() {
		s.at = evidencetest.Time
	}
	a, err := v.Appraise(r.Encode(t), expect, s.at)
	if err != nil {
		t.Fatal(err)
	}
	return p, a
}

// genuine makes an accepted appraisal say that its root is AMD's. No test can have AMD sign.
func genuine(t *testing.T, a *verify.Appraisal) {
	t.Helper()
	c, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	c.Machine.TestRoot = false
}

// akName returns the name of the attestation key of each recipe (TPM 2.0 Part 1, section 16).
func akName() string {
	sum := sha256.Sum256(evidencetest.New().AK.Public())
	return "000b" + hex.EncodeToString(sum[:])
}

func options() Options {
	return Options{Audience: "https://vault.example", Nonce: evidencetest.Nonce, Build: "test 1"}
}

func testKey(t *testing.T) *Key {
	t.Helper()
	k, err := NewKey(evidencetest.Key('t'))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// decoded is the claims of a token.
type decoded struct {
	Profile  string                                `json:"eat_profile"`
	Nonce    string                                `json:"eat_nonce"`
	IssuedAt int64                                 `json:"iat"`
	From     int64                                 `json:"nbf"`
	Ends     int64                                 `json:"exp"`
	Issuer   string                                `json:"iss"`
	Audience string                                `json:"aud"`
	Subject  string                                `json:"sub"`
	ID       string                                `json:"jti"`
	Verifier map[string]string                     `json:"ear.verifier-id"`
	Submods  map[string]map[string]json.RawMessage `json:"submods"`
}

// claims decodes the claims of a token, without looking at its signature.
func claims(t *testing.T, token []byte) (c decoded, d details, v map[string]int, status string) {
	t.Helper()
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]any{"ear.agentd": &d, "ear.trustworthiness-vector": &v, "ear.status": &status} {
		if err := json.Unmarshal(c.Submods[submodule][name], to); err != nil {
			t.Fatalf("%s: %v in %s", name, err, b)
		}
	}
	return c, d, v, status
}

// TestVector: what each policy proves is affirmed, and nothing else. Everything rests on the processor:
// without a floor for its firmware, or under a test root, nothing is.
func TestVector(t *testing.T) {
	const app = "\n[[app]]\nname = \"billing\"\ndigests = [%q]\n"
	digest := evidencetest.App("billing", "billing.service", "billing", "billing 1").App.Digest.String()
	listed := fmt.Sprintf(app, digest)
	name := akName()
	debug := func(r *evidencetest.Recipe) {
		r.Report.Body = func(b []byte) { b[8+2] |= 1 << (19 - 16) } // POLICY, bit 19
	}
	for _, c := range []struct {
		name  string
		scene scene
		test  bool // leave the test root
		want  map[string]int
	}{
		{"no floor", scene{}, false, map[string]int{"hardware": 0}},
		{"no floor, the whole system", scene{covers: verify.CoversSystem, tables: listed}, false, map[string]int{"hardware": 0}},
		{"test root", scene{tables: tcbFloor, covers: verify.CoversSystem}, true, map[string]int{"hardware": -33}},
		{"floor", scene{tables: tcbFloor}, false, map[string]int{"hardware": 2, "runtime-opaque": 2}},
		{"debugging is allowed", scene{tables: tcbFloor + "[guest_policy]\nallow_debug = true\n", change: debug}, false, map[string]int{"hardware": 2}},
		{"an application on the guest's word", scene{tables: tcbFloor + listed}, false, map[string]int{"hardware": 2, "runtime-opaque": 2}},
		{"the whole system", scene{tables: tcbFloor, covers: verify.CoversSystem}, false,
			map[string]int{"hardware": 2, "runtime-opaque": 2, "configuration": 2, "executables": 3}},
		{"the whole system and an application", scene{tables: tcbFloor + listed, covers: verify.CoversSystem}, false,
			map[string]int{"hardware": 2, "runtime-opaque": 2, "configuration": 2, "executables": 3, "file-system": 2}},
		{"firmware alone", scene{tables: tcbFloor + listed, covers: verify.CoversFirmware}, false, map[string]int{"hardware": 2, "runtime-opaque": 2}},
		{"a known AK", scene{root: "ak_names = [\"" + name + "\"]\n", tables: tcbFloor}, false, map[string]int{"hardware": 2, "runtime-opaque": 2, "instance-identity": 2}},
		{"a known chip", scene{root: "chips = [\"" + hex.EncodeToString(evidencetest.ChipID) + "\"]\n", tables: tcbFloor}, false,
			map[string]int{"hardware": 2, "runtime-opaque": 2, "instance-identity": 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, a := c.scene.appraise(t)
			if !c.test {
				genuine(t, a)
			}
			token, err := Token(testKey(t), p, a, options())
			if err != nil {
				t.Fatal(err)
			}
			_, _, v, status := claims(t, token)
			want := map[int]string{0: tierNone, 2: tierAffirming, -33: tierWarning}[c.want["hardware"]]
			if fmt.Sprint(v) != fmt.Sprint(c.want) || status != want {
				t.Errorf("%v and %q, want %v and %q", v, status, c.want, want)
			}
		})
	}
}

// TestNothingIsAffirmedWithoutItsCheck: each aspect goes away with each of the checks that prove it.
func TestNothingIsAffirmedWithoutItsCheck(t *testing.T) {
	digest := evidencetest.App("billing", "billing.service", "billing", "billing 1").App.Digest.String()
	s := scene{covers: verify.CoversSystem, tables: tcbFloor + fmt.Sprintf("\n[[app]]\nname = \"billing\"\ndigests = [%q]\n", digest),
		root: "ak_names = [\"" + akName() + "\"]\n"}
	all := []string{"configuration", "executables", "file-system", "hardware", "instance-identity", "runtime-opaque"}
	for id, gone := range map[verify.CheckID][]string{
		"report.signature": all, "report.chain": all, "report.validity": all, "report.tcb": all, "policy.tcb-reported": all,
		"policy.debug": {"runtime-opaque"}, "policy.migration-agent": {"runtime-opaque"}, "policy.ak": {"instance-identity"},
		"policy.launch":      {"configuration", "executables", "file-system"},
		"policy.app-present": {"file-system"}, "policy.app-digest": {"file-system"}, "policy.app-covered": {"file-system"},
	} {
		p, a := s.appraise(t)
		genuine(t, a)
		i := slices.IndexFunc(a.Checks, func(c verify.Check) bool { return c.ID == id })
		if i < 0 || a.Checks[i].Verdict != verify.Pass {
			t.Fatalf("%s did not pass", id)
		}
		a.Checks[i].Verdict = verify.NotAsserted
		token, err := Token(testKey(t), p, a, options())
		if err != nil {
			t.Fatal(err)
		}
		_, _, v, _ := claims(t, token)
		for _, aspect := range all {
			if affirmed := v[aspect] > 0; affirmed == slices.Contains(gone, aspect) {
				t.Errorf("without %s, %s is %d", id, aspect, v[aspect])
			}
		}
	}
}

// TestFilesOnTheGuestsWord: files are approved only if another party than the guest says what was measured.
func TestFilesOnTheGuestsWord(t *testing.T) {
	digest := evidencetest.App("billing", "billing.service", "billing", "billing 1").App.Digest.String()
	p, a := scene{covers: verify.CoversSystem, tables: tcbFloor + fmt.Sprintf("\n[[app]]\nname = \"billing\"\ndigests = [%q]\n", digest)}.appraise(t)
	genuine(t, a)
	for basis, want := range map[verify.Basis]int{verify.ByLaunch: 2, verify.ByTPM: 2, verify.ByGuest: 0, "": 0} {
		c, err := a.Claims()
		if err != nil {
			t.Fatal(err)
		}
		c.Basis.Log = basis
		token, err := Token(testKey(t), p, a, options())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, v, _ := claims(t, token); v["file-system"] != want {
			t.Errorf("by %q: file-system is %d, want %d", basis, v["file-system"], want)
		}
	}
}

// TestRefused: refused evidence gives no token. If one is asked for, it is contraindicated, says which
// checks failed, and repeats nothing that the evidence claims.
func TestRefused(t *testing.T) {
	day := evidencetest.Time
	for _, c := range []struct {
		name   string
		scene  scene
		vector map[string]int
		failed verify.CheckID
	}{
		{"forged", scene{change: func(r *evidencetest.Recipe) { r.Batch.Attest = func(a *evidencetest.Attestation) { a.Magic++ } }},
			map[string]int{"configuration": 99, "executables": 99, "file-system": 99, "hardware": 99, "instance-identity": 99, "runtime-opaque": 99}, "quote.magic"},
		{"revoked", scene{lists: []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, day.AddDate(0, -1, 0), day.AddDate(0, 1, 0), evidencetest.Serial)}}, map[string]int{"hardware": 96}, "report.revocation"},
		{"no list", scene{root: "revocation = \"required\"\n"}, map[string]int{"hardware": 0}, "report.revocation-list"},
		{"policy", scene{root: "vmpl = [1]\n"}, map[string]int{"hardware": 0}, "policy.vmpl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, a := c.scene.appraise(t)
			o := options()
			if token, err := Token(testKey(t), p, a, o); !errors.Is(err, ErrRefused) || token != nil {
				t.Fatalf("%s, %v: want no token", token, err)
			}
			o.Refused, o.Machine = true, true
			token, err := Token(testKey(t), p, a, o)
			if err != nil {
				t.Fatal(err)
			}
			k, d, v, status := claims(t, token)
			if status != tierContraindicated || fmt.Sprint(v) != fmt.Sprint(c.vector) || k.Subject != "refused:" || !slices.Contains(d.Failed, c.failed) || d.Verdict != verify.Fail || d.Class == "" {
				t.Errorf("%s, %v, %q, %+v", status, v, k.Subject, d)
			}
			if rest := (details{Type: d.Type, Verdict: d.Verdict, Class: d.Class, Failed: d.Failed}); fmt.Sprintf("%+v", d) != fmt.Sprintf("%+v", rest) {
				t.Errorf("the token repeats what refused evidence says: %+v", d)
			}
		})
	}
}

// TestEnd: no token is valid for longer than the certificates, the revocation list and the age of the
// report support it.
func TestEnd(t *testing.T) {
	now := evidencetest.Time
	list := func(to time.Time) []*snp.RevocationList {
		return []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, now.AddDate(0, -1, 0), to)}
	}
	leaf := func(to time.Time) func(*evidencetest.Recipe) {
		return func(r *evidencetest.Recipe) { r.Report.NotBefore, r.Report.NotAfter = now.AddDate(-1, 0, 0), to }
	}
	old := func(r *evidencetest.Recipe) {
		r.Anchored, r.Statement.Freshness = true, evidence.Anchored // 60.5 s by the guest, 60 s by the vTPM
	}
	for _, c := range []struct {
		name     string
		scene    scene
		lifetime time.Duration
		want     time.Duration // 0: no token
	}{
		{"lifetime", scene{}, time.Hour, time.Hour},
		{"default", scene{}, 0, 5 * time.Minute},
		{"certificate", scene{change: leaf(now.Add(90 * time.Second))}, time.Hour, 90 * time.Second},
		{"certificate ends now", scene{change: leaf(now)}, time.Hour, 0},
		{"list", scene{lists: list(now.Add(2 * time.Minute))}, time.Hour, 2 * time.Minute},
		{"the longer of two lists", scene{lists: append(list(now.Add(2*time.Minute)), list(now.Add(3*time.Minute))...)}, time.Hour, 3 * time.Minute},
		{"a list that the policy does not ask for", scene{root: "revocation = \"off\"\n", lists: list(now.Add(2 * time.Minute))}, time.Hour, time.Hour},
		{"anchor", scene{root: "freshness = \"anchored\"\nmax_anchor_age = \"2m\"\n", change: old}, time.Hour, 59 * time.Second},
		{"no anchor, and one would be accepted", scene{root: "freshness = \"anchored\"\nmax_anchor_age = \"2m\"\n"}, time.Hour, 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, a := c.scene.appraise(t)
			if a.Verdict != verify.Pass {
				t.Fatalf("refused: %v", a.Sentences)
			}
			o := options()
			o.Lifetime = c.lifetime
			token, err := Token(testKey(t), p, a, o)
			if c.want == 0 {
				if err == nil {
					t.Fatal("a token that is over at once")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			k, _, _, _ := claims(t, token)
			if k.IssuedAt != now.Unix() || k.From != now.Unix() || k.Ends != now.Add(c.want).Unix() {
				t.Errorf("from %d to %d, want %d to %d", k.IssuedAt-now.Unix(), k.Ends-now.Unix(), 0, int(c.want.Seconds()))
			}
		})
	}
}

// TestClaims has every claim of a token once, in both profiles.
func TestClaims(t *testing.T) {
	key := sha256.Sum256([]byte("a public key"))
	digest := evidencetest.App("billing", "billing.service", "billing", "billing 1").App.Digest.String()
	p, a := scene{tables: tcbFloor + fmt.Sprintf("\n[[app]]\nname = \"billing\"\ndigests = [%q]\n", digest)}.appraise(t)
	k := testKey(t)
	token, err := Token(k, p, a, options())
	if err != nil {
		t.Fatal(err)
	}
	c, d, _, _ := claims(t, token)
	if c.Profile != string(Profile2023) || c.Audience != "https://vault.example" || c.Issuer != "urn:ietf:params:oauth:jwk-thumbprint:sha-256:"+k.ID() || c.Subject != "app:billing" ||
		c.Nonce != base64.RawURLEncoding.EncodeToString(evidencetest.Nonce) || c.Verifier["build"] != "test 1" || c.Verifier["developer"] != developer || len(c.ID) != 32 || len(c.Submods) != 1 {
		t.Errorf("%+v", c)
	}
	if got := string(c.Submods[submodule]["ear.appraisal-policy-id"]); got != `"sha256:`+a.Policy+`"` {
		t.Errorf("policy %s", got)
	}
	want := details{Type: DetailsType, Verdict: verify.Pass, Basis: verify.ByGuest, Bases: &bases{verify.ByProcessor, verify.ByGuest, verify.ByGuest, verify.ByGuest},
		Binding: verify.BindingGuestAsserted, Fresh: verify.FreshReport, Platform: evidence.ReportSNP, Product: "genoa", Measurement: hex.EncodeToString(evidencetest.Measurement), Label: "image 7",
		Covers: verify.CoversKernel, TestRoot: true, AKOrigin: verify.AKNone, Unit: "billing.service", UID: new(uint32(990)), App: "billing", AppDigest: digest,
		PublicKey: hex.EncodeToString(key[:]), Apps: map[string]string{"billing": digest}}
	if got, want := mustJSON(t, d), mustJSON(t, want); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	o := options()
	o.Machine, o.Issuer, o.Profile = true, "https://verifier.example", Profile2026
	if token, err = Token(k, p, a, o); err != nil {
		t.Fatal(err)
	}
	b, _ := base64.RawURLEncoding.DecodeString(strings.Split(string(token), ".")[1])
	var other map[string]any
	if err := json.Unmarshal(b, &other); err != nil {
		t.Fatal(err)
	}
	sub, _ := other["submods"].(map[string]any)[submodule].(map[string]any)
	ours, _ := sub["ear_agentd"].(map[string]any)
	if other["eat_profile"] != string(Profile2026) || other["ear_status"] != tierWarning || other["iss"] != "https://verifier.example" || sub["ear_status"] != tierWarning || sub["eat_nonce"] != c.Nonce ||
		fmt.Sprint(sub["ear_appraisal_policy_ids"]) != "[sha256:"+a.Policy+"]" || ours["chipID"] != hex.EncodeToString(evidencetest.ChipID) || ours["reportID"] != hex.EncodeToString(evidencetest.ReportID) || ours["akName"] != akName() {
		t.Errorf("%s", b)
	}
	if strings.Contains(string(b), "ear.") {
		t.Errorf("names of another profile: %s", b)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestNothingIsNamedByZeros: an identifier that is absent or zero is not a claim, and neither is the user of a
// caller that the statement does not have.
func TestNothingIsNamedByZeros(t *testing.T) {
	digest := evidencetest.App("billing", "billing.service", "billing", "billing 1").App.Digest.String()
	p, a := scene{tables: tcbFloor + fmt.Sprintf("\n[[app]]\nname = \"billing\"\ndigests = [%q]\n", digest)}.appraise(t)
	c, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	zeros := func(n int) string { return strings.Repeat("00", n) }
	c.Machine.ChipID, c.Machine.ReportID, c.Machine.Measurement, c.AKName = zeros(64), zeros(32), zeros(48), zeros(34)
	app := &c.Log.Apps[slices.IndexFunc(c.Log.Apps, func(x verify.AppClaim) bool { return x.Name == "billing" })]
	app.Versions = slices.Clone(app.Versions)
	app.Versions[app.Current].Digest = evidence.Digest{}
	c.Statement.Caller.Container = &evidence.Container{Engine: "podman"}
	o := options()
	o.Machine = true
	make := func() details {
		t.Helper()
		token, err := Token(testKey(t), p, a, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, body, _ := strings.Cut(string(token), "."); strings.Contains(payload(t, body), zeros(8)) {
			t.Errorf("zeros in %s", payload(t, body))
		}
		_, d, _, _ := claims(t, token)
		return d
	}
	if d := make(); d.ChipID+d.ReportID+d.Measurement+d.AKName+d.AppDigest != "" || d.Container != nil || len(d.Apps) > 0 || d.UID == nil {
		t.Errorf("%+v", d)
	}
	c.Statement.Caller.Container = &evidence.Container{Engine: "podman", Root: evidence.Sum256("root"), Image: new(evidence.Digest)}
	if d := make(); d.Container == nil || d.Container.Image != "" {
		t.Errorf("%+v", d.Container)
	}
	c.Statement.Caller = evidence.Caller{}
	if d := make(); d.UID != nil || d.Unit+d.App != "" {
		t.Errorf("a caller that is not there: %+v", d)
	}
}

// payload is the claims of a token, from the part after its header.
func payload(t *testing.T, rest string) string {
	t.Helper()
	body, _, _ := strings.Cut(rest, ".")
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestNoToken: what would say more than was shown gives no token, whatever the options.
func TestNoToken(t *testing.T) {
	p, a := scene{}.appraise(t)
	other, _ := scene{root: "vmpl = [0, 1]\n"}.appraise(t)
	_, replayed := scene{replay: true}.appraise(t)
	raw := *a
	raw.Material = verify.MaterialReport
	cut, unknown := *a, *a
	cut.Accepted = verify.Appraisal{}.Accepted
	unknown.Verdict = ""
	for name, c := range map[string]struct {
		policy    *verify.Policy
		appraisal *verify.Appraisal
		change    func(*Options)
		says      string
	}{
		"another policy":     {other, a, nil, "not one under this policy"},
		"replay":             {p, replayed, nil, "old evidence"},
		"another nonce":      {p, a, func(o *Options) { o.Nonce = bytes.Repeat([]byte{1}, 32) }, "old evidence"},
		"raw material":       {p, &raw, nil, "snp-report"},
		"without claims":     {p, &cut, nil, "without claims"},
		"without a verdict":  {p, &unknown, nil, "without claims"},
		"no audience":        {p, a, func(o *Options) { o.Audience = "" }, "audience"},
		"no build":           {p, a, func(o *Options) { o.Build = "" }, "build"},
		"no nonce":           {p, a, func(o *Options) { o.Nonce = nil }, "nonce"},
		"long nonce":         {p, a, func(o *Options) { o.Nonce = make([]byte, 65) }, "nonce"},
		"escape in audience": {p, a, func(o *Options) { o.Audience = "a\x1b[2J" }, "audience"},
		"long issuer":        {p, a, func(o *Options) { o.Issuer = strings.Repeat("a", MaxName+1) }, "issuer"},
		"lifetime":           {p, a, func(o *Options) { o.Lifetime = MaxLifetime + 1 }, "lifetime"},
		"negative lifetime":  {p, a, func(o *Options) { o.Lifetime = -time.Hour }, "lifetime"},
		"profile":            {p, a, func(o *Options) { o.Profile = "x" }, "profile"},
	} {
		o := options()
		o.Refused = true
		if c.change != nil {
			c.change(&o)
		}
		if token, err := Token(testKey(t), c.policy, c.appraisal, o); err == nil || token != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// TestSignatures: both algorithms sign in the form of JWS, and the same each time. A header names the
// key by its thumbprint.
func TestSignatures(t *testing.T) {
	p, a := scene{}.appraise(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]crypto.Signer{"EdDSA": evidencetest.Key('t'), "ES256": ec} {
		k, err := NewKey(signer)
		if err != nil {
			t.Fatal(err)
		}
		token, err := Token(k, p, a, options())
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Token(k, p, a, options()); err != nil || !bytes.Equal(token, again) {
			t.Errorf("%s: another token the second time: %v", name, err)
		}
		head, rest, _ := strings.Cut(string(token), ".")
		body, signature, _ := strings.Cut(rest, ".")
		header, _ := base64.RawURLEncoding.DecodeString(head)
		if want := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, name, k.ID()); string(header) != want {
			t.Errorf("%s: header %s, want %s", name, header, want)
		}
		s, err := base64.RawURLEncoding.Strict().DecodeString(signature)
		if err != nil || len(s) != 64 {
			t.Fatalf("%s: signature of %d bytes, %v", name, len(s), err)
		}
		message := []byte(head + "." + body)
		good := false
		switch public := signer.Public().(type) {
		case ed25519.PublicKey:
			good = ed25519.Verify(public, message, s)
		case *ecdsa.PublicKey:
			digest := sha256.Sum256(message)
			good = ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(s[:32]), new(big.Int).SetBytes(s[32:]))
		}
		if !good {
			t.Errorf("%s: the signature does not verify", name)
		}
	}
}

// liar is a signer that shows the key of another.
type liar struct {
	crypto.Signer
	shows crypto.PublicKey
}

func (l liar) Public() crypto.PublicKey { return l.shows }

// failing is a signer that cannot sign.
type failing struct{ crypto.Signer }

func (failing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, io.ErrNoProgress
}

// TestKeys: keys that no algorithm of a token is for are refused, and a signer whose signature its public
// key does not verify makes no token.
func TestKeys(t *testing.T) {
	p, a := scene{}.appraise(t)
	ec := func(c elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, signer := range []crypto.Signer{ec(elliptic.P224()), ec(elliptic.P384()), ec(elliptic.P521()), r} {
		if _, err := NewKey(signer); err == nil {
			t.Errorf("%T is accepted", signer)
		}
		if _, err := KeySet(signer.Public()); err == nil {
			t.Errorf("%T is in a set", signer.Public())
		}
	}
	one, two := ec(elliptic.P256()), ec(elliptic.P256())
	for name, signer := range map[string]crypto.Signer{"ECDSA": liar{one, two.Public()}, "Ed25519": liar{evidencetest.Key('a'), evidencetest.Key('b').Public()}, "ECDSA that fails": failing{one}, "Ed25519 that fails": failing{evidencetest.Key('a')}} {
		k, err := NewKey(signer)
		if err != nil {
			t.Fatal(err)
		}
		if token, err := Token(k, p, a, options()); err == nil || token != nil {
			t.Errorf("%s: a token of a signer that does not have its key", name)
		}
	}
	if _, err := KeySet(); err == nil {
		t.Error("a set of no keys")
	}
}

// TestThumbprint has the example of RFC 8037, appendix A.3.
func TestThumbprint(t *testing.T) {
	x, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	set, err := KeySet(ed25519.PublicKey(x), ed25519.PublicKey(x))
	want := `{"keys":[{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","alg":"EdDSA","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","use":"sig"}]}`
	if err != nil || string(set) != want {
		t.Errorf("%v\n%s, want\n%s", err, set, want)
	}
}

// TestLargePolicy: a policy with so many applications that no server would take the token gives none.
func TestLargePolicy(t *testing.T) {
	var tables strings.Builder
	tables.WriteString(tcbFloor)
	s := scene{change: func(r *evidencetest.Recipe) {
		for i := range 200 {
			name := fmt.Sprintf("application-%d", i)
			r.Events = append(r.Events, evidencetest.App(name, name+".service", "", name))
		}
	}}
	for i := range 200 {
		name := fmt.Sprintf("application-%d", i)
		fmt.Fprintf(&tables, "\n[[app]]\nname = %q\ndigests = [%q]\n", name, evidencetest.App(name, name+".service", "", name).App.Digest)
	}
	s.tables = tables.String()
	p, a := s.appraise(t)
	if a.Verdict != verify.Pass {
		t.Fatal(a.Sentences)
	}
	if _, err := Token(testKey(t), p, a, options()); err == nil || !strings.Contains(err.Error(), "too many applications") {
		t.Error(err)
	}
}
