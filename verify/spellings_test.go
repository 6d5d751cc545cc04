// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/elliptic"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// TestSpellings checks what docs/evidence.md, section 2, says: a party without a key can
// respell a document in these ways, and verdict, claims and statement stay the same.
func TestSpellings(t *testing.T) {
	r := evidencetest.New()
	r.Neighbours = 0
	e, o := r.Build(t), baseOptions(t)
	document, err := strictjson.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	want := acceptedClaims(t, document, o)
	text := func(f func(string) string) []byte { return []byte(f(string(document))) }
	changed := func(f func(*evidence.Evidence)) []byte {
		c := r.Build(t)
		f(c)
		b, err := strictjson.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var sorted any
	if err := json.Unmarshal(document, &sorted); err != nil {
		t.Fatal(err)
	}
	order, err := json.Marshal(sorted) // sorts the members by name
	if err != nil {
		t.Fatal(err)
	}
	indented, err := strictjson.Indent(document)
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string][]byte{
		"white space":       append([]byte(" \t\r\n"), append(indented, '\n')...),
		"order":             order,
		"escape in a name":  text(func(s string) string { return strings.Replace(s, `"agentKey"`, `"agent\u004bey"`, 1) }),
		"escape in a text":  text(func(s string) string { return strings.Replace(s, `agentd/`, `agentd\/`, 1) }),
		"empty list":        text(func(s string) string { return strings.Replace(s, `"inclusion":{`, `"inclusion":{"path":[],`, 1) }),
		"empty bytes":       text(func(s string) string { return strings.Replace(s, `{"type"`, `{"firmwareLog":"","type"`, 1) }),
		"certificate added": changed(func(c *evidence.Evidence) { c.Certificates = append(c.Certificates, []byte("not one")) }),
		"certificates":      changed(func(c *evidence.Evidence) { slices.Reverse(c.Certificates) }),
		"signature of the quote": changed(func(c *evidence.Evidence) {
			s := c.Batch.Quote.Signature // sigAlg, hash, then r and s with their sizes
			size := int(binary.BigEndian.Uint16(s[4:]))
			other := flipped(elliptic.P256(), s[8+size:])
			c.Batch.Quote.Signature = append(binary.BigEndian.AppendUint16(bytes.Clone(s[:6+size]), uint16(len(other))), other...)
		}),
		"signature of the report": changed(func(c *evidence.Evidence) {
			s := c.Report.Bytes[evidencetest.AtSignature+72:][:48] // little-endian, in 72 bytes
			slices.Reverse(s)
			other := flipped(elliptic.P384(), s)
			slices.Reverse(other)
			copy(s, other)
		}),
	} {
		if bytes.Equal(other, document) {
			t.Errorf("%s: nothing changed", name)
		}
		if got := acceptedClaims(t, other, o); got != want {
			t.Errorf("%s: the claims are\n%s\nnot\n%s", name, got, want)
		}
		if parsed, err := evidence.Parse(other); err != nil || !bytes.Equal(parsed.Statement, e.Statement) {
			t.Errorf("%s: another statement, %v", name, err)
		}
	}
	for name, other := range map[string][]byte{
		"statement": changed(func(c *evidence.Evidence) { c.Statement = append(c.Statement, ' ') }),
		"record of a log": changed(func(c *evidence.Evidence) {
			c.Log.Records = bytes.Replace(c.Log.Records, []byte(`{"type`), []byte(`{ "type`), 1)
		}),
		"base64": text(func(s string) string { return strings.Replace(s, `="`, `"`, 1) }),
		"signature of the agent key": changed(func(c *evidence.Evidence) { // S + L, which RFC 8032 refuses
			s := c.AgentSignature[32:]
			slices.Reverse(s)
			order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
			new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(s)
			slices.Reverse(s)
		}),
	} {
		if a, err := appraiseEvidence(other, o); err != nil || a.Verdict != Fail || a.Class != ClassBinding {
			t.Errorf("%s has two spellings: %v, %v", name, a.Verdict, err)
		}
	}
}

// acceptedClaims returns the claims of a document that is accepted, as JSON.
func acceptedClaims(t *testing.T, document []byte, o options) string {
	t.Helper()
	a, err := appraiseEvidence(document, o)
	if err != nil || a.Verdict != Pass {
		t.Fatalf("%v\n%s\n%s", err, explain(a), document)
	}
	claims, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	b, err := strictjson.Encode(claims)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// flipped returns n - s, in as many bytes as the order n of the curve has.
func flipped(curve elliptic.Curve, s []byte) []byte {
	n := curve.Params().N
	return new(big.Int).Sub(n, new(big.Int).SetBytes(s)).FillBytes(make([]byte, (n.BitLen()+7)/8))
}
