// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// drawReport shows the fields of a report that matter to people.
func drawReport(top *node, e *evidence.Evidence) {
	n := top.add("report of kind %q, %d bytes: the part that the processor signs", e.Report.Kind, len(e.Report.Bytes))
	if e.Report.Kind != evidence.ReportSNP && e.Report.Kind != evidence.ReportSVSM && e.Report.Kind != evidence.ReportParavisor {
		n.add("this version cannot read that kind")
		return
	}
	r, err := snp.ParseReport(firmwareReport(e))
	if err != nil {
		n.add("cannot be read: %v", err)
		return
	}
	want, says, not := e.ReportData(), "is the commitment to this evidence, if the report is genuine", "is NOT the commitment to this evidence"
	switch e.Report.Kind {
	case evidence.ReportSVSM:
		manifest := e.Report.Bytes[snp.ReportSize:]
		want, says = sha512.Sum512(append(want[:], manifest...)), "is SHA-512 of the commitment to this evidence and of the manifest, if the report is genuine"
		defer drawManifest(n, manifest, e.AK)
	case evidence.ReportParavisor:
		var ok bool
		if want, ok = drawRuntime(n, e); !ok {
			return
		}
		says, not = "is the hash of the runtime data, if the report is genuine", "is NOT the hash of the runtime data"
	}
	if want != r.ReportData {
		says = not
	}
	drawFields(n, r, says)
}

// firmwareReport returns the report of the firmware in that of evidence, unverified, without what a
// paravisor or an SVSM has around it (docs/evidence.md, section 8).
func firmwareReport(e *evidence.Evidence) []byte {
	b, header := e.Report.Bytes, 0
	if e.Report.Kind == evidence.ReportParavisor {
		header = 32
	}
	if e.Report.Kind == evidence.ReportSNP || len(b) < header+snp.ReportSize {
		return b
	}
	return b[header : header+snp.ReportSize]
}

// drawFields shows the fields of a report, and what its data is.
func drawFields(n *node, r *snp.Report, says string) {
	processor := "processor not named (versions before 3 do not name it)"
	if r.CPU != nil {
		processor = fmt.Sprintf("processor %v (%v)", r.CPU, r.Product())
	}
	n.add("version %d, %s, signed with %v", r.Version, processor, r.KeyInfo.Signer())
	n.add("launch measurement %s", hex.EncodeToString(r.Measurement[:]))
	n.add("requested at VMPL %d", r.VMPL)
	guest := n.add("guest policy %v, as the host set it at launch", r.Policy)
	for _, line := range verdict.GuestPolicy(r.Policy) {
		guest.add("%s", line)
	}
	platform := n.add("platform info %v", r.PlatformInfo)
	for _, line := range verdict.Platform(r.PlatformInfo) {
		platform.add("%s", line)
	}
	drawTCBs(n.add("TCB: versions of the firmware's parts"), r)
	if r.ChipID == [64]byte{} {
		n.add("chip not named: the host masks its id")
	} else {
		n.add("chip %s", hex.EncodeToString(r.ChipID[:]))
	}
	if r.HostData != [32]byte{} {
		n.add("host data %s", hex.EncodeToString(r.HostData[:]))
	}
	n.add("report data %s %s", short(r.ReportData[:]), says)
}

// drawTCBs shows each TCB by its components, in the order of the processor.
func drawTCBs(n *node, r *snp.Report) {
	for _, t := range []struct {
		what string
		tcb  snp.TCB
	}{{"reported, which the signing key belongs to", r.ReportedTCB}, {"committed, the lowest that can be loaded", r.CommittedTCB}, {"current", r.CurrentTCB}, {"at launch", r.LaunchTCB}} {
		levels, reserved, err := t.tcb.Components(r.Product())
		if err != nil {
			n.add("%s: %v; the meaning of each byte depends on the processor", t.what, t.tcb)
			continue
		}
		var words []string
		for _, l := range levels {
			words = append(words, fmt.Sprintf("%s %d", l.Component, l.Value))
		}
		if reserved != 0 {
			words = append(words, fmt.Sprintf("bytes of unknown meaning %v", reserved))
		}
		n.add("%s: %s (%v)", t.what, strings.Join(words, ", "), t.tcb)
	}
}
