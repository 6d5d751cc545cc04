// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
)

// akAnswer is what a client reads of an answer with a certificate of an attestation key.
type akAnswer struct {
	Appraisal     struct{ Verdict string }
	Uncertified   string
	AKCertificate *struct {
		Chain               [][]byte
		PermanentIdentifier string
		NotAfter            time.Time
	}
}

// certify has evidence appraised, and asks for a certificate.
func (w *worker) certify(base string) *akAnswer {
	w.t.Helper()
	body := bytes.Replace(evidence(w.t, w.challenge(base), nil), []byte("{"), []byte(`{"certifyAK":true,`), 1)
	a := new(akAnswer)
	if code, err := ask(w.client, "POST", w.url+base+"/v1/appraisals", body, a); err != nil || code != 200 {
		w.t.Fatalf("%s: %d, %v, %+v", base, code, err, a)
	}
	return a
}

// TestAuthority: attestation keys are certified under the policies that the settings name, for as long as
// a signed policy counts, and the record of the appraisal names the certificate.
func TestAuthority(t *testing.T) {
	b := newBed(t, false)
	key := b.signer("policies.pem")
	b.writePair("ak", tls.Certificate{Certificate: [][]byte{b.ca.root.Raw}, PrivateKey: b.ca.key})
	table := fmt.Sprintf("[authority]\ncertificate = %q\nkey = %q\npolicies = [\"default\", \"short\", \"enrolled\"]\n", b.path("ak.crt"), b.path("ak.key"))
	b.policies = fmt.Sprintf("keys = [%q]\n%s", b.path("policies.pem"), table)
	w := b.start("one")
	alice, never, soon := b.alice(), time.Time{}, time.Now().Add(5*time.Minute).Truncate(time.Second)
	for name, ends := range map[string]time.Time{"default": never, "short": soon, "web": never} {
		if code, out := w.put(alice, name, signedPolicy(t, key, easy, 1, ends), "", nil); code != 200 {
			t.Fatalf("%s: %d, %v", name, code, out)
		}
	}
	ak, err := keys.ParsePublic(evidencetest.New().AK.Public())
	if err != nil {
		t.Fatal(err)
	}
	a := w.certify("")
	if a.AKCertificate == nil || a.AKCertificate.PermanentIdentifier != ak.Name().String()[4:] {
		t.Fatalf("%+v", a)
	}
	c, err := x509.ParseCertificate(a.AKCertificate.Chain[0])
	if err != nil || c.CheckSignatureFrom(b.ca.root) != nil {
		t.Errorf("%v, it is not of the authority", err)
	}
	last := w.last()
	sum := sha256.Sum256(a.AKCertificate.Chain[0])
	if last.Certificate != hex.EncodeToString(sum[:]) || last.Identifier != a.AKCertificate.PermanentIdentifier || !last.NotAfter.Equal(c.NotAfter) {
		t.Errorf("the record: %+v", last)
	}
	if a := w.certify("/p/short"); a.AKCertificate == nil || !a.AKCertificate.NotAfter.Equal(soon) {
		t.Errorf("under a policy that ends: %+v", a)
	}
	if a := w.certify("/p/web"); a.AKCertificate != nil || !strings.Contains(a.Uncertified, "under this policy") {
		t.Errorf("under a policy that is not named: %+v", a)
	}
	if last := w.last(); last.Certificate != "" {
		t.Errorf("the record: %+v", last)
	}
	if err := os.Chmod(b.path("ak.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := w.run("check"); code == 0 || !strings.Contains(out, "chmod o=") {
		t.Errorf("a key that each user can read: %d, %s", code, out)
	}
}

// last is the last record.
func (w *worker) last() entry {
	w.t.Helper()
	all := w.records()
	return all[len(all)-1]
}

// TestAuthorityNamesEnrolledMachines: by the endorsement key of an approved enrolment that the appraisal
// rests on, and by nothing else.
func TestAuthorityNamesEnrolledMachines(t *testing.T) {
	b := newBed(t, false)
	b.writePair("ak", tls.Certificate{Certificate: [][]byte{b.ca.root.Raw}, PrivateKey: b.ca.key})
	b.policies = fmt.Sprintf("[authority]\ncertificate = %q\nkey = %q\nidentifier = \"ek\"\npolicies = [\"default\", \"enrolled\"]\n", b.path("ak.crt"), b.path("ak.key"))
	w := b.start("one")
	alice := b.alice()
	for name, text := range map[string]string{"default": easy, "enrolled": easy + "outside_enrolments = \"approved\"\n"} {
		if code, out := w.put(alice, name, text, "", nil); code != 200 {
			t.Fatalf("%s: %d, %v", name, code, out)
		}
	}
	ak, err := keys.ParsePublic(evidencetest.New().AK.Public())
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		if a := w.certify("/p/enrolled"); a.AKCertificate != nil || a.Appraisal.Verdict != "fail" {
			t.Errorf("%s: %+v", what, a)
		}
	}
	change := func(method, path, body string) {
		t.Helper()
		if code, err := ask(alice, method, w.admin+"/admin/v1/enrolments"+path, []byte(body), nil); err != nil || code != 200 {
			t.Fatalf("%s %s: %d, %v", method, path, code, err)
		}
	}
	refused("not enrolled")
	change("POST", "", fmt.Sprintf(`{"type":%q,"ek":"000b%064x","ak":%q,"ekIssuer":"none","enrolled":"2031-01-01T00:00:00Z"}`, keys.EnrolmentType, 1, ak.Name()))
	refused("pending")
	change("POST", "/"+ak.Name().String()+"/approve", "")
	if a := w.certify("/p/enrolled"); a.AKCertificate == nil || a.AKCertificate.PermanentIdentifier != fmt.Sprintf("%064x", 1) {
		t.Errorf("approved: %+v", a)
	}
	if a := w.certify(""); a.AKCertificate != nil || !strings.Contains(a.Uncertified, "no name here") {
		t.Errorf("a policy that does not look at enrolments: %+v", a)
	}
	change("DELETE", "/"+ak.Name().String(), "")
	refused("removed")
}
