// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/cmw"
	"github.com/cvm-agentd/agentd/internal/export"
)

const exportUsage = `Usage: agentctl export [--format FORMAT] --out PATH EVIDENCE

Write the parts of evidence in the formats of other tools. This command verifies
nothing.

  --format FORMAT   what to write: files (default), a folder of files, one for each part;
                    gotpm, the attestation message of go-tpm-tools, in protobuf; if an
                    SVSM asked for the report, that of "gotpm verify debug svsm";
                    cmw-json and cmw-cbor, the evidence as it is in a conceptual message
                    wrapper of RATS, which "agentctl verify" reads too
  --out PATH        folder to make, or file to write ("-": standard output); required
  --json            what was written, as JSON

Examples:
  agentctl export --out parts evidence.json
  tpm2_checkquote -u parts/ak.pem -m parts/quote.msg -s parts/quote.sig \
      -f parts/pcrs -g sha256 -q $(cat parts/quote-data)
  openssl pkeyutl -verify -pubin -inkey parts/agent.pem -rawin \
      -in parts/agent.msg -sigfile parts/agent.sig
  agentctl export --format gotpm --out attestation.pb evidence.json
  agentctl export --format cmw-cbor --out evidence.cmw evidence.json
`

func exportCommand(t *terminal) *cobra.Command {
	var format, out string
	c := command("export", exportUsage, arguments("EVIDENCE"), func(c *cobra.Command, args []string) error {
		if out == "" {
			return misuse(fmt.Errorf("--out is missing")).withHint(helpHint(c))
		}
		if form, found := strings.CutPrefix(format, "cmw-"); found && (cmw.Form(form) == cmw.JSON || cmw.Form(form) == cmw.CBOR) {
			return t.exportCMW(cmw.Form(form), args[0], out)
		}
		if format != "files" && format != "gotpm" {
			return misuse(fmt.Errorf("--format %q is not known: want files, gotpm, cmw-json or cmw-cbor", format)).withHint(helpHint(c))
		}
		e, err := t.readEvidence(args[0])
		if err != nil {
			return err
		}
		if format == "gotpm" {
			return t.exportGoTPM(e, out)
		}
		return t.exportFiles(e, out)
	})
	c.Flags().StringVar(&format, "format", "files", "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

// exported is what export prints as JSON.
type exported struct {
	Files []exportedFile `json:"files"`             // what was written, in order
	Nonce evidence.Bytes `json:"nonce,omitzero"`    // of the format gotpm: the Nonce that VerifyAttestation expects
	TEE   evidence.Bytes `json:"teeNonce,omitzero"` // of the format gotpm, if an SVSM asked for the report: the tee-nonce of "gotpm verify debug svsm"
}

type exportedFile struct {
	Name     string `json:"name"`     // path of the file
	Contains string `json:"contains"` // what it contains, in words
	Bytes    int    `json:"bytes"`    // its size
}

func (t *terminal) exportFiles(e *evidence.Evidence, folder string) error {
	if folder == "-" {
		return misuse(errors.New("--out -: a folder of files cannot go to standard output")).withHint("name a folder, or use --format gotpm")
	}
	files, err := export.Files(e)
	if err != nil {
		return misuse(err)
	}
	// Checked before the first file is written, so that a refusal leaves no partial folder.
	for _, f := range files {
		path := filepath.Join(folder, f.Name)
		if _, err := os.Lstat(path); err == nil {
			return misuse(fmt.Errorf("export: %s exists already: name an empty folder", path))
		}
	}
	if err := export.Write(folder, files); err != nil {
		return misuse(err)
	}
	var out exported
	for _, f := range files {
		out.Files = append(out.Files, exportedFile{f.Name, cleanLine(f.Contains), len(f.Content)})
	}
	if t.json {
		return t.writeJSON(out)
	}
	for _, l := range out.Files {
		fmt.Fprintf(t.out, "%-24s %7d  %s\n", l.Name, l.Bytes, l.Contains)
	}
	return nil
}

// exportCMW writes the document as it is, in a record of CMW.
func (t *terminal) exportCMW(form cmw.Form, name, out string) error {
	c, err := t.readCarried(name)
	if err != nil {
		return err
	}
	if _, err := evidence.Parse(c.document); err != nil {
		return &exitError{code: exitBinding, err: fmt.Errorf("%s: %w", name, err)}
	}
	b, err := cmw.Wrap(form, c.document)
	if err != nil {
		return misuse(err)
	}
	if err := t.writeOutput(out, b); err != nil || !t.json || out == "-" {
		return err
	}
	return t.writeJSON(exported{Files: []exportedFile{{out, "the evidence in a record of the type " + cmw.MediaType, len(b)}}})
}

func (t *terminal) exportGoTPM(e *evidence.Evidence, name string) error {
	b, err := export.GoTPM(e)
	if err != nil {
		return misuse(err)
	}
	if err := t.writeOutput(name, b); err != nil {
		return err
	}
	data := evidence.QuoteData(e.Batch.Tree, e.AnchorDigest())
	out := exported{Files: []exportedFile{{name, "the attestation, for VerifyAttestation", len(b)}}, Nonce: data[:]}
	if e.Report.Kind == evidence.ReportParavisor {
		out.Files[0].Contains += "; without the report, which go-tpm-tools cannot read"
	}
	if e.Report.Kind == evidence.ReportSVSM {
		tee := e.ReportData()
		out.Files[0].Contains, out.TEE = "the attestation, for gotpm verify debug svsm", tee[:]
	}
	if t.json && name != "-" {
		return t.writeJSON(out)
	}
	fmt.Fprintf(t.err, "wrote %d bytes: %s; the Nonce that VerifyAttestation expects is %s\n", len(b), out.Files[0].Contains, hex.EncodeToString(out.Nonce))
	if out.TEE != nil {
		fmt.Fprintf(t.err, "the tee-nonce of the SVSM is %s\n", hex.EncodeToString(out.TEE))
	}
	return nil
}
