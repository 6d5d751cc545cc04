// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ed25519"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/cmw"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// certificateOf is a certificate of this key with a document, PEM and DER.
func certificateOf(t *testing.T, key ed25519.PrivateKey, document []byte) (asPEM, der []byte) {
	t.Helper()
	f := certificateFlags{validFor: time.Hour}
	der, err := f.certificate(key, document, evidencetest.Time)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), der
}

// TestCarriedEvidence: every command that reads evidence reads it in each carrier, with the same result.
// A certificate must be of the key that the evidence names: one of an attacker's own key, with the
// evidence of another machine, is refused.
func TestCarriedEvidence(t *testing.T) {
	key := evidencetest.Key('c')
	r := evidencetest.New()
	r.Statement.PublicKey = spki(t, key)
	document := r.Encode(t)
	files := map[string][]byte{"raw": document, "policy.toml": []byte(openPolicy), "root.pem": rootPEM(t)}
	for name, form := range map[string]cmw.Form{"json": cmw.JSON, "cbor": cmw.CBOR} {
		b, err := cmw.Wrap(form, document)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	files["pem"], files["der"] = certificateOf(t, key, document)
	files["stolen"], _ = certificateOf(t, evidencetest.Key('x'), document)
	files["other.pub"] = spki(t, evidencetest.Key('x'))
	files["key.pub"] = spki(t, key)
	t.Chdir(folder(t, files))

	_, raw, _ := agentctl(t, verifying("--json", "raw")...)
	for _, name := range []string{"raw", "json", "cbor", "pem", "der"} {
		code, stdout, stderr := agentctl(t, verifying("--verbose", name)...)
		certificate := name == "pem" || name == "der"
		if code != exitOK {
			t.Fatalf("%s: exit code %d\n%s%s", name, code, stdout, stderr)
		}
		if got := strings.Contains(strings.Join(strings.Fields(stdout), " "), "The certificate does not show with whom a connection is"); got != certificate {
			t.Errorf("%s: says what a certificate does not show: %v\n%s", name, got, stdout)
		}
		if got := strings.Contains(stdout, "pass  statement.public-key"); got != certificate {
			t.Errorf("%s: the key was compared: %v", name, got)
		}
		if _, same, _ := agentctl(t, verifying("--json", name)...); !certificate && same != raw {
			t.Errorf("%s: another appraisal than of the document itself", name)
		}
		if code, out, stderr := agentctl(t, "show", name); code != exitOK || !strings.Contains(out, "billing.service") {
			t.Errorf("show %s: exit code %d\n%s%s", name, code, out, stderr)
		}
		for _, args := range [][]string{
			{"export", "--format", "cmw-cbor", "--out", "again", name},
			{"policy", "check", "--policy", "policy.toml", "--at", "2026-06-01", "--trust-test-root-that-vouches-for-no-hardware", "root.pem", name},
			{"policy", "init", "--from", name, "--at", "2026-06-01", "--trust-test-root-that-vouches-for-no-hardware", "root.pem", "--out", "drafted.toml"},
		} {
			if code, stdout, stderr := agentctl(t, args...); code != exitOK {
				t.Errorf("%q: exit code %d\n%s%s", args, code, stdout, stderr)
			}
		}
		if b, err := os.ReadFile("again"); err != nil || string(b) != string(files["cbor"]) {
			t.Errorf("%s: exported as another record: %v", name, err)
		}
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{verifying("stolen"), "FAIL  statement.public-key"},
		{[]string{"policy", "check", "--verbose", "--policy", "policy.toml", "--at", "2026-06-01", "--trust-test-root-that-vouches-for-no-hardware", "root.pem", "stolen"}, "statement.public-key"},
		{verifying("--public-key", "other.pub", "pem"), "not of the key in --public-key"},
		{verifying("--public-key", "other.pub", "stolen"), "FAIL  statement.public-key"},
	} {
		if code, stdout, stderr := agentctl(t, c.args...); code != exitBinding || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%q: exit code %d, want %q\n%s%s", c.args, code, c.says, stdout, stderr)
		}
	}
	if code, stdout, stderr := agentctl(t, verifying("--public-key", "key.pub", "pem")...); code != exitOK {
		t.Errorf("the key of the certificate as the one in use: exit code %d\n%s%s", code, stdout, stderr)
	}
}

// TestBrokenCarriers: a carrier that is not exactly one is refused as forged, with the reason, and gives
// no verdict.
func TestBrokenCarriers(t *testing.T) {
	document := evidencetest.New().Encode(t)
	cbor, err := cmw.Wrap(cmw.CBOR, document)
	if err != nil {
		t.Fatal(err)
	}
	asPEM, der := certificateOf(t, evidencetest.Key('c'), document)
	t.Chdir(folder(t, map[string][]byte{
		"policy.toml": []byte(openPolicy), "root.pem": rootPEM(t), "cut.cmw": cbor[:len(cbor)-2], "longer.cmw": append(cbor, 0),
		"other.cmw": []byte(`["application/eat+cwt","AAAA",4]`), "cut.der": der[:len(der)-1], "two.pem": append(asPEM, asPEM...), "plain.pem": rootPEM(t),
		"long.json": append(make([]byte, evidence.MaxEvidence), document...),
	}))
	for name, says := range map[string]string{
		"cut.cmw": "read a CMW", "longer.cmw": "follow the record", "other.cmw": `"application/eat+cwt"`, "cut.der": "read a certificate",
		"two.pem": "one PEM block", "plain.pem": "no extension id-pe-cmw", "long.json": "too large",
	} {
		want := exitBinding
		if name == "long.json" {
			want = exitMisuse
		}
		for _, args := range [][]string{verifying(name), {"export", "--format", "cmw-json", "--out", "x", name}, {"show", name}} {
			if args[0] == "show" && name == "plain.pem" {
				continue // it shows other files too
			}
			if code, stdout, stderr := agentctl(t, args...); code != want || stdout != "" || !strings.Contains(stderr, says) {
				t.Errorf("%q: exit code %d, want %d and %q\n%s%s", args, code, want, says, stdout, stderr)
			}
		}
	}
}

// TestCertificateMisuse: flags that make no certificate are refused before anything is asked for.
func TestCertificateMisuse(t *testing.T) {
	t.Chdir(folder(t, map[string][]byte{"there.key": pkcs8(t, evidencetest.Key('c'))}))
	for says, args := range map[string][]string{
		"are for --certificate":         {"--make-key", "x.key"},
		"without --prove-key":           {"--certificate", "x.pem"},
		"leave --prove-key":             {"--certificate", "x.pem", "--make-key", "x.key", "--prove-key", "there.key"},
		"the file exists":               {"--certificate", "x.pem", "--make-key", "there.key"},
		"a file of its own":             {"--certificate", "x.pem", "--make-key", "x.pem"},
		"--valid-for 1s":                {"--certificate", "x.pem", "--make-key", "x.key", "--valid-for", "1s"},
		"--valid-for 9000h":             {"--certificate", "x.pem", "--make-key", "x.key", "--valid-for", "9000h"},
		"--make-key, --dns-name and --": {"--dns-name", "a.example"},
	} {
		code, stdout, stderr := agentctl(t, append([]string{"attest", "--socket", "none", "--nonce", strings.Repeat("00", 32)}, args...)...)
		if code != exitMisuse || !strings.Contains(stderr, says) {
			t.Errorf("%q: exit code %d, want %q\n%s%s", args, code, says, stdout, stderr)
		}
	}
	f := certificateFlags{validFor: time.Hour}
	if _, err := f.certificate(evidencetest.Key('c'), make([]byte, cmw.MaxCertificate), evidencetest.Time); err == nil || !strings.Contains(err.Error(), "--log none") {
		t.Errorf("a certificate that no reader takes: %v", err)
	}
	if f.names = []string{"b\u00fccher.example"}; f.names != nil {
		if _, err := f.certificate(evidencetest.Key('c'), []byte("x"), evidencetest.Time); err == nil {
			t.Error("a name that no certificate can have")
		}
	}
	// Nothing is left if the agent is not there.
	code, _, _ := agentctl(t, "attest", "--socket", "none", "--nonce", strings.Repeat("00", 32), "--certificate", "x.pem", "--make-key", "x.key")
	if _, err := os.Stat("x.key"); code != exitUnavailable || err == nil {
		t.Errorf("exit code %d, a key was written: %v", code, err == nil)
	}
}
