package main

import (
	"encoding/hex"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// drawReport shows the fields of a report that people ask for.
func drawReport(top *node, e *evidence.Evidence) {
	n := top.add("report of kind %q, %d bytes", e.Report.Kind, len(e.Report.Bytes))
	if e.Report.Kind != evidence.ReportSNP {
		n.add("not a kind that this version can read")
		return
	}
	r, err := snp.ParseReport(e.Report.Bytes)
	if err != nil {
		n.add("cannot be read: %v", err)
		return
	}
	processor := "processor not named, as before version 3"
	if r.CPU != nil {
		processor = fmt.Sprintf("processor %v (%v)", r.CPU, r.Product())
	}
	n.add("version %d, %s, signed with %v", r.Version, processor, r.KeyInfo.Signer())
	n.add("launch measurement %s", hex.EncodeToString(r.Measurement[:]))
	n.add("asked for at VMPL %d", r.VMPL)
	guest := n.add("guest policy %v, ABI %d.%d", r.Policy, r.Policy.ABIMajor(), r.Policy.ABIMinor())
	for _, p := range []struct {
		mask snp.Policy
		text string
	}{
		{snp.PolicyDebug, "DEBUG: the host may read and write the guest's memory"},
		{snp.PolicyMigrationAgent, "MIGRATION AGENT: the guest's state can be handed on"},
	} {
		if r.Policy.Has(p.mask) {
			guest.add("%s", p.text)
		}
	}
	n.add("TCB reported %v, committed %v, current %v, at launch %v", r.ReportedTCB, r.CommittedTCB, r.CurrentTCB, r.LaunchTCB)
	n.add("chip %s", short(r.ChipID[:]))
	if r.HostData != [32]byte{} {
		n.add("host data %s", hex.EncodeToString(r.HostData[:]))
	}
	says := "is NOT the commitment to this evidence"
	if e.ReportData() == r.ReportData {
		says = "is the commitment to this evidence, if the report is genuine"
	}
	n.add("report data %s %s", short(r.ReportData[:]), says)
}
