// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/verify/internal/paravisor"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// recordingPolicy accepts whatever real machine it was, with defaults that refuse what
// endangers the guest.
const recordingPolicy = "version = 1\nproducts = [\"milan\", \"genoa\", \"turin\"]\nsigners = [\"vcek\", \"vlek\"]\nvlek_csps = [\"CN=cc-us-east-2.amazonaws.com\"]\nunlisted_launch = \"allow\"\n" +
	"log = \"optional\"\nallow_provisional_firmware = true\n"

// row is one of verdicts.tsv, whose verdicts were computed outside of Go.
type row map[string]string

func recordingRows(t *testing.T) []row {
	t.Helper()
	r := csv.NewReader(bytes.NewReader(vectors.Read(t, "verdicts.tsv")))
	r.Comma, r.LazyQuotes = '\t', true
	lines, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) < 17 {
		t.Fatalf("verdicts.tsv has %d rows, want a heading and at least 16", len(lines))
	}
	var out []row
	for _, line := range lines[1:] {
		v := row{}
		for i, name := range lines[0] {
			v[name] = line[i]
		}
		out = append(out, v)
	}
	return out
}

// failures are the checks that must fail for a row, by what its columns say.
func (v row) failures(t *testing.T) []CheckID {
	t.Helper()
	var out []CheckID
	for _, c := range []struct {
		column string
		id     CheckID
	}{{"report_sig", ReportSignature}, {"hwid_match", ReportChip}, {"cert_tcb_match", ReportTCB}} {
		if v[c.column] == "False" {
			out = append(out, c.id)
		}
	}
	policy, err := strconv.ParseUint(strings.TrimPrefix(v["policy"], "0x"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if v["vmpl"] != "0" {
		out = append(out, PolicyVMPL)
	}
	if policy&(1<<19) != 0 {
		out = append(out, PolicyDebug)
	}
	return out
}

// certificatesOf are those of a recording's file of certificates, and the first of them.
func certificatesOf(t *testing.T, file string) ([][]byte, *snp.EndorsementKey) {
	t.Helper()
	ders, err := snp.DecodeCertificates(vectors.Read(t, file))
	if err != nil {
		t.Fatal(err)
	}
	leaves, _, _ := snp.SortCertificates(ders)
	if len(leaves) != 1 {
		t.Fatalf("%s: %d endorsement keys", file, len(leaves))
	}
	return ders, leaves[0]
}

func recordingOptions(t *testing.T, root string, at time.Time) options {
	t.Helper()
	return options{Policy: mustPolicy(t, recordingPolicy+root), AcceptReplay: true, Time: at}
}

// TestRecordedReports: every report of a real machine gets the verdict that was found
// outside of this program, each failure by the check that it is about.
func TestRecordedReports(t *testing.T) {
	for _, v := range recordingRows(t) {
		t.Run(v["id"], func(t *testing.T) {
			offset, err := strconv.Atoi(v["offset"])
			if err != nil {
				t.Fatal(err)
			}
			r := RawReport{Kind: evidence.ReportSNP, Report: vectors.Read(t, v["report_file"])[offset:]}
			if offset > 0 {
				r.Report = r.Report[:snp.ReportSize]
			}
			var leaf *snp.EndorsementKey
			if strings.HasPrefix(v["leaf_cert"], "(") {
				ders, err := snp.TableCertificates(r.Report[snp.ReportSize:])
				if err != nil {
					t.Fatal(err)
				}
				leaves, _, _ := snp.SortCertificates(ders)
				leaf = leaves[0]
			} else {
				r.Certificates, leaf = certificatesOf(t, v["leaf_cert"])
			}
			a, err := appraiseReport(r, recordingOptions(t, "binding = \"none\"\n", leaf.Certificate.NotBefore.Add(time.Hour)))
			if err != nil {
				t.Fatal(err)
			}
			want := v.failures(t)
			if v["chain_to_ARK"] == "False" && v["report_sig"] == "False" {
				// these two leaves say so themselves: see below
				want = append(want, ReportChain)
			}
			if got := failedIDs(a); !sameIDs(got, want) {
				t.Errorf("failed are %v, want %v\n%s", got, want, explain(a))
			}
			if (a.Verdict == Pass) != (len(want) == 0) {
				t.Errorf("verdict %s", a.Verdict)
			}
			a, err = appraiseReport(r, recordingOptions(t, "binding = \"none\"\n", leaf.Certificate.NotAfter.Add(time.Second)))
			if err != nil {
				t.Fatal(err)
			}
			if a.Check(ReportChain).Verdict == Pass && a.Check(ReportValidity).Verdict != Fail {
				t.Errorf("a second after the end of the certificate: %s", a.Check(ReportValidity).Sentence)
			}
		})
	}
}

func sameIDs(a, b []CheckID) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// TestRecordedReportData: what is known of REPORT_DATA of recordings, expected and not.
func TestRecordedReportData(t *testing.T) {
	const aws = "EternisAI_attestation-server/sevsnp_attestation_aws"
	var document struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(vectors.Read(t, aws+".json"), &document); err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, document.Data); err != nil {
		t.Fatal(err)
	}
	data := sha512.Sum512(compact.Bytes())
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	siena, _ := certificatesOf(t, "confidential-dot-ai_attestation-rs/snp_live-vcek-genoa.der")
	for _, c := range []struct {
		name   string
		report RawReport
		want   []byte
	}{
		{"AWS", RawReport{Kind: evidence.ReportSNP, Report: vectors.Read(t, aws+"_evidence_0.sevsnp.bin")}, data[:]},
		{"Siena", RawReport{Kind: evidence.ReportSNP, Report: vectors.Read(t, "confidential-dot-ai_attestation-rs/snp_live-report-v5-genoa.bin"), Certificates: siena}, []byte("hello-attestation")},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := recordingOptions(t, "binding = \"none\"\nfreshness = \"any\"\n", at)
			o.AcceptReplay, o.ReportData = false, c.want
			a, err := appraiseReport(c.report, o)
			if err != nil {
				t.Fatal(err)
			}
			if a.Verdict != Pass || a.Freshness != UnknownReport {
				t.Errorf("%s, report %s\n%s", a.Verdict, a.Freshness, explain(a))
			}
			o.ReportData = append([]byte{c.want[0] ^ 1}, c.want[1:]...)
			if a, err = appraiseReport(c.report, o); err != nil {
				t.Fatal(err)
			}
			if got := failedIDs(a); !slices.Equal(got, []CheckID{ReportExpectedData}) {
				t.Errorf("with other data failed are %v", got)
			}
		})
	}
}

// unpacked is a recorded quote in one file: signature and attestation after a length
// each, then a count and the PCRs, little-endian in 8 bytes.
func unpacked(t *testing.T, file string) (quote, signature, pcrs []byte) {
	t.Helper()
	b := vectors.Read(t, file)
	next := func() []byte {
		n := binary.LittleEndian.Uint64(b)
		out := b[8 : 8+n]
		b = b[8+n:]
		return out
	}
	signature, quote = next(), next()
	return quote, signature, b[8:]
}

// listedParavisor lists the launch measurement of a blob as a paravisor's.
func listedParavisor(blob []byte) string {
	m := blob[32+0x90:][:48]
	return "binding = \"paravisor\"\nfreshness = \"any\"\n[[launch]]\nmeasurement = \"" + hex.EncodeToString(m) + "\"\nkind = \"paravisor\"\ncovers = \"firmware\"\n"
}

// appraiseRecorded compares a recorded set with a nonce that may be shorter than those
// which a caller may expect.
func appraiseRecorded(s AzureSet, o options, nonce string) (*Appraisal, error) {
	v, err := o.verifier()
	if err != nil {
		return nil, err
	}
	a, err := v.begin(MaterialParavisor, o.expect(), o.Time)
	if err != nil {
		return nil, err
	}
	if nonce != "" {
		a.expect.UnsafeAcceptReplay, a.expect.Nonce = false, []byte(nonce)
	}
	a.paravisor(s)
	return a.result(), nil
}

// TestRecordedParavisors: the sets of Azure, with all five of their checks.
func TestRecordedParavisors(t *testing.T) {
	// What makes a set whole.
	five := []CheckID{ReportSignature, ReportChain, BindingRuntimeData, QuoteSignature, QuotePCRDigest}
	const trustee = "confidential-containers_trustee/"
	const kinvolk = "kinvolk_azure-cvm-tooling/"
	extracted := func(name, nonce string) (AzureSet, string, string) {
		s := AzureSet{HCL: vectors.Read(t, trustee+name+".hcl.bin"), Quote: vectors.Read(t, trustee+name+".quote.msg"),
			Signature: vectors.Read(t, trustee+name+".quote.sig"), PCRs: vectors.Read(t, trustee+name+".pcrs.bin")}
		return s, trustee + name + ".vcek.pem", nonce
	}
	type recording struct {
		name    string
		set     AzureSet
		leaf    string
		nonce   string
		failing []CheckID
	}
	var all []recording
	s, leaf, nonce := extracted("extracted_evidence-v0", "challenge")
	all = append(all, recording{"Milan", s, leaf, nonce, nil})
	s, leaf, nonce = extracted("extracted_evidence-genoa", "")
	all = append(all, recording{"Genoa", s, leaf, nonce, nil})
	other := s
	other.PCRs = slices.Clone(s.PCRs)
	other.PCRs[0] ^= 1
	all = append(all, recording{"Genoa, another PCR", other, leaf, nonce, []CheckID{QuotePCRDigest}})
	milan, _, _ := extracted("extracted_evidence-v0", "")
	other = s
	other.Quote, other.Signature, other.PCRs = milan.Quote, milan.Signature, milan.PCRs
	all = append(all, recording{"case 51 Genoa's report, Milan's quote", other, leaf, nonce, []CheckID{QuoteSignature}})
	quote, signature, pcrs := unpacked(t, trustee+"quote.bin")
	all = append(all, recording{"Milan, version 2", AzureSet{HCL: vectors.Read(t, trustee+"hcl-report.bin"), Quote: quote, Signature: signature, PCRs: pcrs},
		trustee + "vcek.pem", "challenge", nil})
	// The key of this quote is in another file, see TestRecordedQuotes; the blob is of another boot.
	quote, signature, pcrs = unpacked(t, kinvolk+"quote.bin")
	all = append(all, recording{"another chip's certificate, another TPM's quote", AzureSet{HCL: vectors.Read(t, kinvolk+"hcl-report-snp.bin"), Quote: quote, Signature: signature, PCRs: pcrs},
		kinvolk + "certs.pem", "challenge", []CheckID{QuoteSignature, ReportSignature, ReportChip}})
	all = append(all, recording{"TDX", AzureSet{HCL: vectors.Read(t, kinvolk+"hcl-report-tdx.bin"), Quote: quote, Signature: signature, PCRs: pcrs},
		kinvolk + "certs.pem", "challenge", []CheckID{QuoteSignature, ReportKind}})
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			var key *snp.EndorsementKey
			c.set.Certificates, key = certificatesOf(t, c.leaf)
			o := recordingOptions(t, "", key.Certificate.NotBefore.Add(time.Hour))
			o.Policy = mustPolicy(t, recordingPolicy+listedParavisor(c.set.HCL))
			a, err := appraiseRecorded(c.set, o, c.nonce)
			if err != nil {
				t.Fatal(err)
			}
			if got := failedIDs(a); !sameIDs(got, c.failing) {
				t.Fatalf("failed are %v, want %v\n%s", got, c.failing, explain(a))
			}
			for _, id := range five {
				if v := a.Check(id).Verdict; v != Pass && !slices.Contains(c.failing, id) && !slices.Contains(c.failing, ReportKind) {
					t.Errorf("%s: %s", id, v)
				}
			}
			if len(c.failing) > 0 {
				return
			}
			if a.Verdict != Pass || a.Binding != BindingParavisor {
				t.Errorf("%s, binding %s\n%s", a.Verdict, a.Binding, explain(a))
			}
			o.Policy = mustPolicy(t, recordingPolicy+"freshness = \"any\"\n")
			if a, err = appraiseRecorded(c.set, o, c.nonce); err != nil || a.Binding != BindingGuestAsserted {
				t.Errorf("not listed by the policy: binding %s, %v", a.Binding, err)
			}
			if c.nonce == "" {
				return
			}
			if a, err = appraiseRecorded(c.set, o, "another challenge"); err != nil || !slices.Equal(failedIDs(a), []CheckID{QuoteQualifyingData}) {
				t.Errorf("with another nonce failed are %v, %v", failedIDs(a), err)
			}
		})
	}
	t.Run("a blob alone, with another chip's certificate", func(t *testing.T) {
		set := AzureSet{HCL: vectors.Read(t, "confidential-dot-ai_attestation-rs/az_snp_hcl-report.bin")}
		set.Certificates, _ = certificatesOf(t, "confidential-dot-ai_attestation-rs/az_snp_imds-vcek.der")
		a, err := appraiseParavisor(set, recordingOptions(t, "", time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)))
		if err != nil {
			t.Fatal(err)
		}
		if a.Check(ReportSignature).Verdict != Fail || a.Check(BindingRuntimeData).Verdict != Pass || a.Verdict != Fail {
			t.Errorf("%s", explain(a))
		}
	})
}

// TestRecordedQuotes: quotes that were recorded with the key alone.
func TestRecordedQuotes(t *testing.T) {
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ name, quote, key string }{
		{"kinvolk", "kinvolk_azure-cvm-tooling/quote.bin", "kinvolk_azure-cvm-tooling/akpub.pem"},
		{"trustee", "confidential-containers_trustee/quote.bin", "confidential-containers_trustee/hcl-report.bin"},
	} {
		set := QuoteSet{}
		var pcrs []byte
		set.Quote, set.Signature, pcrs = unpacked(t, c.quote)
		set.PCRs = paravisor.Quoted(pcrs, set.Quote)
		if block, _ := pem.Decode(vectors.Read(t, c.key)); block != nil {
			set.Key = block.Bytes
		} else {
			set.Key = keyInBlob(t, vectors.Read(t, c.key))
		}
		a, err := appraiseQuote(set, recordingOptions(t, "", at))
		if err != nil {
			t.Fatal(err)
		}
		if a.Check(QuoteSignature).Verdict != Pass || a.Check(QuotePCRDigest).Verdict != Pass {
			t.Errorf("%s: %s", c.name, explain(a))
		}
	}
}

// keylimeValues are the values in a file of tpm2_quote: a TPML_PCR_SELECTION and lists
// of digests as C lays them out, little-endian.
func keylimeValues(t *testing.T, b []byte) []evidence.Bank {
	t.Helper()
	le := binary.LittleEndian
	bank := evidence.Bank{Algorithm: "sha256"}
	values := b[132+4:] // TPML_PCR_SELECTION, count of lists
	values = values[4:] // count of digests in the first
	at := 0
	for i := range uint32(24) {
		if b[4+3+i/8]&(1<<(i%8)) == 0 {
			continue
		}
		size := int(le.Uint16(values[at*66:]))
		bank.PCRs = append(bank.PCRs, evidence.PCR{Index: i, Value: values[at*66+2:][:size]})
		at++
	}
	return []evidence.Bank{bank}
}

// TestRecordedQuote: the quote is sound, and nothing is known of the machine.
func TestRecordedQuote(t *testing.T) {
	const dir = "keylime_keylime/"
	block, _ := pem.Decode(vectors.Read(t, dir+"akpub.pem"))
	set := QuoteSet{Key: block.Bytes, Quote: vectors.Read(t, dir+"quote.out"), Signature: vectors.Read(t, dir+"quotesig.out"),
		PCRs: keylimeValues(t, vectors.Read(t, dir+"quotepcr.out"))}
	o := recordingOptions(t, "binding = \"none\"\n", time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	a, err := appraiseQuote(set, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := failedIDs(a); len(got) != 0 {
		t.Errorf("failed are %v\n%s", got, explain(a))
	}
	for _, id := range []CheckID{AKAlgorithm, QuoteMagic, QuoteType, QuoteDecode, QuoteTrailing, QuoteSignature, QuoteSelection, QuotePCRDigest} {
		if c := a.Check(id); c.Verdict != Pass {
			t.Errorf("%s: %s, %s", id, c.Verdict, c.Sentence)
		}
	}
	if a.Verdict != Fail || a.Check(ReportSignature).Verdict != NotAsserted || !a.Check(ReportSignature).Required {
		t.Errorf("a quote without a report is %s", a.Verdict)
	}
	set.PCRs[0].PCRs[0].Value[0] ^= 1
	if a, err = appraiseQuote(set, o); err != nil || !slices.Equal(failedIDs(a), []CheckID{QuotePCRDigest}) {
		t.Errorf("with another value failed are %v, %v", failedIDs(a), err)
	}
}

// keyInBlob returns the attestation key in a paravisor's blob, as SubjectPublicKeyInfo.
func keyInBlob(t *testing.T, blob []byte) []byte {
	t.Helper()
	size := binary.LittleEndian.Uint32(blob[1232:])
	var v struct {
		Keys []struct{ Kid, N string }
	}
	if err := json.Unmarshal(blob[1236:1236+size], &v); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(v.Keys, func(k struct{ Kid, N string }) bool { return k.Kid == "HCLAkPub" })
	n, err := base64.RawURLEncoding.DecodeString(v.Keys[i].N)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestRecordedBlobs: the blobs of Azure as reports of their own kind, in the room that judges
// evidence of such a machine. Each gets the verdict that verdicts.tsv has for the report in it.
func TestRecordedBlobs(t *testing.T) {
	seen := 0
	for _, v := range recordingRows(t) {
		if v["offset"] == "0" {
			continue
		}
		seen++
		t.Run(v["id"], func(t *testing.T) {
			r := RawReport{Kind: evidence.ReportParavisor, Report: vectors.Read(t, v["report_file"])}
			var leaf *snp.EndorsementKey
			r.Certificates, leaf = certificatesOf(t, v["leaf_cert"])
			at := leaf.Certificate.NotBefore.Add(time.Hour)
			a, err := appraiseReport(r, recordingOptions(t, "binding = \"none\"\n", at))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := failedIDs(a), v.failures(t); !sameIDs(got, want) {
				t.Errorf("failed are %v, want %v\n%s", got, want, explain(a))
			}
			for _, id := range []CheckID{ParavisorDecode, ParavisorKey, BindingRuntimeData} {
				if a.Check(id).Verdict != Pass {
					t.Errorf("%s: %s", id, a.Check(id).Sentence)
				}
			}
			r.Report[len(r.Report)-1] = 1 // what fills the index up is zeros
			if a, err = appraiseReport(r, recordingOptions(t, "binding = \"none\"\n", at)); err != nil || a.Check(ParavisorDecode).Verdict != Fail {
				t.Errorf("with another byte at the end: %v", err)
			}
		})
	}
	if seen < 5 {
		t.Errorf("only %d rows are blobs", seen)
	}
	tdx := RawReport{Kind: evidence.ReportParavisor, Report: vectors.Read(t, "kinvolk_azure-cvm-tooling/hcl-report-tdx.bin")}
	a, err := appraiseReport(tdx, recordingOptions(t, "binding = \"none\"\n", time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)))
	if err != nil || a.Check(ParavisorDecode).Verdict != Fail || a.Verdict != Fail {
		t.Errorf("TDX: %v", err)
	}
}
