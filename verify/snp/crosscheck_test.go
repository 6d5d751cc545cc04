// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	pb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	peer "github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// samePeerFields compares a report with go-sev-guest's reading of the same bytes.
func samePeerFields(t *testing.T, r *snp.Report) {
	t.Helper()
	p, err := abi.ReportToProto(r.Bytes())
	if err != nil {
		t.Fatalf("go-sev-guest does not read it: %v", err)
	}
	var fms uint32
	if r.CPU != nil {
		fms = abi.FmsToCpuid1Eax(r.CPU.Family, r.CPU.Model, r.CPU.Stepping)
	}
	var launch, current uint64
	if r.LaunchMitigations != nil {
		launch, current = *r.LaunchMitigations, *r.CurrentMitigations
	}
	for _, f := range []struct {
		name       string
		ours, peer any
	}{
		{"version", r.Version, p.Version}, {"guest svn", r.GuestSVN, p.GuestSvn}, {"policy", uint64(r.Policy), p.Policy},
		{"family id", r.FamilyID[:], p.FamilyId}, {"image id", r.ImageID[:], p.ImageId}, {"vmpl", r.VMPL, p.Vmpl},
		{"algorithm", r.SignatureAlgorithm, p.SignatureAlgo}, {"current tcb", uint64(r.CurrentTCB), p.CurrentTcb},
		{"platform info", uint64(r.PlatformInfo), p.PlatformInfo}, {"key info", uint32(r.KeyInfo), p.SignerInfo},
		{"report data", r.ReportData[:], p.ReportData}, {"measurement", r.Measurement[:], p.Measurement},
		{"host data", r.HostData[:], p.HostData}, {"id key", r.IDKeyDigest[:], p.IdKeyDigest},
		{"author key", r.AuthorKeyDigest[:], p.AuthorKeyDigest}, {"report id", r.ReportID[:], p.ReportId},
		{"report id of the migration agent", r.ReportIDMA[:], p.ReportIdMa}, {"reported tcb", uint64(r.ReportedTCB), p.ReportedTcb},
		{"cpu", fms, p.Cpuid1EaxFms}, {"chip id", r.ChipID[:], p.ChipId}, {"committed tcb", uint64(r.CommittedTCB), p.CommittedTcb},
		{"current firmware", []uint32{uint32(r.Current.Major), uint32(r.Current.Minor), uint32(r.Current.Build)}, []uint32{p.CurrentMajor, p.CurrentMinor, p.CurrentBuild}},
		{"committed firmware", []uint32{uint32(r.Committed.Major), uint32(r.Committed.Minor), uint32(r.Committed.Build)}, []uint32{p.CommittedMajor, p.CommittedMinor, p.CommittedBuild}},
		{"launch tcb", uint64(r.LaunchTCB), p.LaunchTcb}, {"launch mitigations", launch, p.LaunchMitVector}, {"current mitigations", current, p.CurrentMitVector},
	} {
		if fmt.Sprint(f.ours) != fmt.Sprint(f.peer) {
			t.Errorf("%s: %v, go-sev-guest reads %v", f.name, f.ours, f.peer)
		}
	}
	policy, err := abi.ParseSnpPolicy(p.Policy)
	if (err == nil) != (r.Policy.Wellformed() == nil) {
		t.Errorf("policy %v: %v, go-sev-guest says %v", r.Policy, r.Policy.Wellformed(), err)
	}
	if policy.Debug != r.Policy.Has(snp.PolicyDebug) || policy.MigrateMA != r.Policy.Has(snp.PolicyMigrationAgent) {
		t.Errorf("policy %v: go-sev-guest reads %+v", r.Policy, policy)
	}
}

// On every recording, go-sev-guest reads the same fields and certificates and
// comes to the same verdict on signature and chain, but for what it is known to
// fail on: processors of family 0x19, models 0xA0 to 0xAF.
func TestRecordingsAgainstGoSEVGuest(t *testing.T) {
	trusted := roots(t)
	for _, v := range verdicts(t) {
		t.Run(v.id, func(t *testing.T) {
			r, err := snp.ParseReport(v.report[:snp.ReportSize])
			if err != nil {
				t.Fatal(err)
			}
			samePeerFields(t, r)
			x, err := kds.CertificateExtensions(v.leaf.Certificate, abi.ReportSigner(v.leaf.Signer))
			if err != nil {
				t.Fatal(err)
			}
			if uint64(x.TCBVersion) != uint64(v.leaf.TCB) || !bytes.Equal(x.HWID, v.leaf.HWID) || x.ProductName != v.leaf.ProductName || x.CspID != v.leaf.CSPID {
				t.Errorf("certificate %+v, go-sev-guest reads %+v", v.leaf, x)
			}
			ours, theirs := r.VerifySignature(v.leaf), peer.SnpReportSignature(r.Bytes(), v.leaf.Certificate)
			if (ours == nil) != (theirs == nil) {
				t.Errorf("signature: %v, go-sev-guest says %v", ours, theirs)
			}
			if _, err := snp.VerifyChain(v.leaf, nil, trusted); ours == nil && err != nil {
				t.Fatal(err)
			}
			err = peerVerify(r, v.leaf, nil, v.notBefore.Add(time.Hour))
			unable := r.CPU != nil && r.CPU.Family == 0x19 && r.CPU.Model >= 0xA0
			if (err == nil) != (ours == nil && !unable) {
				t.Errorf("whole verification: go-sev-guest says %v, ours %v", err, ours)
			}
		})
	}
}

// peerVerify is go-sev-guest's verification of signature and chain, offline.
// Roots nil are AMD's, to which VLEKs need their intermediate added.
func peerVerify(r *snp.Report, leaf *snp.EndorsementKey, roots *trust.AMDRootCerts, at time.Time) error {
	report, err := abi.ReportToProto(r.Bytes())
	if err != nil {
		return err
	}
	line := leaf.Product.String()
	if roots == nil {
		text := map[snp.Product][2][]byte{
			snp.Milan: {trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes},
			snp.Genoa: {trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes},
			snp.Turin: {trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes},
		}[leaf.Product][leaf.Signer]
		roots = trust.AMDRootCertsProduct(line)
		if err := roots.FromKDSCertBytes(text); err != nil {
			return err
		}
	}
	chain := &pb.CertificateChain{Extras: map[string][]byte{}}
	if leaf.Signer == snp.SignerVLEK {
		chain.VlekCert = leaf.Certificate.Raw
		chain.AskCert = roots.ProductCerts.Asvk.Raw
	} else {
		chain.VcekCert = leaf.Certificate.Raw
		chain.AskCert = roots.ProductCerts.Ask.Raw
	}
	chain.ArkCert = roots.ProductCerts.Ark.Raw
	options := &peer.Options{
		DisableCertFetching: true, Now: at,
		TrustedRoots: map[string][]*trust.AMDRootCerts{line: {roots}},
	}
	if r.CPU == nil { // else it assumes Milan-B1
		if options.Product, err = kds.ParseProductName(leaf.ProductName, abi.ReportSigner(leaf.Signer)); err != nil {
			return err
		}
	}
	return peer.SnpAttestationContext(context.Background(), &pb.Attestation{Report: report, CertificateChain: chain}, options)
}

// go-sev-guest accepts what the software platform makes, for every version,
// product and signer that it handles, and refuses a flipped byte.
func TestSoftwareReportsUnderGoSEVGuest(t *testing.T) {
	for _, product := range []snp.Product{snp.Milan, snp.Genoa} {
		for version := uint32(2); version <= 5; version++ {
			for _, signer := range []snp.Signer{snp.SignerVCEK, snp.SignerVLEK} {
				t.Run(fmt.Sprintf("%v/v%d/%v", product, version, signer), func(t *testing.T) {
					p := launch(t, soft.Options{Product: product, Version: version, Signer: signer, GuestSVN: 3, Mitigations: 9, HostData: [32]byte{4}})
					r, leaf := reported(t, p)
					samePeerFields(t, r)
					text, err := p.Options().Authority.ChainPEM(product, signer)
					if err != nil {
						t.Fatal(err)
					}
					roots := trust.AMDRootCertsProduct(product.String())
					if err := roots.FromKDSCertBytes(text); err != nil {
						t.Fatal(err)
					}
					if err := peerVerify(r, leaf, roots, time.Now()); err != nil {
						t.Errorf("refused: %v", err)
					}
					if err := peerVerify(r, leaf, nil, time.Now()); err == nil {
						t.Error("accepted under AMD's roots")
					}
					b := r.Bytes()
					b[0x90] ^= 1
					flipped, err := snp.ParseReport(b)
					if err != nil {
						t.Fatal(err)
					}
					if err := peerVerify(flipped, leaf, roots, time.Now()); err == nil {
						t.Error("accepted with a byte flipped")
					}
				})
			}
		}
	}
}

// Its validation, which looks at chip id and TCB, agrees too.
func TestSoftwareReportUnderGoSEVGuestPolicy(t *testing.T) {
	r, leaf := reported(t, launch(t, soft.Options{}))
	_, other := reported(t, launch(t, soft.Options{}))
	report, err := abi.ReportToProto(r.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	m := soft.Measurement()
	o := &validate.Options{
		GuestPolicy: abi.SnpPolicy{SMT: true}, Measurement: m[:], ReportData: r.ReportData[:],
		PlatformInfo: &abi.SnpPlatformInfo{SMTEnabled: true, ECCEnabled: true, AliasCheckComplete: true},
	}
	for _, c := range []struct {
		leaf *snp.EndorsementKey
		ok   bool
	}{{leaf, true}, {other, false}} {
		a := &pb.Attestation{Report: report, CertificateChain: &pb.CertificateChain{VcekCert: c.leaf.Certificate.Raw}}
		if err := validate.SnpAttestation(a, o); (err == nil) != c.ok || (snp.CheckChipID(r, c.leaf) == nil) != c.ok {
			t.Errorf("own certificate %t: go-sev-guest says %v, ours %v", c.ok, err, snp.CheckChipID(r, c.leaf))
		}
	}
}
