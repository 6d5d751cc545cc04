// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/corpus"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify/snp"
)

//go:generate go test -count=1 -run ^TestWriteCorpus$ -write-corpus .

var writeCorpus = flag.Bool("write-corpus", false, "write internal/corpus/cases anew")

const corpusDir = "../internal/corpus/cases"

// TestWriteCorpus writes the corpus: every mutation of evidence, and the combinations of
// parts of two machines. The same source gives the same files.
func TestWriteCorpus(t *testing.T) {
	if !*writeCorpus {
		t.Skip("writes the corpus only with -write-corpus: go generate ./verify")
	}
	cryptotest.SetGlobalRandom(t, 1)
	w := &corpusWriter{t: t, numbers: make(map[string]int)}
	if err := os.RemoveAll(corpusDir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(corpusDir, 0o755); err != nil {
		t.Fatal(err)
	}
	good := evidencetest.New().Build(t)
	w.shared = good.Certificates
	w.file("certificates.pem", encodePEM(w.shared))
	var roots []evidence.Bytes
	for _, p := range snp.Products() {
		roots = append(roots, evidencetest.Root(t, p).Raw)
	}
	w.file("root.pem", encodePEM(roots))
	all := mutations()
	slices.SortStableFunc(all, func(a, b mutation) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.name, b.name)) })
	w.seeded("key of the paravisor", func() { evidencetest.NewParavisor().Build(w.t) }) // made once
	for _, m := range all {
		w.seeded(string(m.id)+m.name, func() { w.mutation(&m) })
	}
	for _, c := range combinations() {
		w.seeded(c.name, func() { w.combination(&c) })
	}
	for i, m := range acceptances() {
		w.seeded("accepted "+m.name, func() { w.acceptance(i+1, &m) })
	}
	w.example(good)
}

// example is what docs/verify.md begins with: evidence that is accepted.
func (w *corpusWriter) example(e *evidence.Evidence) {
	document, err := strictjson.Encode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"evidence.json": append(document, '\n'), "test-root.pem": encodePEM([]evidence.Bytes{evidencetest.Root(w.t, snp.Genoa).Raw}),
	} {
		if err := os.WriteFile(filepath.Join("../docs/example", name), b, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

// seeded makes one case with randomness of its own, so that a new case leaves the files
// of all others as they are.
func (w *corpusWriter) seeded(name string, f func()) {
	outer := w.t
	outer.Run(name, func(t *testing.T) {
		h := fnv.New64a()
		h.Write([]byte(name))
		cryptotest.SetGlobalRandom(t, h.Sum64())
		w.t = t
		f()
	})
	w.t = outer
}

type corpusWriter struct {
	t       *testing.T
	shared  []evidence.Bytes
	numbers map[string]int // files by check
}

func (w *corpusWriter) file(name string, b []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(corpusDir, name), b, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func encodePEM(ders []evidence.Bytes) []byte {
	var out []byte
	for _, d := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d})...)
	}
	return out
}

func (w *corpusWriter) mutation(m *mutation) {
	c, o := w.made(m)
	w.add(m.id, m.name, o, c)
}

// acceptance writes a case that must be accepted.
func (w *corpusWriter) acceptance(number int, m *mutation) {
	c, o := w.made(m)
	a := w.appraised("", m.name, o, c)
	if a.Verdict != Pass {
		w.t.Fatalf("%s is refused:\n%s", m.name, explain(a))
	}
	w.file(fmt.Sprintf("accepted-%02d.case", number), c.Encode())
}

// made makes the material of a mutation, with the options for its appraisal.
func (w *corpusWriter) made(m *mutation) (*corpus.Case, options) {
	text := m.policy
	if text == "" {
		text = makePolicy(m.root, m.tables)
	}
	o := baseOptions(w.t)
	o.Policy = mustPolicy(w.t, text)
	if m.opts != nil {
		m.opts(w.t, &o)
	}
	if m.raw != nil {
		c := w.material(m.raw(w.t, &o))
		c.Policy = []byte(text)
		return c, o
	}
	r := evidencetest.New()
	if m.recipe != nil {
		m.recipe(w.t, r)
	}
	document := r.Encode(w.t)
	if m.bytes != nil {
		document = m.bytes(w.t, document)
	}
	return w.evidence(document, text), o
}

// evidence is a case of a document.
func (w *corpusWriter) evidence(document []byte, policy string) *corpus.Case {
	c := &corpus.Case{Policy: []byte(policy)}
	c.Evidence, c.Shared = w.strip(document)
	return c
}

// material is a case of what other systems record.
func (w *corpusWriter) material(m rawMaterial) *corpus.Case {
	c := &corpus.Case{Material: corpus.Report}
	if m.set != nil {
		c.Material, c.Evidence, c.Certificates = corpus.Paravisor, m.set.HCL, m.set.Certificates
		c.Quote, c.Signature, c.PCRs, c.FirmwareLog = m.set.Quote, m.set.Signature, m.set.PCRs, m.set.FirmwareLog
	} else {
		c.Evidence, c.Certificates = m.report.Report, m.report.Certificates
	}
	if slices.EqualFunc(c.Certificates, w.shared, func(a []byte, b evidence.Bytes) bool { return bytes.Equal(a, b) }) {
		c.Certificates, c.Shared = nil, true
	}
	return c
}

// add writes one case that must be refused, after appraising it as the file will be.
func (w *corpusWriter) add(id CheckID, about string, o options, c *corpus.Case) {
	w.t.Helper()
	a := w.appraised(id, about, o, c)
	if a.Check(id).Verdict != Fail {
		w.t.Fatalf("%s, %s: does not fail:\n%s", id, about, explain(a))
	}
	w.numbers[c.Check]++
	w.file(fmt.Sprintf("%s-%02d.case", strings.ReplaceAll(c.Check, ".", "-"), w.numbers[c.Check]), c.Encode())
}

// appraised fills in a case from its options, and from its appraisal.
func (w *corpusWriter) appraised(id CheckID, about string, o options, c *corpus.Case) *Appraisal {
	w.t.Helper()
	c.Check, c.About, c.Root = string(id), about, "test"
	c.Time, c.Nonce, c.Audience, c.PublicKey, c.UserData, c.ReportData = o.Time, o.Nonce, o.Audience, o.PublicKey, o.UserData, o.ReportData
	c.IMAList = o.IMAList
	for _, b := range o.References {
		c.IMAReference = b
	}
	if o.Roots == nil {
		c.Root = "amd"
	}
	if o.AcceptReplay {
		w.t.Fatalf("%s, %s: a case has a nonce or report data", id, about)
	}
	if c.Shared {
		for _, d := range w.shared {
			o.Certificates = append(o.Certificates, d)
		}
	}
	for _, l := range o.Revocation {
		c.Revoked = append(c.Revoked, l.Bytes())
	}
	if o.LogState != nil {
		b, err := strictjson.Encode(o.LogState)
		if err != nil {
			w.t.Fatal(err)
		}
		c.LogState = b
	}
	a, err := w.appraise(c, o)
	if err != nil {
		w.t.Fatalf("%s, %s: %v", id, about, err)
	}
	c.Class = int(a.Class)
	for _, f := range failedIDs(a) {
		c.Fails = append(c.Fails, string(f))
	}
	c.Features = caseFeatures(c)
	return a
}

func (w *corpusWriter) appraise(c *corpus.Case, o options) (*Appraisal, error) {
	switch c.Material {
	case corpus.Report:
		return appraiseReport(RawReport{Kind: evidence.ReportSNP, Report: c.Evidence, Certificates: c.Certificates}, o)
	case corpus.Paravisor:
		return appraiseParavisor(AzureSet{HCL: c.Evidence, Quote: c.Quote, Signature: c.Signature, PCRs: c.PCRs, FirmwareLog: c.FirmwareLog, Certificates: c.Certificates}, o)
	}
	return appraiseEvidence(c.Evidence, o)
}

// strip takes the certificates of all good evidence out of a document, if it has just
// those.
func (w *corpusWriter) strip(document []byte) ([]byte, bool) {
	e, err := evidence.Parse(document)
	if err != nil || len(e.Certificates) != len(w.shared) {
		return document, false
	}
	for i, c := range e.Certificates {
		if !bytes.Equal(c, w.shared[i]) {
			return document, false
		}
	}
	e.Certificates = nil
	b, err := strictjson.Encode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	return b, true
}

func (w *corpusWriter) combination(c *combination) {
	a, b := twoMachines(w.t, c.anchored)
	c.mix(w.t, a, b)
	document, err := strictjson.Encode(a)
	if err != nil {
		w.t.Fatal(err)
	}
	text := c.policy
	if text == "" {
		root := ""
		if c.anchored {
			root = anchoredPolicy
		}
		text = makePolicy(root, "")
	}
	o := baseOptions(w.t)
	o.Policy = mustPolicy(w.t, text)
	w.add(c.id, c.name, o, w.evidence(document, text))
}

func chipHex(letter byte) string { return hex.EncodeToString(bytes.Repeat([]byte{letter}, 64)) }

// TestCorpusIsCurrent: every mutation and combination has its file, and no file is left
// of one that is gone. "go generate ./verify" mends it.
func TestCorpusIsCurrent(t *testing.T) {
	all, err := corpus.Read(corpusDir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]int)
	for _, c := range all.Cases {
		files[c.Check+" "+c.About]++
	}
	for _, m := range mutations() {
		files[string(m.id)+" "+m.name]--
	}
	for _, c := range combinations() {
		files[string(c.id)+" "+c.name]--
	}
	for _, c := range all.Accepted {
		files[c.About]++
	}
	for _, m := range acceptances() {
		files[m.name]--
	}
	for what, n := range files {
		if n != 0 {
			t.Errorf("%s: %+d files too many: run go generate ./verify", what, n)
		}
	}
}
