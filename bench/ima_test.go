// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify"
)

// entriesIMA is how long the list of IMA is.
const entriesIMA = 50_000

// BenchmarkVerifyIMA measures the appraisal of evidence with a list of 50,000 entries, each of a file
// that a reference of 200,000 digests lists. "x-hashes" is the time in units of the hashes that the
// list needs: SHA-1 and SHA-256 of each entry, and the PCR extended by each. All are of the same run.
func BenchmarkVerifyIMA(b *testing.B) {
	l := makeIMA(b)
	var data [][]byte
	for e := range ima.Entries(ima.Whole(l.list)) {
		data = append(data, e.Data)
	}
	appraisal, hashes := inTurn(b, l.appraise, func() { hashIMA(data) })
	b.ReportMetric(float64(appraisal)/float64(hashes), "x-hashes")
	b.ReportMetric(entriesIMA/appraisal.Seconds(), "entries/s")
	b.ReportMetric(entriesIMA/hashes.Seconds(), "hashed-entries/s")
	b.ReportMetric(float64(len(l.list))/appraisal.Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(appraisal)/float64(time.Millisecond), "ms-appraisal")
}

// listIMA is a list of 50,000 entries, in evidence that a verifier accepts.
type listIMA struct {
	paths    []string
	digests  [][]byte // of files, of which the list has the first ones
	value    []byte   // of PCR 10
	list     []byte
	appraise func()
}

func makeIMA(b *testing.B) *listIMA {
	b.Helper()
	l := new(listIMA)
	var entries [][]byte
	for i := range 200_000 {
		content := fmt.Sprint(i)
		l.paths = append(l.paths, fmt.Sprintf("/usr/lib/x86_64-linux-gnu/file-%d.so", i))
		l.digests = append(l.digests, pcr.SHA256.Sum([]byte(content)))
		if i < entriesIMA-1 {
			entries = append(entries, evidencetest.IMAFile(l.paths[i], content))
		}
	}
	r := evidencetest.New()
	r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13}}}
	for i := range uint32(10) {
		r.PCRs.Set(pcr.SHA256, i, bytes.Repeat([]byte{byte(i)}, 32))
	}
	entries = append([][]byte{evidencetest.IMAAggregate(r.PCRs)}, entries...)
	l.value = evidencetest.IMAValue(pcr.SHA256, entries...)
	r.PCRs.Set(pcr.SHA256, ima.PCR, l.value)
	l.list = bytes.Join(entries, nil)
	r.Document = func(e *evidence.Evidence) { e.IMA = &evidence.IMA{Entries: l.list} }
	document := r.Encode(b)

	reference := ima.EncodeReference(pcr.SHA256, slices.Clone(l.digests))
	sum := sha256.Sum256(reference)
	v, err := verify.New(policy(b, launched+"[[ima_files]]\nreference = \""+hex.EncodeToString(sum[:])+"\"\n"),
		verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(b)}, IMAReferences: [][]byte{reference}})
	if err != nil {
		b.Fatal(err)
	}
	l.appraise = func() {
		claims, err := v.Verify(document, verify.Expect{Nonce: evidencetest.Nonce}, evidencetest.Time)
		if err != nil || claims.IMA.Entries != entriesIMA {
			b.Fatal(err)
		}
	}
	return l
}

// hashIMA computes the hashes of a list, and nothing else.
func hashIMA(data [][]byte) (value [32]byte) {
	for _, d := range data {
		if sha1.Sum(d) == [20]byte{} {
			return value
		}
		of := sha256.Sum256(d)
		value = sha256.Sum256(append(value[:], of[:]...))
	}
	return value
}
