// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// lines returns all texts of a tree.
func (n *node) lines() string {
	var b strings.Builder
	b.WriteString(n.text + "\n")
	for _, c := range n.children {
		b.WriteString(c.lines())
	}
	return b.String()
}

// TestShowSVSM: what an SVSM says of its vTPM is shown, and whether it is about this evidence.
// Reports that are cut short, or followed by something else, are shown as far as they go.
func TestShowSVSM(t *testing.T) {
	ek, other := evidencetest.EK('e'), evidencetest.ECCKey('x').Public()
	for name, c := range map[string]struct {
		change func(s *evidencetest.SVSM)
		says   []string
	}{
		"version 1": {func(*evidencetest.SVSM) {}, []string{"is SHA-512 of the commitment", "version 1", "the one below"}},
		"version 0": {func(s *evidencetest.SVSM) { s.Manifest = func([]byte) []byte { return ek } }, []string{"version 0", "names no attestation key"}},
		"another key": {func(s *evidencetest.SVSM) {
			s.Manifest = func([]byte) []byte { return evidencetest.Manifest(ek, other) }
		}, []string{"NOT the one below"}},
		"another nonce": {func(s *evidencetest.SVSM) { s.Nonce = func(n []byte) []byte { n[0] ^= 1; return n } }, []string{"is NOT the commitment"}},
		"no manifest":   {func(s *evidencetest.SVSM) { s.Bytes = func(b []byte) []byte { return b[:snp.ReportSize] } }, []string{"manifest of 0 bytes", "cannot be read"}},
		"half a report": {func(s *evidencetest.SVSM) { s.Bytes = func(b []byte) []byte { return b[:500] } }, []string{"cannot be read"}},
		"all services": {func(s *evidencetest.SVSM) {
			s.Manifest = func([]byte) []byte {
				return evidencetest.Services(tpmwire.Service{GUID: tpmwire.ServiceVTPM, Data: ek})
			}
		}, []string{"verify refuses evidence with it", "c476f1eb-0123-45a5-9641-b4e7dde5bfe3, vTPM", "endorsement key 000b"}},
		"something after": {func(s *evidencetest.SVSM) { s.Bytes = func(b []byte) []byte { return append(b, 0) } }, []string{"follow the keys"}},
	} {
		r := evidencetest.NewSVSM()
		c.change(r.SVSM)
		top := new(node)
		drawReport(top, r.Build(t))
		for _, want := range c.says {
			if text := top.lines(); !strings.Contains(text, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, text)
			}
		}
	}
}

// TestShowParavisor: what a paravisor says of its vTPM is shown, and whether it is about this
// evidence.
func TestShowParavisor(t *testing.T) {
	const launch = "launch measurement"
	for name, c := range map[string]struct {
		change func(r *evidencetest.Recipe)
		says   []string
	}{
		"good": {func(*evidencetest.Recipe) {}, []string{launch, "is the hash of the runtime data", ", the one below", ", the commitment to this evidence"}},
		"another key": {func(r *evidencetest.Recipe) { r.HCL.Names, r.AK = r.AK, evidencetest.ECCKey('x') },
			[]string{launch, ", NOT the one below"}},
		"another commitment": {func(r *evidencetest.Recipe) { r.HCL.UserData = func(d *[64]byte) { d[0] ^= 1 } },
			[]string{launch, ", NOT the commitment to this evidence"}},
		"no key": {func(r *evidencetest.Recipe) {
			r.HCL.Runtime = func(s string) string { return strings.Replace(s, "HCLAkPub", "HCLAkPriv", 1) }
		}, []string{launch, "attestation key cannot be read"}},
		"altered": {func(r *evidencetest.Recipe) {
			r.HCL.Blob = func(b []byte) []byte { return bytes.Replace(b, []byte("secure"), []byte("Secure"), 1) }
		}, []string{launch, "is NOT the hash of the runtime data"}},
		"cut": {func(r *evidencetest.Recipe) { r.HCL.Blob = func(b []byte) []byte { return b[:len(b)-1] } },
			[]string{"the paravisor's blob around the report cannot be read"}},
		"half a report": {func(r *evidencetest.Recipe) { r.HCL.Blob = func(b []byte) []byte { return b[:500] } }, []string{"cannot be read"}},
	} {
		r := evidencetest.NewAzure()
		c.change(r)
		top := new(node)
		drawReport(top, r.Build(t))
		for _, want := range c.says {
			if text := top.lines(); !strings.Contains(text, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, text)
			}
		}
	}
}

// TestFirmwareReport: collateral is fetched for the report of the firmware, whatever is around it.
func TestFirmwareReport(t *testing.T) {
	for _, r := range []*evidencetest.Recipe{evidencetest.New(), evidencetest.NewSVSM(), evidencetest.NewAzure()} {
		e := r.Build(t)
		b := firmwareReport(e)
		if _, err := snp.ParseReport(b); err != nil || !bytes.Contains(e.Report.Bytes, b) {
			t.Errorf("%s: %d bytes, %v", e.Report.Kind, len(b), err)
		}
		for _, n := range []int{0, 1, snp.ReportSize - 1, snp.ReportSize} {
			short := evidence.Evidence{Report: evidence.Report{Kind: e.Report.Kind, Bytes: make([]byte, n)}}
			if b := firmwareReport(&short); len(b) > n {
				t.Errorf("%s: %d bytes of %d", e.Report.Kind, len(b), n)
			}
		}
	}
}
