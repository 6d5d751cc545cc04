// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify"
)

// hostile steers terminals, turns text around, and forges a line.
const hostile = "x\x1b[2J\u009b31m\u202e\u2066\u200f\r\npass: accepted. \x00\x7f\U000e0041"

// steers reports whether text could do more to a terminal than be read.
func steers(text string) bool {
	return !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}

// hostileCertificate has names that its maker chose. Hosts hand such things to guests.
func hostileCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hostile}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestNothingSteersTheTerminal: what strangers wrote is printed as text or not at all, by
// every command that prints some of it, for people and as JSON.
func TestNothingSteersTheTerminal(t *testing.T) {
	r := evidencetest.New()
	e := r.Build(t)
	e.Certificates = append(e.Certificates, hostileCertificate(t))
	b, err := strictjson.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := json.Marshal(map[string]any{
		"payloadType": verify.PolicyType, "payload": []byte(openPolicy), "signatures": []map[string]string{{"keyid": hostile, "sig": "AA=="}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(folder(t, map[string][]byte{
		"signed.dsse": signed,
		"e.json":      b, "policy.toml": []byte(openPolicy), "root.pem": rootPEM(t),
		"statement.json": []byte(`{"type":"agentd/evidence/2","` + strings.ReplaceAll(hostile, "\x00", "") + `":1}`),
		"hostile.toml":   []byte("version = 1\n" + `"` + strings.NewReplacer("\x00", "", "\x1b", "", "\r\n", "", "\x7f", "").Replace(hostile) + `" = 1` + "\n"),
	}))
	verified := []string{"verify", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce),
		"--at", "2026-06-01T12:00:00Z", "--trust-test-root-that-vouches-for-no-hardware", "root.pem"}
	for _, args := range [][]string{
		{"show", "e.json"}, {"show", "--json", "e.json"}, {"show", "statement.json"}, {"show", "--json", "statement.json"},
		{"export", "--out", "a", "e.json"}, {"export", "--json", "--out", "b", "e.json"},
		append(verified, "e.json"), append(verified, "--json", "e.json"), append(verified, "statement.json"), append(verified, "--json", "statement.json"),
		append(verified, "--verbose", "e.json"), append(verified, "--format", "junit", "e.json"), append(verified, "--verbose", "statement.json"), append(verified, "--format", "junit", "statement.json"),
		{"policy", "explain", "hostile.toml"}, {"policy", "explain", "--json", "hostile.toml"},
		{"policy", "explain", "signed.dsse"}, {"policy", "explain", "--json", "signed.dsse"}, {"policy", "diff", "signed.dsse", "e.json"}, {"policy", "diff", "--json", "signed.dsse", "e.json"},
		{"policy", "init", "--from", "e.json", "--at", "2026-06-01", "--trust-test-root-that-vouches-for-no-hardware", "root.pem"},
		{hostile}, {"show", hostile}, {"show", "--json", hostile}, {"measure", "--app", hostile, "--admin", "/none"}, {"--socket", hostile, "status"},
	} {
		_, stdout, stderr := agentctl(t, args...)
		for _, text := range []string{stdout, stderr} {
			if steers(text) {
				t.Errorf("%q prints %q", args, text)
			}
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "pass") && strings.Contains(line, "accepted. ") && !strings.HasPrefix(line, "pass, by the guest's word: accepted. Binding ") {
					t.Errorf("%q prints a forged line %q", args, line)
				}
			}
		}
	}
}

// TestEventsOnTheirLines: names in a log cannot leave their line of the tree.
func TestEventsOnTheirLines(t *testing.T) {
	app, agent := evidencetest.App(hostile, hostile, hostile, hostile), evidencetest.Agent(pcr.EventAgent, hostile, evidencetest.Key('a'))
	for _, e := range []pcr.Event{
		app, agent, {Type: hostile},
		{Type: pcr.EventUnmeasured, Unmeasured: &pcr.UnmeasuredEvent{App: hostile, Reason: hostile}},
		{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: hostile}},
		{Type: pcr.EventGateStart, GateStart: &pcr.GateStartEvent{Apps: pcr.GatedApps{{App: hostile}}}},
		{Type: pcr.EventGateGap, GateGap: &pcr.GateGapEvent{App: hostile, Reason: hostile}},
		{Type: pcr.EventExec, Exec: &pcr.ExecEvent{App: hostile, Path: hostile}},
	} {
		n := &node{}
		details := drawEvent(n, 1, &e).children
		var out bytes.Buffer
		n.draw(&terminal{out: &out})
		if lines := strings.Count(out.String(), "\n"); lines != 2+len(details) || steers(out.String()) {
			t.Errorf("%d lines: %q", lines, out.String())
		}
	}
}

// TestOnlyPrintable: the escapes mean what stood there.
func TestOnlyPrintable(t *testing.T) {
	b, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	escaped := onlyPrintable(b)
	var got string
	if err := json.Unmarshal(escaped, &got); err != nil || got != hostile || steers(string(escaped)) {
		t.Errorf("%v: %q means %q", err, escaped, got)
	}
	var out bytes.Buffer
	if err := (&terminal{out: &out}).writeJSON([]string{hostile}); err != nil || steers(out.String()) {
		t.Errorf("%v: printed as JSON: %q", err, out.String())
	}
}

// TestBinaryOnATerminal: a terminal gets text alone, a pipe whatever was asked for.
func TestBinaryOnATerminal(t *testing.T) {
	for _, c := range []struct {
		screen bool
		text   string
		want   error
	}{{true, "text\n", nil}, {true, "\x1b[2J", errBinary}, {true, "\xff", errBinary}, {true, "\u202e", errBinary}, {false, "\x1b\xff\u202e", nil}} {
		for _, write := range []func(*terminal, string, []byte) error{(*terminal).writeOutput, (*terminal).writeSecretOutput} {
			var out bytes.Buffer
			err := write(&terminal{out: &out, screen: c.screen}, "-", []byte(c.text))
			if !errors.Is(err, c.want) || err == nil && out.String() != c.text || err != nil && out.Len() > 0 {
				t.Errorf("screen %v, %q: %v, written %q", c.screen, c.text, err, out.String())
			}
		}
	}
}

// full is a disk.
type full struct{}

var errFull = errors.New("disk full")

func (full) Write([]byte) (int, error) { return 0, errFull }

// TestUnwrittenOutput: a user without the output does not get a success, and a refusal
// stays the refusal that it is.
func TestUnwrittenOutput(t *testing.T) {
	t.Chdir(folder(t, map[string][]byte{"e.json": evidencetest.New().Encode(t), "policy.toml": []byte(openPolicy), "root.pem": rootPEM(t)}))
	verified := []string{"verify", "--policy", "policy.toml", "--at", "2026-06-01T12:00:00Z", "--trust-test-root-that-vouches-for-no-hardware", "root.pem", "e.json", "--nonce"}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--help"}, exitMisuse}, {[]string{"help", "verify"}, exitMisuse}, {[]string{"version"}, exitMisuse}, {[]string{"version", "--json"}, exitMisuse},
		{[]string{"show", "e.json"}, exitMisuse}, {[]string{"show", "--json", "e.json"}, exitMisuse}, {[]string{"export", "--out", "parts", "e.json"}, exitMisuse},
		{[]string{"policy", "explain", "policy.toml"}, exitMisuse}, {append(verified, hex.EncodeToString(evidencetest.Nonce)), exitMisuse},
		{append(verified, strings.Repeat("00", 32)), exitBinding},
	} {
		var errs bytes.Buffer
		code := run(t.Context(), append(c.args, "--socket", "/none"), &terminal{in: strings.NewReader(""), out: full{}, err: &errs})
		if code != c.code || c.code == exitMisuse && !strings.Contains(errs.String(), "write standard output: disk full") {
			t.Errorf("%q: exit code %d, want %d\n%s", c.args, code, c.code, errs.String())
		}
	}
}
