// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"crypto"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
	message "github.com/google/go-tpm-tools/proto/attest"
	"github.com/google/go-tpm-tools/server"
	"github.com/google/go-tpm/tpm2"
	"google.golang.org/protobuf/proto"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/export"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// aboveSVSM returns fresh evidence of a machine whose SVSM names its endorsement key alone, which
// is all that go-tpm-tools knows of, and both keys as the agent shows them.
func aboveSVSM(t *testing.T) (*evidence.Evidence, *api.AK) {
	t.Helper()
	if shared == nil {
		t.Skip(simulated.ErrNoTPM)
	}
	m, err := simulated.Start(commands, t.TempDir(), filepath.Join(shared.Dir, "platform"), "--machine", "svsm", "--svsm-manifest-0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	document, err := m.Client().Evidence(t.Context(), api.EvidenceRequest{Nonce: bytes.Repeat([]byte{7}, 32), Freshness: evidence.Fresh})
	if err != nil {
		t.Fatal(err)
	}
	e, err := evidence.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := m.Client().AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e, ak
}

// judge does what "gotpm verify debug svsm" of go-tpm-tools does with the message, with other roots
// than AMD's, and apart from the endorsement of Google's firmware, which no simulation has. That
// command is a program, so its steps are written down here over the libraries that it calls: the
// signature and chain of the report, VMPL 0, the launch measurement, the report data, the keys, and
// the quote.
func judge(exported []byte, roots map[string][]*trust.AMDRootCerts, teeNonce, akPub, ekPub, quoteNonce []byte, change func(*message.SevSnpSvsmAttestation)) error {
	a := new(message.SevSnpSvsmAttestation)
	if err := proto.Unmarshal(exported, a); err != nil {
		return err
	}
	if change != nil {
		change(a)
	}
	if err := verify.SnpAttestation(a.GetSevSnpAttestation(), &verify.Options{DisableCertFetching: true, Now: time.Now(), TrustedRoots: roots}); err != nil {
		return err
	}
	if a.GetVtpmServiceManifestVersion() != "0" || !bytes.Equal(ekPub, a.GetVtpmServiceManifest()) {
		return errors.New("another manifest")
	}
	vmpl, measurement := 0, soft.Measurement()
	data := sha512.Sum512(slices.Concat(teeNonce, a.GetVtpmServiceManifest()))
	if err := validate.SnpAttestation(a.GetSevSnpAttestation(), &validate.Options{
		GuestPolicy: abi.SnpPolicy{SMT: true}, VMPL: &vmpl, Measurement: measurement[:], ReportData: data[:],
	}); err != nil {
		return err
	}
	if !bytes.Equal(akPub, a.GetAttestation().GetAkPub()) {
		return errors.New("another AK")
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](akPub)
	if err != nil {
		return err
	}
	key, err := tpm2.Pub(*area)
	if err != nil {
		return err
	}
	_, err = server.VerifyAttestation(a.GetAttestation(), server.VerifyOpts{Nonce: quoteNonce, TrustedAKs: []crypto.PublicKey{key}})
	return err
}

// TestSVSM hands the exported message to the libraries of go-tpm-tools and go-sev-guest.
func TestSVSM(t *testing.T) {
	e, ak := aboveSVSM(t)
	exported, err := export.GoTPM(e)
	if err != nil {
		t.Fatal(err)
	}
	tee, quote := e.ReportData(), evidence.QuoteData(e.Batch.Tree, e.AnchorDigest())
	roots := testRoots(t, exported)
	with := func(change func(*message.SevSnpSvsmAttestation)) error {
		return judge(exported, roots, tee[:], ak.Public, ak.EK, quote[:], change)
	}
	if err := with(nil); err != nil {
		t.Fatalf("the evidence of the agent is refused: %v", err)
	}
	if judge(exported, nil, tee[:], ak.Public, ak.EK, quote[:], nil) == nil {
		t.Error("accepted under AMD's own roots")
	}
	if judge(exported, roots, tee[:], ak.Public, evidencetest.EK('e'), quote[:], nil) == nil {
		t.Error("accepted with the endorsement key of another vTPM")
	}
	for what, change := range map[string]func(*message.SevSnpSvsmAttestation){
		"manifest":           func(a *message.SevSnpSvsmAttestation) { a.VtpmServiceManifest[100] ^= 1 },
		"version":            func(a *message.SevSnpSvsmAttestation) { a.VtpmServiceManifestVersion = "1" },
		"report data":        func(a *message.SevSnpSvsmAttestation) { a.SevSnpAttestation.Report.ReportData[0] ^= 1 },
		"VMPL":               func(a *message.SevSnpSvsmAttestation) { a.SevSnpAttestation.Report.Vmpl = 2 },
		"launch measurement": func(a *message.SevSnpSvsmAttestation) { a.SevSnpAttestation.Report.Measurement[0] ^= 1 },
		"report's signature": func(a *message.SevSnpSvsmAttestation) { a.SevSnpAttestation.Report.Signature[3] ^= 1 },
		"AK":                 func(a *message.SevSnpSvsmAttestation) { a.Attestation.AkPub[40] ^= 1 },
		"quote":              func(a *message.SevSnpSvsmAttestation) { a.Attestation.Quotes[0].Quote[50] ^= 1 },
	} {
		if with(change) == nil {
			t.Errorf("%s changed: accepted", what)
		}
	}
}

// testRoots are the root and the intermediate of the simulation, as go-sev-guest takes them.
func testRoots(t *testing.T, exported []byte) map[string][]*trust.AMDRootCerts {
	t.Helper()
	a := new(message.SevSnpSvsmAttestation)
	if err := proto.Unmarshal(exported, a); err != nil {
		t.Fatal(err)
	}
	chain, root := a.GetSevSnpAttestation().GetCertificateChain(), trust.AMDRootCertsProduct("Milan")
	if err := root.Decode(chain.GetAskCert(), chain.GetArkCert()); err != nil {
		t.Fatal(err)
	}
	return map[string][]*trust.AMDRootCerts{"Milan": {root}}
}

// TestSVSMFiles: report and manifest are files of their own, and the report is over both.
func TestSVSMFiles(t *testing.T) {
	e, ak := aboveSVSM(t)
	dir := parts(t, e)
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	report, manifest := read("report.bin"), read("manifest.bin")
	r, err := abi.ReportToProto(report)
	if err != nil {
		t.Fatal(err)
	}
	tee := e.ReportData()
	want := sha512.Sum512(slices.Concat(tee[:], manifest))
	if !bytes.Equal(r.GetReportData(), want[:]) || !bytes.Equal(manifest, ak.EK) || string(read("report-data")) != fmt.Sprintf("%x\n", tee) {
		t.Errorf("report data %x, manifest of %d bytes", r.GetReportData()[:4], len(manifest))
	}
}
