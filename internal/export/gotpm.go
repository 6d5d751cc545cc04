// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-tpm-tools/proto/attest"
	"github.com/google/go-tpm-tools/proto/tpm"
	"google.golang.org/protobuf/proto"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// ErrBanks is returned for a quote of more than one PCR bank, for which the attestation
// message of go-tpm-tools has no place.
var ErrBanks = errors.New("the quote covers more than one PCR bank, which go-tpm-tools cannot read: set tpm.pcrs of the agent to one bank, or export files")

// GoTPM returns e as the serialised message attest.Attestation of go-tpm-tools, which its
// server.VerifyAttestation reads. Its option Nonce is the qualifying data of the quote
// ([evidence.QuoteData]), not the nonce of the statement.
//
// If an SVSM asked for the report, it returns the message attest.SevSnpSvsmAttestation, which
// "gotpm verify debug svsm" reads. Its option tee-nonce is the report data
// ([evidence.Evidence.ReportData]). A paravisor's report is left out: go-tpm-tools has no place
// for the runtime data that it is over.
func GoTPM(e *evidence.Evidence) ([]byte, error) {
	if len(e.Batch.PCRs) != 1 {
		return nil, fmt.Errorf("export attestation message: %w", ErrBanks)
	}
	bank := e.Batch.PCRs[0]
	alg, err := pcr.ParseAlgorithm(bank.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("export attestation message: %w", err)
	}
	values := make(map[uint32][]byte, len(bank.PCRs))
	for _, p := range bank.PCRs {
		values[p.Index] = p.Value
	}
	message := &attest.Attestation{
		AkPub: e.AK,
		Quotes: []*tpm.Quote{{
			Quote:  e.Batch.Quote.Attest,
			RawSig: e.Batch.Quote.Signature,
			Pcrs:   &tpm.PCRs{Hash: tpm.HashAlgo(alg), Pcrs: values},
		}},
	}
	if e.Report.Kind != evidence.ReportSNP && e.Report.Kind != evidence.ReportSVSM {
		return proto.Marshal(message)
	}
	report, err := snpAttestation(e)
	if err != nil {
		return nil, fmt.Errorf("export attestation message: %w", err)
	}
	if e.Report.Kind == evidence.ReportSNP {
		message.TeeAttestation = &attest.Attestation_SevSnpAttestation{SevSnpAttestation: report}
		return proto.Marshal(message)
	}
	_, encoded := split(e)
	m, err := tpmwire.ParseManifest(encoded)
	if err != nil {
		return nil, fmt.Errorf("export attestation message: %w", err)
	}
	return proto.Marshal(&attest.SevSnpSvsmAttestation{
		Attestation: message, SevSnpAttestation: report,
		VtpmServiceManifest: encoded, VtpmServiceManifestVersion: strconv.FormatUint(uint64(m.Version), 10),
	})
}

// split returns the report of the firmware, and what it is over besides the 64 bytes of the guest:
// the manifest that an SVSM has after it, or a paravisor's runtime data. A paravisor's blob that
// cannot be read comes back as it is.
func split(e *evidence.Evidence) (report, over []byte) {
	switch e.Report.Kind {
	case evidence.ReportSVSM:
		at := min(snp.ReportSize, len(e.Report.Bytes))
		return e.Report.Bytes[:at:at], e.Report.Bytes[at:]
	case evidence.ReportParavisor:
		if h, err := tpmwire.ParseHCLOfSNP(e.Report.Bytes); err == nil {
			return h.Report[:len(h.Report):len(h.Report)], h.Runtime
		}
	}
	return e.Report.Bytes, nil
}

// snpAttestation returns report and chain as the message of go-sev-guest.
func snpAttestation(e *evidence.Evidence) (*sevsnp.Attestation, error) {
	signed, _ := split(e)
	report, err := abi.ReportToProto(signed)
	if err != nil {
		return nil, fmt.Errorf("decode report: %w", err)
	}
	return &sevsnp.Attestation{Report: report, CertificateChain: chain(e)}, nil
}

// chain sorts the certificates by their place. The root is its own issuer, the intermediate
// may sign certificates, and the leaf may not. The report names the kind of the leaf's key.
func chain(e *evidence.Evidence) *sevsnp.CertificateChain {
	out := &sevsnp.CertificateChain{}
	for _, der := range e.Certificates {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
		case bytes.Equal(c.RawIssuer, c.RawSubject):
			out.ArkCert = der
		case c.IsCA:
			out.AskCert = der
		case vlek(e.Report.Bytes):
			out.VlekCert = der
		default:
			out.VcekCert = der
		}
	}
	return out
}

// vlek reports whether the signer in key_info of a report (offset 0x48, bits 2 to 4)
// is the VLEK: SEV-SNP Firmware ABI Specification, table "ATTESTATION_REPORT Structure".
func vlek(report []byte) bool {
	const keyInfo = 0x48
	return len(report) > keyInfo && report[keyInfo]>>2&7 == 1
}

// reportWithTable returns the report, and after it the certificates as the table of an
// extended guest request (GHCB specification, section 4.1.8.1). The tools of go-sev-guest read
// such a file as "bin".
func reportWithTable(e *evidence.Evidence) []byte {
	report, _ := split(e)
	return append(bytes.Clone(report), abi.CertsFromProto(chain(e)).Marshal()...)
}
