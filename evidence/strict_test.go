// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// exampleDocument is a small evidence of the right shape; nothing in it is true.
func exampleDocument(t testing.TB) []byte {
	t.Helper()
	ex := newExample()
	b, err := strictjson.Encode(ex.evidence)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestParseIsStrict covers case 94: what two readers could understand differently is refused.
func TestParseIsStrict(t *testing.T) {
	good := string(exampleDocument(t))
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatalf("the example itself: %v", err)
	}
	key := base64.StdEncoding.EncodeToString(newExample().evidence.AgentKey)
	tests := []struct{ name, document, want string }{
		{"trailing value", good + "{}", "after top-level value"},
		{"trailing letter", good + "x", "after top-level value"},
		{"unknown member", `{"extra":1,` + good[1:], "unknown"},
		{"duplicate member", `{"type":"agentd/evidence/2",` + good[1:], "duplicate"},
		{"other case", strings.Replace(good, `"agentKey"`, `"AgentKey"`, 1), "unknown"},
		{"duplicate by case", `{"Type":"agentd/evidence/2",` + good[1:], "unknown"},
		{"duplicate in depth", strings.Replace(good, `"tree":{`, `"tree":{"size":1,`, 1), "duplicate"},
		{"line break in base64", strings.Replace(good, key, key[:8]+`\n`+key[8:], 1), "canonical"},
		{"no padding", strings.Replace(good, key, strings.TrimRight(key, "="), 1), "canonical"},
		{"padding bits", strings.Replace(good, key, loosePadding(key), 1), "canonical"},
		{"url alphabet", strings.Replace(good, key, strings.Repeat("-", 43)+"=", 1), "canonical"},
		{"invalid UTF-8", strings.Replace(good, "agentd/evidence/2", "agentd/evidence/\xff", 1), "UTF-8"},
		{"other version", strings.Replace(good, "agentd/evidence/2", "agentd/evidence/1", 1), "type"},
		{"number as text", strings.Replace(good, `"index":1`, `"index":"1"`, 1), "index"},
		{"negative index", strings.Replace(good, `"index":1`, `"index":-1`, 1), "index"},
		{"empty", "", "EOF"},
		{"array", "[]", "array"},
		{"deep", strings.Repeat("[", 20000), "depth"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.document == good {
				t.Fatal("the mutation changed nothing")
			}
			_, err := Parse([]byte(tt.document))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) && tt.want != "EOF" && tt.want != "array" && tt.want != "depth" {
				t.Errorf("error %q does not contain %q", err, tt.want)
			}
		})
	}
}

// loosePadding sets the two bits after the last byte of 32-byte base64.
func loosePadding(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := strings.IndexByte(alphabet, s[42])
	return s[:42] + alphabet[i+1:i+2] + "="
}

// TestMissingMember: a member that may not be left out is missed, also if its zero is a
// value like any other.
func TestMissingMember(t *testing.T) {
	ex := newExample()
	anchor := ex.evidence.Batch
	ex.evidence.Anchor = &anchor
	ex.evidence.Log = &Log{Records: Bytes("records")}
	ex.evidence.IMA = &IMA{Entries: Bytes("entries")}
	document, err := strictjson.Encode(ex.evidence)
	if err != nil {
		t.Fatal(err)
	}
	mayBeAbsent := map[string]bool{"inclusion.path": true, "anchor": true, "log": true, "log.records": true, "ima": true, "ima.entries": true}
	for _, left := range []string{"report.kind", "batch.tree.root", "anchor.tree.root",
		"batch.pcrs.0.algorithm", "anchor.pcrs.0.algorithm", "batch.pcrs.0.pcrs.0.value", "anchor.pcrs.0.pcrs.0.value"} {
		mayBeAbsent[left] = true // to package verify: nothing is of that kind, root, bank or length
	}
	missing(t, document, mayBeAbsent, func(b []byte) error { _, err := Parse(b); return err })
	missing(t, ex.encoded, map[string]bool{"audience": true, "userData": true, "keyProof": true, "caller.app": true, "caller.invocation": true}, func(b []byte) error { _, err := ParseStatement(b); return err })
}

// missing removes one member of document after the other and asks parse about the rest.
func missing(t *testing.T, document []byte, mayBeAbsent map[string]bool, parse func([]byte) error) {
	t.Helper()
	if err := parse(document); err != nil {
		t.Fatalf("the document itself: %v", err)
	}
	var all any
	if err := json.Unmarshal(document, &all); err != nil {
		t.Fatal(err)
	}
	n := 0
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case []any:
			for i, e := range v {
				walk(fmt.Sprintf("%s%d.", path, i), e)
			}
		case map[string]any:
			for name, value := range v {
				walk(path+name+".", value)
				delete(v, name)
				b, err := json.Marshal(all)
				v[name] = value
				if err != nil {
					t.Fatal(err)
				}
				n++
				if err := parse(b); (err == nil) != mayBeAbsent[path+name] {
					t.Errorf("without %s%s: %v", path, name, err)
				}
			}
		}
	}
	walk("", all)
	if n < 10 {
		t.Fatalf("only %d members were removed", n)
	}
}

// TestSizes covers the caps: one byte more or less than the format allows is refused by name.
func TestSizes(t *testing.T) {
	tests := []struct {
		part   string
		change func(*Evidence)
	}{
		{"statement", func(e *Evidence) { e.Statement = nil }},
		{"statement", func(e *Evidence) { e.Statement = make(Bytes, MaxStatement+1) }},
		{"inclusion.path", func(e *Evidence) { e.Inclusion.Path = make([]Digest, MaxProof+1) }},
		{"agentSignature", func(e *Evidence) { e.AgentSignature = e.AgentSignature[:63] }},
		{"agentKey", func(e *Evidence) { e.AgentKey = append(e.AgentKey, 0) }},
		{"ak", func(e *Evidence) { e.AK = make(Bytes, MaxPublicArea+1) }},
		{"report.bytes", func(e *Evidence) { e.Report.Bytes = make(Bytes, MaxReport+1) }},
		{"certificates", func(e *Evidence) { e.Certificates = make([]Bytes, MaxCertificates+1) }},
		{"certificates[0]", func(e *Evidence) { e.Certificates = []Bytes{make(Bytes, MaxCertificate+1)} }},
		{"batch.quote.attest", func(e *Evidence) { e.Batch.Quote.Attest = make(Bytes, MaxQuote+1) }},
		{"batch.quote.signature", func(e *Evidence) { e.Batch.Quote.Signature = nil }},
		{"batch.pcrs", func(e *Evidence) { e.Batch.PCRs = nil }},
		{"batch.pcrs", func(e *Evidence) { e.Batch.PCRs = make([]Bank, MaxBanks+1) }},
		{"batch.pcrs[0].pcrs", func(e *Evidence) { e.Batch.PCRs[0].PCRs = make([]PCR, MaxPCRs+1) }},
		{"batch.tree.size", func(e *Evidence) { e.Batch.Tree.Size = 0 }},
		{"batch.tree.size", func(e *Evidence) { e.Batch.Tree.Size = MaxBatch + 1 }},
		{"batch.logHead.digest", func(e *Evidence) { e.Batch.LogHead.Count = 0 }},
		{"batch.time", func(e *Evidence) { e.Batch.Time = strictjson.MaxInteger + 1 }},
		{"anchor.time", func(e *Evidence) { a := e.Batch; a.Time = strictjson.MaxInteger + 1; e.Anchor = &a }},
		{"anchor.quote.attest", func(e *Evidence) { a := e.Batch; a.Quote.Attest = nil; e.Anchor = &a }},
		{"log.previous", func(e *Evidence) { e.Log = &Log{Start: 3} }},
		{"log.previous", func(e *Evidence) { e.Log = &Log{Previous: Digest{1}} }},
	}
	for _, tt := range tests {
		e := newExample().evidence
		tt.change(e)
		if err := e.Check(); err == nil || !strings.Contains(err.Error(), tt.part) {
			t.Errorf("%s: error %v does not name it", tt.part, err)
		}
	}
}

func TestStatementCheck(t *testing.T) {
	tests := []struct {
		part   string
		change func(*Statement)
	}{
		{"type", func(s *Statement) { s.Type = "agentd/statement/1" }},
		{"freshness", func(s *Statement) { s.Freshness = "" }},
		{"nonce", func(s *Statement) { s.Nonce = s.Nonce[:15] }},
		{"nonce", func(s *Statement) { s.Nonce = make(Bytes, 65) }},
		{"salt", func(s *Statement) { s.Salt = nil }},
		{"audience", func(s *Statement) { s.Audience = strings.Repeat("a", 257) }},
		{"audience", func(s *Statement) { s.Audience = "bank\x1b[2J" }},
		{"audience", func(s *Statement) { s.Audience = "bank\u202e" }},
		{"caller.unit", func(s *Statement) { s.Caller.Unit = "a\u200b.service" }},
		{"caller.app", func(s *Statement) { s.Caller.App, s.Caller.Unit = "a\u2066", "a.service" }},
		{"caller.executable.path", func(s *Statement) {
			s.Caller.Executable = &Executable{State: ExecutableFile, Path: "/tmp/\u202egpj.exe"}
		}},
		{"userData", func(s *Statement) { s.UserData = make(Bytes, MaxUserData+1) }},
		{"publicKey", func(s *Statement) { s.PublicKey = make(Bytes, MaxPublicKey+1) }},
		{"keyProof", func(s *Statement) { s.KeyProof = make(Bytes, MaxKeyProof+1) }},
		{"keyProof without publicKey", func(s *Statement) { s.KeyProof, s.PublicKey = Bytes("proof"), nil }},
		{"caller.pid", func(s *Statement) { s.Caller.PID = 0 }},
		{"caller.pid", func(s *Statement) { s.Caller.PID = 1 << 31 }},
		{"caller.started", func(s *Statement) { s.Caller.Started = strictjson.MaxInteger + 1 }},
		{"caller.unitStarted", func(s *Statement) { s.Caller.UnitStarted = nil }},
		{"caller.unitStarted", func(s *Statement) { s.Caller.UnitStarted = new(s.Caller.Started + 1) }},
		{"caller.unitStarted", func(s *Statement) { s.Caller.Unit, s.Caller.App, s.Caller.Invocation = "", "", nil }},
		{"caller.invocation", func(s *Statement) { s.Caller.Invocation = s.Caller.Invocation[:15] }},
		{"caller.invocation", func(s *Statement) { s.Caller.Invocation = append(s.Caller.Invocation, 0) }},
		{"caller.invocation without caller.unit", func(s *Statement) { s.Caller.Unit, s.Caller.App, s.Caller.UnitStarted = "", "", nil }},
		{"caller.method", func(s *Statement) { s.Caller.Method = "trust-me" }},
		{"caller.app", func(s *Statement) { s.Caller.App, s.Caller.Unit = "billing", "" }},
		{"caller.unit", func(s *Statement) { s.Caller.Unit = strings.Repeat("u", 257) }},
		{"caller.executable.state", func(s *Statement) { s.Caller.Executable = &Executable{State: "good"} }},
	}
	for _, tt := range tests {
		s := newExample().statement
		tt.change(&s)
		if _, err := s.Encode(); err == nil || !strings.Contains(err.Error(), tt.part) {
			t.Errorf("%s: error %v does not name it", tt.part, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(exampleDocument(f))
	f.Add([]byte(`{"type":"agentd/evidence/2"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		again, err := strictjson.Encode(e)
		if err != nil {
			t.Fatalf("what was parsed cannot be encoded: %v", err)
		}
		if _, err := Parse(again); err != nil {
			t.Fatalf("what was encoded cannot be parsed: %v", err)
		}
	})
}

func FuzzParseStatement(f *testing.F) {
	b, _ := newExampleStatement()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseStatement(b); err == nil {
			if _, err := s.Encode(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
