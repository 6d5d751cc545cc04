// SPDX-License-Identifier: Apache-2.0

package evidencetest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// cook follows one recipe.
type cook struct {
	*Recipe
	tb      testing.TB
	records []pcr.Record
}

func (c *cook) must(err error) {
	c.tb.Helper()
	if err != nil {
		c.tb.Fatal(err)
	}
}

func (c *cook) build() *evidence.Evidence {
	c.writeLog()
	e := &evidence.Evidence{
		Type:     evidence.Type,
		AgentKey: evidence.Bytes(c.AgentKey.Public().(ed25519.PublicKey)),
		AK:       c.AK.Public(),
		Report:   evidence.Report{Kind: evidence.ReportSNP},
	}
	c.fillStatement(e)
	if c.Anchored {
		other, err := evidence.NewTree([]evidence.Digest{evidence.Leaf([]byte("an earlier statement"))})
		c.must(err)
		ak := c.AK
		if c.AnchorAK != nil {
			ak = c.AnchorAK
		}
		anchor := c.snapshot(other.Head(), c.AnchorOnAnchor, c.LogAt, &c.Anchor, ak)
		e.Anchor = &anchor
		c.fillReport(e, anchor)
	}
	named := e.AnchorDigest()
	if c.AnchorNamed != nil {
		named = c.AnchorNamed(named)
	}
	batch := c.snapshot(e.Batch.Tree, named, len(c.records), &c.Batch, c.AK)
	e.Batch = batch
	if !c.Anchored {
		c.fillReport(e, batch)
	}
	message := evidence.BatchMessage(&batch, named)
	if c.BatchSignature != nil {
		e.AgentSignature = c.BatchSignature(message)
	} else {
		e.AgentSignature = ed25519.Sign(c.AgentKey, message)
	}
	c.fillLog(e)
	e.FirmwareLog = c.FirmwareLog
	if c.Document != nil {
		c.Document(e)
	}
	return e
}

// fillStatement makes statement, tree and proof.
func (c *cook) fillStatement(e *evidence.Evidence) {
	b, err := c.Statement.Encode()
	c.must(err)
	if c.Encoded != nil {
		b = c.Encoded(b)
	}
	e.Statement = b
	leaves := []evidence.Digest{evidence.Leaf(b)}
	for _, s := range c.others() {
		leaves = append(leaves, evidence.Leaf(s))
	}
	tree, err := evidence.NewTree(leaves)
	c.must(err)
	e.Batch.Tree = tree.Head()
	e.Inclusion, err = tree.Prove(0)
	c.must(err)
}

// others returns the statements after the first.
func (c *cook) others() [][]byte {
	if c.Others != nil {
		return c.Others
	}
	out := make([][]byte, c.Neighbours)
	for i := range out {
		out[i] = []byte{byte(i)}
	}
	return out
}

// Callers returns evidence for n callers under one quote, with one nonce. All but the first
// differ in their salt.
func (r *Recipe) Callers(tb testing.TB, n int) []*evidence.Evidence {
	tb.Helper()
	c := &cook{Recipe: r, tb: tb}
	first, err := r.Statement.Encode()
	c.must(err)
	leaves := []evidence.Digest{evidence.Leaf(first)}
	for i := 1; i < n; i++ {
		s := r.Statement
		s.Salt = binary.BigEndian.AppendUint64(bytes.Clone(s.Salt), uint64(i))
		b, err := s.Encode()
		c.must(err)
		r.Others = append(r.Others, b)
		leaves = append(leaves, evidence.Leaf(b))
	}
	tree, err := evidence.NewTree(leaves)
	c.must(err)
	out := []*evidence.Evidence{r.Build(tb)}
	for i, s := range r.Others {
		e := *out[0]
		e.Statement = s
		e.Inclusion, err = tree.Prove(uint64(i + 1))
		c.must(err)
		out = append(out, &e)
	}
	return out
}

// declarations returns those of every application of the log, and that of the caller, so that
// a log which stops before its measurement begins like a whole one.
func (c *cook) declarations() (list pcr.Declarations) {
	caller := App("billing", "", "", "").App
	all := map[string]evidence.Digest{caller.App: caller.Declaration}
	for _, e := range c.Events {
		if e.App != nil {
			all[e.App.App] = e.App.Declaration
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, pcr.Declaration{App: name, Digest: all[name]})
	}
	return list
}

// writeLog makes the records, chaining the agent events to the log before them. Events without a
// time get one that rises, and is before that of every quote.
func (c *cook) writeLog() {
	begin, err := pcr.NewStart(c.registers())
	c.must(err)
	start := pcr.Event{Type: pcr.EventStart, Start: begin}
	var head evidence.LogHead
	for i, e := range append([]pcr.Event{start}, c.Events...) {
		if e.Agent != nil {
			agent := *e.Agent
			if agent.Previous == (evidence.LogHead{}) {
				agent.Previous = head
			}
			if agent.Declarations == nil {
				agent.Declarations = c.declarations()
			}
			e.Agent = &agent
		}
		if e.Time == 0 {
			e.Time = uint64(min(1000+10*i, 9000))
		}
		index := c.LogPCR
		if e.Emitted != nil && c.Apart != 0 {
			index = c.Apart
		}
		r, err := pcr.NewRecord(uint64(i), index, c.Banks, &e)
		c.must(err)
		head = evidence.NextLogHead(head, r.Encode())
		c.records = append(c.records, r)
	}
	if c.Records != nil {
		c.Records(c.records)
	}
}

// registers returns the PCRs of the log before its first record.
func (c *cook) registers() []pcr.Register {
	out := []pcr.Register{{PCR: c.LogPCR, Values: c.startValues(c.Start)}}
	if c.Apart != 0 {
		out = append(out, pcr.Register{PCR: c.Apart, Values: c.startValues(c.ApartAt)})
	}
	return out
}

func (c *cook) startValues(stated map[pcr.Algorithm][]byte) []pcr.Digest {
	out := pcr.Zero(c.Banks)
	for i, d := range out {
		if v, ok := stated[d.Algorithm]; ok {
			out[i].Value = bytes.Clone(v)
		}
	}
	return out
}

func (c *cook) fillLog(e *evidence.Evidence) {
	if c.NoLog {
		return
	}
	l := &evidence.Log{Start: c.LogStart}
	for _, r := range c.records[c.LogStart:] {
		l.Records = append(l.Records, r.Encode()...)
	}
	if c.LogStart > 0 {
		l.Previous = pcr.Head(evidence.LogHead{}, c.records[:c.LogStart]).Digest
	}
	e.Log = l
}

// extended returns the PCRs of the log after its first n records. A record that names another PCR
// extends that of the log.
func (c *cook) extended(n int) []pcr.Register {
	registers := c.registers()
	for _, r := range c.records[:n] {
		i := max(0, slices.IndexFunc(registers, func(x pcr.Register) bool { return x.PCR == r.PCR }))
		next, err := r.Extend(registers[i].Values)
		c.must(err)
		registers[i].Values = next
	}
	return registers
}

// snapshot quotes a tree when the log has n records.
func (c *cook) snapshot(tree evidence.TreeHead, anchor *evidence.Digest, n int, m *Moment, ak *AK) evidence.Snapshot {
	registers := c.extended(n)
	all := pcr.Values{}
	for bank, pcrs := range c.PCRs {
		for index, v := range pcrs {
			all.Set(bank, index, v)
		}
	}
	for _, r := range registers {
		for _, d := range r.Values {
			if all[d.Algorithm][r.PCR] == nil {
				all.Set(d.Algorithm, r.PCR, d.Value)
			}
		}
	}
	for bank, pcrs := range m.PCRs {
		for index, v := range pcrs {
			all.Set(bank, index, v)
		}
	}
	digest, err := c.Select.Composite(all, ak.Hash)
	c.must(err)
	data := evidence.QuoteData(tree, anchor)
	a := &Attestation{Magic: 0xff544347, Type: 0x8018, QualifiedSigner: m.QualifiedSigner, ExtraData: data[:],
		Clock: m.Clock, Reset: m.Reset, Restart: m.Restart, Safe: 1, Firmware: 0x0102030405060708, Digest: digest}
	for _, b := range c.Select.TPM().PCRSelections {
		a.Banks = append(a.Banks, Bank{Hash: uint16(b.Hash), Select: b.PCRSelect})
	}
	if m.Attest != nil {
		m.Attest(a)
	}
	banks, err := all.Banks(c.Select)
	c.must(err)
	s := evidence.Snapshot{Tree: tree, Time: m.Time, LogHead: pcr.Head(evidence.LogHead{}, c.records[:n]), PCRs: banks}
	s.Quote.Attest = a.Encode()
	s.Quote.Signature = ak.Sign(c.tb, s.Quote.Attest)
	if m.Signature != nil {
		s.Quote.Signature = m.Signature(s.Quote.Signature)
	}
	if m.Snapshot != nil {
		m.Snapshot(&s)
	}
	return s
}

// wrapped makes the report over data, with the structure around it.
func (c *cook) wrapped(e *evidence.Evidence, data [64]byte) (report []byte, certificates [][]byte) {
	if c.HCL != nil {
		e.Report.Kind = evidence.ReportParavisor
		return c.HCL.wrap(c.tb, &c.Report, c.AK, data)
	}
	if c.SVSM != nil {
		e.Report.Kind = evidence.ReportSVSM
		return c.SVSM.wrap(c.tb, &c.Report, c.AK, data)
	}
	return c.Report.make(c.tb, data)
}

// fillReport makes the report for s, and adds its certificates.
func (c *cook) fillReport(e *evidence.Evidence, s evidence.Snapshot) {
	if c.ReportOf != nil {
		s = c.ReportOf(s)
	}
	data := evidence.ReportData(&s, e.AgentKey, e.AK)
	report, certificates := c.wrapped(e, data)
	e.Report.Bytes = report
	for _, d := range certificates {
		e.Certificates = append(e.Certificates, d)
	}
	for _, x := range c.Certificates {
		e.Certificates = append(e.Certificates, x.Raw)
	}
}
