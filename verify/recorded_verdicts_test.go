// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/csv"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm-tools/proto/attest"
	"google.golang.org/protobuf/proto"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// recordedVerdicts is the table of what recordings of Azure's and Google's machines come to in the
// rooms of these clouds, by the names of files. Its columns are described in the file itself.
const recordedVerdicts = "testdata/recorded-verdicts.tsv"

// packedQuotes are files in which quote, signature and PCRs of a blob are one file.
var packedQuotes = map[string]string{
	"confidential-containers_trustee/hcl-report.bin":           "confidential-containers_trustee/quote.bin",
	"kinvolk_azure-cvm-tooling/hcl-report-snp.bin":             "kinvolk_azure-cvm-tooling/quote.bin",
	"kinvolk_azure-cvm-tooling/hcl-report-tdx.bin":             "kinvolk_azure-cvm-tooling/quote.bin",
	"confidential-dot-ai_attestation-rs/az_snp_hcl-report.bin": "",
}

// leaves are the certificates of the chips, by the file of a blob.
var leaves = map[string]string{
	"confidential-containers_trustee/hcl-report.bin":                   "confidential-containers_trustee/vcek.pem",
	"confidential-containers_trustee/extracted_evidence-v0.hcl.bin":    "confidential-containers_trustee/extracted_evidence-v0.vcek.pem",
	"confidential-containers_trustee/extracted_evidence-genoa.hcl.bin": "confidential-containers_trustee/extracted_evidence-genoa.vcek.pem",
	"kinvolk_azure-cvm-tooling/hcl-report-snp.bin":                     "kinvolk_azure-cvm-tooling/certs.pem",
	"kinvolk_azure-cvm-tooling/hcl-report-tdx.bin":                     "kinvolk_azure-cvm-tooling/certs.pem",
	"confidential-dot-ai_attestation-rs/az_snp_hcl-report.bin":         "confidential-dot-ai_attestation-rs/az_snp_imds-vcek.der",
}

// azureRecording returns the set of a blob, and a time in the validity of its certificates.
func azureRecording(t *testing.T, file string) (AzureSet, time.Time) {
	t.Helper()
	s := AzureSet{HCL: vectors.Read(t, file)}
	switch packed, known := packedQuotes[file]; {
	case packed != "":
		s.Quote, s.Signature, s.PCRs = unpacked(t, packed)
	case !known:
		base := strings.TrimSuffix(file, ".hcl.bin")
		s.Quote, s.Signature, s.PCRs = vectors.Read(t, base+".quote.msg"), vectors.Read(t, base+".quote.sig"), vectors.Read(t, base+".pcrs.bin")
	}
	var key *snp.EndorsementKey
	s.Certificates, key = certificatesOf(t, leaves[file])
	return s, key.Certificate.NotBefore.Add(time.Hour)
}

// googleRecording returns the quote of a bank in a recorded attestation, and the certificate of its
// AK.
func googleRecording(t *testing.T, file, bank string) (QuoteSet, []byte) {
	t.Helper()
	a := new(attest.Attestation)
	if err := proto.Unmarshal(vectors.Read(t, file), a); err != nil {
		t.Fatal(err)
	}
	for _, q := range a.GetQuotes() {
		b := evidence.Bank{Algorithm: pcr.Algorithm(q.GetPcrs().GetHash()).String()}
		if b.Algorithm != bank {
			continue
		}
		for i := range uint32(24) {
			if v, ok := q.GetPcrs().GetPcrs()[i]; ok {
				b.PCRs = append(b.PCRs, evidence.PCR{Index: i, Value: v})
			}
		}
		return QuoteSet{Key: a.GetAkPub(), Quote: q.GetQuote(), Signature: q.GetRawSig(), PCRs: []evidence.Bank{b}}, a.GetAkCert()
	}
	t.Fatalf("%s has no quote of %s", file, bank)
	return QuoteSet{}, nil
}

// appraiseRow appraises the recording of a row.
func appraiseRow(t *testing.T, v row) (*Appraisal, error) {
	t.Helper()
	switch v["room"] {
	case "paravisor-set", "azure-hcl":
		s, at := azureRecording(t, v["file"])
		o := recordingOptions(t, "", at)
		o.Policy = mustPolicy(t, recordingPolicy+listedParavisor(s.HCL))
		if v["room"] == "paravisor-set" {
			return appraiseRecorded(s, o, v["nonce"])
		}
		o.Policy = mustPolicy(t, recordingPolicy+strings.Replace(listedParavisor(s.HCL), `binding = "paravisor"`, `binding = "none"`, 1))
		return appraiseReport(RawReport{Kind: evidence.ReportParavisor, Report: s.HCL, Certificates: s.Certificates}, o)
	case "gcp":
		s, certificate := googleRecording(t, v["file"], v["bank"])
		o := recordingOptions(t, "", time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
		o.Policy = mustPolicy(t, recordingPolicy+"binding = \"none\"\n[gcp]\nprojects = [\""+v["project"]+"\"]\n")
		o.Certificates = [][]byte{certificate}
		if v["nonce"] != "" {
			o.AcceptReplay, o.Nonce = false, []byte(v["nonce"])
		}
		return appraiseQuote(s, o)
	}
	t.Fatalf("no room %q", v["room"])
	return nil, nil
}

// TestRecordedVerdicts: each recording of Azure and Google gets the verdict of the table, by the
// checks that it names, in the room of its cloud. Each blob that the recordings have is in it.
func TestRecordedVerdicts(t *testing.T) {
	f, err := os.Open(recordedVerdicts)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.Comment = '\t', '#'
	lines, err := r.ReadAll()
	if err != nil || len(lines) < 12 {
		t.Fatalf("%d rows, %v", len(lines), err)
	}
	named := map[string]bool{}
	for _, line := range lines[1:] {
		v := row{}
		for i, name := range lines[0] {
			v[name] = line[i]
		}
		named[v["file"]] = true
		t.Run(v["name"], func(t *testing.T) {
			a, err := appraiseRow(t, v)
			if err != nil {
				t.Fatal(err)
			}
			var want []CheckID
			for id := range strings.FieldsSeq(v["failed"]) {
				want = append(want, CheckID(id))
			}
			if got := failedIDs(a); !sameIDs(got, want) || string(a.Verdict) != v["verdict"] || string(a.Binding) != v["binding"] || string(a.AKOrigin) != v["ak_origin"] {
				t.Errorf("%s, binding %s, AK %s, failed are %v; want %s, %s, %s, %v\n%s", a.Verdict, a.Binding, a.AKOrigin, got, v["verdict"], v["binding"], v["ak_origin"], want, explain(a))
			}
			for id := range strings.FieldsSeq(v["passed"]) {
				if c := a.Check(CheckID(id)); c.Verdict != Pass {
					t.Errorf("%s: %s, %s", id, c.Verdict, c.Sentence)
				}
			}
		})
	}
	for _, v := range recordingRows(t) {
		if v["offset"] != "0" && !named[v["report_file"]] {
			t.Errorf("no row for %s", v["report_file"])
		}
	}
	for _, file := range []string{"google_go-tpm-tools/gce-cos-85-no-nonce.pb", "google_go-tpm-tools/gce-cos-85-nonce9009.pb"} {
		if !slices.ContainsFunc(lines, func(l []string) bool { return slices.Contains(l, file) }) {
			t.Errorf("no row for %s", file)
		}
	}
}
