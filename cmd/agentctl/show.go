// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/cmw"
	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

const showUsage = `Usage: agentctl show [--json] [--pcrs] FILE

Draw evidence as a tree, or what other systems record: an attestation report in any
form that verify reads, a paravisor's HCL report, an SVSM's manifest of its vTPM or of
all services (manifestblob), also after a report, a TPM's quote (TPMS_ATTEST), a host's
certificate table, the event log of the firmware, the kernel's list of IMA. This
command verifies nothing: everything shown is what the file says of itself, and an
attacker may have invented it.

  --pcrs    show the values of all quoted PCRs, not only those that are not zero
  --json    evidence only: the parts decoded, with "verified": false;
            "statementError" and "logError" say why a part cannot be read

Examples:
  agentctl show evidence.json
  agentctl attest --nonce $(openssl rand -hex 32) | agentctl show -
  agentctl show report.bin
  agentctl show /sys/kernel/security/tpm0/binary_bios_measurements
  agentctl show /sys/kernel/security/ima/binary_runtime_measurements
`

func showCommand(t *terminal) *cobra.Command {
	var all bool
	c := command("show", showUsage, arguments("FILE"), func(_ *cobra.Command, args []string) error {
		b, err := t.readInput(args[0], cmw.Max)
		if err != nil {
			return err
		}
		c, broken := unwrap(b)
		if broken != nil {
			c.document = b // a certificate without evidence, or another file that begins like one
		}
		if err := c.fits(args[0]); err != nil {
			return err
		}
		b = c.document
		var drawn *node
		e, err := evidence.Parse(b)
		switch {
		case err == nil && t.json:
			return t.showJSON(e)
		case err == nil:
			drawn = drawing(e, args[0], all)
		default:
			drawn = drawOther(args[0], b)
		}
		switch {
		case drawn == nil && broken != nil:
			return notShown(args[0], b, broken)
		case drawn == nil:
			return notShown(args[0], b, err)
		case t.json:
			return misuse(fmt.Errorf("%s is not evidence, and --json shows evidence only", args[0]))
		}
		drawn.draw(t)
		t.tell("", "Nothing above was verified: `agentctl verify` does that.", 2)
		return nil
	})
	c.Flags().BoolVar(&all, "pcrs", false, "")
	return c
}

// shown is what show prints as JSON.
type shown struct {
	Verified  bool                `json:"verified"`                // always false
	Evidence  *evidence.Evidence  `json:"evidence"`                // the document, with byte strings in hexadecimal
	Statement *evidence.Statement `json:"statement,omitzero"`      // what member statement of the document says
	Error     string              `json:"statementError,omitzero"` // why the statement cannot be read
	Log       []logLine           `json:"log,omitempty"`           // what member log of the document says
	LogError  string              `json:"logError,omitzero"`       // why the log cannot be read
}

// showJSON prints the document, with its parts decoded if possible.
func (t *terminal) showJSON(e *evidence.Evidence) error {
	out := shown{Evidence: e}
	var err error
	if out.Statement, err = evidence.ParseStatement(e.Statement); err != nil {
		out.Error = err.Error()
	}
	if e.Log != nil {
		lines, err := linesOf(e.Log)
		if err != nil {
			out.LogError = err.Error()
		}
		out.Log = lines
	}
	return t.writeJSON(out)
}

// drawing returns evidence as a tree.
func drawing(e *evidence.Evidence, name string, allPCRs bool) *node {
	top := &node{text: cleanLine(fmt.Sprintf("%s in %s: NOT VERIFIED, this is what it says of itself", e.Type, name))}
	drawStatement(top, e.Statement)
	kind := "batch, fresh: the report below was made for it"
	if e.Anchor != nil {
		kind = "batch, anchored: it refers to the report of an earlier batch"
	}
	b := top.add("%s", kind)
	b.add("the statement is leaf %d of %d", e.Inclusion.Index, e.Batch.Tree.Size)
	drawSnapshot(b, &e.Batch, allPCRs)
	if e.Anchor != nil {
		drawSnapshot(top.add("anchor: the batch that the report below was made for"), e.Anchor, allPCRs)
	}
	drawReport(top, e)
	top.add("agent key %s (Ed25519), which signs each batch; the report names it, at the request of the guest", hex.EncodeToString(e.AgentKey))
	drawAK(top, e.AK)
	drawLog(top, e.Log)
	drawFirmwareLog(top, e.FirmwareLog)
	drawIMAOf(top, e.IMA)
	drawCertificates(top, e.Certificates)
	return top
}

func drawStatement(top *node, b []byte) {
	n := top.add("statement: what one caller asked to have attested, by the word of the agent key below")
	s, err := evidence.ParseStatement(b)
	if err != nil {
		n.add("cannot be read: %v", err)
		return
	}
	n.add("nonce %s", hex.EncodeToString(s.Nonce))
	if s.Audience != "" {
		n.add("audience %q", s.Audience)
	}
	if len(s.UserData) > 0 {
		n.add("user data, %d bytes: %s", len(s.UserData), short(s.UserData))
	}
	if len(s.PublicKey) > 0 {
		k := n.add("public key, %s", describeKey(s.PublicKey))
		if len(s.KeyProof) > 0 {
			k.add("a proof that the caller has it, %d bytes: verify checks it", len(s.KeyProof))
		} else {
			k.add("named by the caller, without a proof")
		}
	}
	n.add("requested a report that is %s", s.Freshness)
	c := s.Caller
	who := fmt.Sprintf("caller: uid %d, gid %d", c.UID, c.GID)
	if c.Unit != "" {
		who += fmt.Sprintf(", unit %q", c.Unit)
	} else {
		who += ", no system unit"
	}
	if c.App != "" {
		who += fmt.Sprintf(", application %q", c.App)
	}
	caller := n.add("%s (by %s)", who, c.Method)
	caller.add("process %d, started %s", c.PID, sinceBoot(c.Started))
	if len(c.Invocation) > 0 {
		caller.add("invocation %x of its unit", []byte(c.Invocation))
	}
	if x := c.Container; x != nil {
		caller.add("in the container %q of %s, started %s, root file system %s, image %s", x.ID, x.Engine, sinceBoot(x.Started), x.Root, digestOr(x.Image, "not given"))
	}
	if x := c.Executable; x != nil {
		line := fmt.Sprintf("its executable was seen as %s %q", x.State, x.Path)
		if x.Digest != nil {
			line += ", digest " + x.Digest.String()
		}
		if x.Covered {
			line += ", listed by the application"
		}
		caller.add("%s", line)
	}
}

// sinceBoot says when something happened by the guest's clock.
func sinceBoot(milliseconds uint64) string {
	return fmt.Sprintf("%d.%03d s after the guest's kernel", milliseconds/1000, milliseconds%1000)
}

func describeKey(der []byte) string {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return fmt.Sprintf("%d bytes of unknown form: %s", len(der), short(der))
	}
	return fmt.Sprintf("%d bytes (%T): %s", len(der), key, short(der))
}

// short returns the beginning of b in hexadecimal.
func short(b []byte) string {
	if len(b) > 40 {
		return hex.EncodeToString(b[:40]) + "..."
	}
	return hex.EncodeToString(b)
}

func drawSnapshot(n *node, s *evidence.Snapshot, allPCRs bool) {
	n.add("tree of %d, root %s", s.Tree.Size, s.Tree.Root)
	n.add("quoted %s", sinceBoot(s.Time))
	n.add("log of %d records, head %s", s.LogHead.Count, s.LogHead.Digest)
	quote := n.add("quote of %d bytes, signature of %d bytes, by the word of the attestation key below", len(s.Quote.Attest), len(s.Quote.Signature))
	if a, err := tpmwire.ParseQuote(s.Quote.Attest); err != nil {
		quote.add("cannot be read: %v", err)
	} else {
		quote.add("TPM clock %d ms, reset count %d, restart count %d, firmware 0x%x; for a key of the owner hierarchy, the TPM obfuscates the last three", a.Clock, a.ResetCount, a.RestartCount, a.Firmware)
		quote.add("qualifying data %s", hex.EncodeToString(a.ExtraData))
		quote.add("composite of the PCRs %s", hex.EncodeToString(a.PCRDigest))
	}
	for _, bank := range s.PCRs {
		zeros := 0
		p := n.add("PCRs of bank %q", bank.Algorithm)
		for _, r := range bank.PCRs {
			if !allPCRs && allZero(r.Value) {
				zeros++
				continue
			}
			p.add("%2d %s", r.Index, hex.EncodeToString(r.Value))
		}
		if zeros > 0 {
			p.add("%d more that are zero", zeros)
		}
	}
}

// allZero reports whether every byte of b is zero.
func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func drawAK(top *node, area []byte) {
	n := top.add("attestation key of the TPM, TPMT_PUBLIC of %d bytes", len(area))
	public, err := tpmwire.ParsePublic(area)
	if err != nil {
		n.add("cannot be read: %v", err)
		return
	}
	if name, err := tpm2.ObjectName(public); err == nil {
		n.add("name %s", hex.EncodeToString(name.Buffer))
	}
	a := public.ObjectAttributes
	n.add("it says of itself: restricted %v, signs %v, fixed to its TPM %v", a.Restricted, a.SignEncrypt, a.FixedTPM)
	n.add("a program can make such a key without a TPM: a policy knows it by enrolment, or by the guest's word alone")
}

func drawLog(top *node, l *evidence.Log) {
	if l == nil {
		top.add("no measurement log")
		return
	}
	n := top.add("measurement log from record %d, %d bytes, by the word of the agents that wrote it", l.Start, len(l.Records))
	records, err := pcr.DecodeLog(l.Records, l.Start)
	for _, r := range records {
		e, err := r.Event()
		if err != nil {
			n.add("%d: cannot be read: %v", r.Number, err)
			continue
		}
		drawEvent(n, r.Number, e)
	}
	if err != nil {
		n.add("the rest cannot be read: %v", err)
	}
}

// drawFirmwareLog shows how long the log is. Other tools explain its events.
func drawFirmwareLog(top *node, b []byte) {
	if len(b) == 0 {
		return
	}
	l, err := tcglog.Parse(b)
	if err != nil {
		top.add("event log of the firmware, %d bytes, cannot be read: %v", len(b), err)
		return
	}
	n := top.add("event log of the firmware, %d bytes, %s", len(b), count(len(l.Events), "event"))
	n.add("`agentctl export` writes it to a file, which tpm2_eventlog draws")
}

// count returns n things, in words.
func count(n int, thing string) string { return text.Count(n, thing) }

func drawCertificates(top *node, list []evidence.Bytes) {
	if len(list) == 0 {
		top.add("no certificates")
		return
	}
	n := top.add("%s, as the host or files on the machine gave them", count(len(list), "certificate"))
	for _, der := range list {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			n.add("%d bytes that are not a certificate: %v", len(der), err)
			continue
		}
		at := n.add("%q, issued by %q, valid %s to %s", c.Subject.CommonName, c.Issuer.CommonName, c.NotBefore.Format("2006-01-02"), c.NotAfter.Format("2006-01-02"))
		if key, err := snp.ParseEndorsementKey(der); err == nil && key.CSPID != "" {
			at.add("VLEK of the cloud with the CSP id %q", key.CSPID)
		}
	}
}
