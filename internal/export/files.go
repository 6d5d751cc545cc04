// SPDX-License-Identifier: Apache-2.0

// Package export writes the parts of evidence in the formats of other tools, so that a reader
// can check each part without this project: quotes for tpm2_checkquote of tpm2-tools, reports
// for any SEV-SNP verifier, and the whole as the attestation message of go-tpm-tools.
//
// It verifies nothing: its output is as trustworthy as its input.
package export

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// A File is one exported part.
type File struct {
	Name     string
	Contains string // description, for people
	Content  []byte
}

// Files returns the parts of e. The quote of the batch is in quote.msg, quote.sig and pcrs.
// That of the anchor, if any, is in files of the same names with the prefix "anchor-".
func Files(e *evidence.Evidence) ([]File, error) {
	key, err := publicKeyPEM(e.AK)
	if err != nil {
		return nil, err
	}
	files, err := quoteFiles("", &e.Batch, evidence.QuoteData(e.Batch.Tree, e.AnchorDigest()))
	if err != nil {
		return nil, err
	}
	if e.Anchor != nil {
		anchor, err := quoteFiles("anchor-", e.Anchor, evidence.QuoteData(e.Anchor.Tree, nil))
		if err != nil {
			return nil, fmt.Errorf("anchor: %w", err)
		}
		files = append(files, anchor...)
	}
	agentKey, err := encodePEM(ed25519.PublicKey(e.AgentKey))
	if err != nil {
		return nil, err
	}
	report, over := split(e)
	reportData, what := e.ReportData(), "the 64 bytes that the report must contain, in hexadecimal"
	around, known := structures[e.Report.Kind]
	if known = known && over != nil; known {
		what = around.data
	}
	files = append(files,
		File{"ak.pem", "attestation key of the quotes, SubjectPublicKeyInfo", key},
		File{"ak.pub", "attestation key of the quotes, TPMT_PUBLIC", e.AK},
		File{"report.bin", "attestation report, as the firmware produced it", report},
		File{"report-data", what, hexLine(reportData[:])},
		File{"statement.json", "what the caller asked to have attested", e.Statement},
		File{"agent.pem", "agent key, SubjectPublicKeyInfo", agentKey},
		File{"agent.msg", "what the agent key signs for the batch", evidence.BatchMessage(&e.Batch, e.AnchorDigest())},
		File{"agent.sig", "signature of the agent key, Ed25519", e.AgentSignature},
	)
	if known {
		files = append(files, File{around.name, around.contains, over})
	}
	if (e.Report.Kind == evidence.ReportSNP || known) && len(e.Certificates) > 0 {
		files = append(files, File{"report-certificates.bin", "report followed by its certificate table", reportWithTable(e)})
	}
	if e.Log != nil {
		files = append(files, File{"log.cel", fmt.Sprintf("measurement log from record %d, CEL-TLV", e.Log.Start), e.Log.Records})
	}
	if len(e.FirmwareLog) > 0 {
		files = append(files, File{"firmware-log.bin", "event log of the firmware, as the kernel gives it (tpm2_eventlog reads it)", e.FirmwareLog})
	}
	if e.IMA != nil {
		files = append(files, File{"ima.bin", fmt.Sprintf("the kernel's list of IMA from entry %d, as the kernel gives it", e.IMA.Start), e.IMA.Entries})
	}
	return append(files, certificates(e.Certificates)...), nil
}

// structures say what is around the report of the firmware, by the kind of the report.
var structures = map[evidence.ReportKind]struct{ name, contains, data string }{
	evidence.ReportSVSM: {"manifest.bin", "manifest of the SVSM's vTPM: the report is over SHA-512 of report data and manifest",
		"the 64 bytes that the SVSM hashed before the manifest, in hexadecimal"},
	evidence.ReportParavisor: {"runtime.json", "runtime data of the paravisor: the report is over their hash",
		"the 64 bytes that the runtime data must contain as user-data, in hexadecimal"},
}

func quoteFiles(prefix string, s *evidence.Snapshot, data evidence.Digest) ([]File, error) {
	pcrs, err := SerializedPCRs(s)
	if err != nil {
		return nil, err
	}
	return []File{
		{prefix + "quote.msg", "TPMS_ATTEST, as the TPM produced it", s.Quote.Attest},
		{prefix + "quote.sig", "TPMT_SIGNATURE over it", s.Quote.Signature},
		{prefix + "pcrs", "values of the quoted PCRs, as tpm2_quote writes them", pcrs},
		{prefix + "quote-data", "qualifying data of the quote, in hexadecimal", hexLine(data[:])},
	}, nil
}

func hexLine(b []byte) []byte { return append(hex.AppendEncode(nil, b), '\n') }

// publicKeyPEM returns the key of a TPMT_PUBLIC as a PEM SubjectPublicKeyInfo (RFC 5280,
// section 4.1.2.7).
func publicKeyPEM(area []byte) ([]byte, error) {
	public, err := tpmwire.ParsePublic(area)
	if err != nil {
		return nil, fmt.Errorf("decode attestation key: %w", err)
	}
	key, err := tpm2.Pub(*public)
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	return encodePEM(key)
}

func encodePEM(key any) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// certificates returns a PEM file for each certificate, named by their order, and one with
// all. The bytes of a certificate that does not parse are exported all the same.
func certificates(list []evidence.Bytes) []File {
	var out []File
	var all bytes.Buffer
	for i, der := range list {
		contains := "certificate that could not be read"
		if c, err := x509.ParseCertificate(der); err == nil {
			contains = fmt.Sprintf("certificate of %q", c.Subject.CommonName)
		}
		b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		all.Write(b)
		out = append(out, File{fmt.Sprintf("certificate-%d.pem", i), contains, b})
	}
	if len(out) > 1 {
		out = append(out, File{"certificates.pem", "all certificates", all.Bytes()})
	}
	return out
}

// Write writes files into folder, and makes the folder if it does not exist. A file that
// exists is an error: exports of two documents must not mix.
func Write(folder string, files []File) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(folder, f.Name)
		w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("export: %s exists already: name an empty folder", path)
		}
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		_, err = w.Write(f.Content)
		if err := errors.Join(err, w.Close()); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	return nil
}
