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

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/validate"
	message "github.com/google/go-tpm-tools/proto/attest"
	"github.com/google/go-tpm-tools/server"
	"github.com/google/go-tpm/tpm2"
	"google.golang.org/protobuf/proto"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
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

// judge does what "gotpm verify debug svsm" of go-tpm-tools does with the message, apart from the
// chain to AMD's root and the endorsement of Google's firmware, which no simulation has. That
// command is a program, so its steps are written down here over the libraries that it calls: VMPL 0,
// the launch measurement, the report data, the keys, and the quote.
func judge(exported []byte, teeNonce, akPub, ekPub, quoteNonce []byte, change func(*message.SevSnpSvsmAttestation)) error {
	a := new(message.SevSnpSvsmAttestation)
	if err := proto.Unmarshal(exported, a); err != nil {
		return err
	}
	if change != nil {
		change(a)
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
	with := func(change func(*message.SevSnpSvsmAttestation)) error {
		return judge(exported, tee[:], ak.Public, ak.EK, quote[:], change)
	}
	if err := with(nil); err != nil {
		t.Fatalf("the evidence of the agent is refused: %v", err)
	}
	for what, change := range map[string]func(*message.SevSnpSvsmAttestation){
		"manifest":    func(a *message.SevSnpSvsmAttestation) { a.VtpmServiceManifest[100] ^= 1 },
		"version":     func(a *message.SevSnpSvsmAttestation) { a.VtpmServiceManifestVersion = "1" },
		"report data": func(a *message.SevSnpSvsmAttestation) { a.SevSnpAttestation.Report.ReportData[0] ^= 1 },
		"VMPL":        func(a *message.SevSnpSvsmAttestation) { a.SevSnpAttestation.Report.Vmpl = 2 },
		"AK":          func(a *message.SevSnpSvsmAttestation) { a.Attestation.AkPub[40] ^= 1 },
		"quote":       func(a *message.SevSnpSvsmAttestation) { a.Attestation.Quotes[0].Quote[50] ^= 1 },
	} {
		if with(change) == nil {
			t.Errorf("%s changed: accepted", what)
		}
	}
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
