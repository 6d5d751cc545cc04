// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// drawOther returns what other systems record as a tree, nil if b is none of that.
func drawOther(name string, b []byte) *node {
	top := func(what string) *node {
		return &node{text: cleanLine(fmt.Sprintf("%s in %s: NOT VERIFIED, this is what it says of itself", what, name))}
	}
	if bytes.HasPrefix(b, []byte(hclMagic)) && len(b) >= hclReport+snp.ReportSize {
		n := top("report of a paravisor (HCL)")
		drawHCL(n, b)
		return n
	}
	if r := reportIn(b, 0); r != nil {
		n := top("attestation report of SEV-SNP")
		drawBare(n, r)
		return n
	}
	if n := drawSVSM(b, top); n != nil {
		return n
	}
	if a, err := tpmwire.ParseQuote(b); err == nil {
		n := top("quote of a TPM")
		drawAttest(n, a)
		return n
	}
	if l, err := tcglog.Parse(b); err == nil {
		n := top(fmt.Sprintf("event log of the firmware, %s", count(len(l.Events), "event")))
		drawReplay(n, l)
		return n
	}
	if ima.Looks(b) {
		n := top("list of IMA, what the kernel measured")
		drawIMA(n, b)
		return n
	}
	if table, err := snp.ParseTable(b); err == nil && len(table) > 0 {
		n := top("certificate table of a host")
		drawTable(n, table)
		return n
	}
	return nil
}

// notShown returns why a file is not shown: what it is, if that is known.
func notShown(name string, b []byte, err error) error {
	if what := snp.Recognise(b); what != "" {
		err = fmt.Errorf("%w (found %s)", err, what)
	}
	return (&exitError{code: exitBinding, err: fmt.Errorf("%s: %w", name, err)}).withHint("`agentctl show --help` lists what it draws")
}

// drawBare shows a report, with the host's table if that follows.
func drawBare(n *node, b []byte) {
	r, err := snp.ParseReport(b[:min(len(b), snp.ReportSize)])
	if err != nil {
		n.add("cannot be read: %v", err)
		return
	}
	drawFields(n, r, "as the guest chose it")
	if len(b) == snp.ReportSize {
		return
	}
	after := n.add("certificate table of the host, %d bytes", len(b)-snp.ReportSize)
	table, err := snp.ParseTable(b[snp.ReportSize:])
	if err != nil {
		after.add("cannot be read: %v", err)
	}
	drawTable(after, table)
}

func drawTable(n *node, table []snp.TableEntry) {
	names := map[snp.GUID]string{snp.GUIDVCEK: "VCEK", snp.GUIDVLEK: "VLEK", snp.GUIDASK: "ASK", snp.GUIDARK: "ARK"}
	for _, e := range table {
		name, ok := names[e.GUID]
		if !ok {
			n.add("%v, %d bytes of a kind without a name here: verify does not look at it", e.GUID, len(e.Data))
			continue
		}
		at := n.add("%s, %d bytes", name, len(e.Data))
		ders, err := snp.DecodeCertificates(e.Data)
		if err != nil {
			at.add("cannot be read: %v", err)
		}
		list := make([]evidence.Bytes, len(ders))
		for i, der := range ders {
			list[i] = der
		}
		if len(list) > 0 {
			drawCertificates(at, list)
		}
	}
}

// A paravisor's report of Azure: magic at 0, the report of the hardware at 32, then at 1216 the
// size, version, type and hash of the request, the length of the runtime data, and that, JSON.
const (
	hclMagic  = "HCLA"
	hclLength = hclReport + snp.ReportSize + 16
	hclData   = hclLength + 4
)

func drawHCL(n *node, b []byte) {
	drawBare(n.add("report of the hardware, %d bytes", snp.ReportSize), b[hclReport:][:snp.ReportSize])
	if len(b) < hclData {
		n.add("no runtime data")
		return
	}
	size := int(binary.LittleEndian.Uint32(b[hclLength:]))
	data := n.add("runtime data, %d bytes: the first 32 bytes of the report's data should be its SHA-256", size)
	if size < 0 || size > len(b)-hclData {
		data.add("the file ends before it")
		return
	}
	var doc struct {
		Keys []map[string]any `json:"keys"`
		User string           `json:"user-data"`
	}
	if err := strictjson.DecodeForeign(b[hclData:][:size], maxHCL, &doc); err != nil {
		data.add("cannot be read: %v", err)
		return
	}
	for _, k := range doc.Keys {
		data.add("key %q of type %q", k["kid"], k["kty"])
	}
	if doc.User != "" {
		data.add("user data %q", doc.User)
	}
}

func drawAttest(n *node, a *tpmwire.Attest) {
	n.add("TPM clock %d ms, reset count %d, restart count %d, firmware 0x%x", a.Clock, a.ResetCount, a.RestartCount, a.Firmware)
	n.add("signer %s (qualified name)", hex.EncodeToString(a.QualifiedSigner))
	n.add("qualifying data %s", hex.EncodeToString(a.ExtraData))
	if s, err := pcr.SelectionFromTPM(a.Selection); err == nil {
		n.add("over the PCRs %v", s)
	}
	n.add("composite of the PCRs %s", hex.EncodeToString(a.PCRDigest))
}

// drawReplay shows how many events extended each PCR, and the values that they lead to.
func drawReplay(n *node, l *tcglog.Log) {
	events := map[uint32]int{}
	for _, e := range l.Events {
		events[e.PCR]++
	}
	values := l.Replay()
	for _, index := range slices.Sorted(maps.Keys(events)) {
		at := n.add("PCR %d, %s", index, count(events[index], "event"))
		for _, bank := range slices.Sorted(maps.Keys(values)) {
			if v, ok := values[bank][index]; ok {
				at.add("leads to %s %s", bank, hex.EncodeToString(v))
			}
		}
	}
}
