// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// verdict is a row of verdicts.tsv, whose verdicts were computed outside of Go.
type verdict struct {
	id, note  string
	report    []byte // from its offset to the end of the file
	leaf      *snp.EndorsementKey
	issuers   [][]byte // as found with the leaf
	column    map[string]string
	notBefore time.Time
}

func verdicts(t *testing.T) []verdict {
	t.Helper()
	r := csv.NewReader(strings.NewReader(string(vectors.Read(t, "verdicts.tsv"))))
	r.Comma, r.LazyQuotes = '\t', true
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 17 {
		t.Fatalf("verdicts.tsv has %d rows, want a heading and at least 16", len(rows))
	}
	var out []verdict
	for _, row := range rows[1:] {
		v := verdict{column: map[string]string{}}
		for i, name := range rows[0] {
			v.column[name] = row[i]
		}
		v.id, v.note = v.column["id"], v.column["note"]
		offset, err := strconv.Atoi(v.column["offset"])
		if err != nil {
			t.Fatal(err)
		}
		v.report = vectors.Read(t, v.column["report_file"])[offset:]
		var ders [][]byte
		if strings.HasPrefix(v.column["leaf_cert"], "(") {
			ders, err = snp.TableCertificates(v.report[snp.ReportSize:])
		} else {
			ders, err = snp.DecodeCertificates(vectors.Read(t, v.column["leaf_cert"]))
		}
		if err != nil {
			t.Fatalf("%s: %v", v.id, err)
		}
		leaves, _, errs := snp.SortCertificates(ders)
		if len(leaves) != 1 || len(errs) != 0 {
			t.Fatalf("%s: %d endorsement keys, errors %v", v.id, len(leaves), errs)
		}
		v.leaf, v.issuers = leaves[0], ders
		v.notBefore = v.leaf.Certificate.NotBefore
		out = append(out, v)
	}
	return out
}

func roots(t testing.TB) *snp.Roots {
	t.Helper()
	r, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Every recording gets the verdict of its row, column for column.
func TestRecordings(t *testing.T) {
	trusted := roots(t)
	for _, v := range verdicts(t) {
		t.Run(v.id, func(t *testing.T) {
			r, err := snp.ParseReport(v.report[:snp.ReportSize])
			if err != nil {
				t.Fatal(err)
			}
			check := func(column string, got any) {
				t.Helper()
				if want := v.column[column]; want != fmt.Sprint(got) {
					t.Errorf("%s: %v, want %v", column, got, want)
				}
			}
			check("version", r.Version)
			check("vmpl", r.VMPL)
			check("policy", r.Policy)
			check("reported_tcb", fmt.Sprintf("0x%x", uint64(r.ReportedTCB)))
			fms := "000000"
			if c := r.CPU; c != nil {
				fms = fmt.Sprintf("%02x%02x%02x", c.Family, c.Model, c.Stepping)
			}
			check("fms", fms)
			check("cert_notAfter", v.leaf.Certificate.NotAfter.Format(time.DateOnly))
			check("issuer", v.leaf.Certificate.Issuer.CommonName)

			check("report_sig", title(r.VerifySignature(v.leaf) == nil))
			chain, err := snp.VerifyChain(v.leaf, nil, trusted)
			check("chain_to_ARK", title(strings.HasPrefix(v.leaf.Certificate.Issuer.CommonName, "SEV-") && err == nil))
			hwid := snp.CheckChipID(r, v.leaf)
			if snp.CodeOf(hwid) == snp.CodeChipIDUnbound {
				check("hwid_match", "n/a")
			} else {
				check("hwid_match", title(hwid == nil))
			}
			check("cert_tcb_match", title(snp.CheckTCB(r, v.leaf) == nil))
			if err != nil {
				return
			}
			if chain.Test {
				t.Error("AMD's root is taken for a test root")
			}
			if err := snp.CheckSigner(r, v.leaf); err != nil {
				t.Error(err)
			}
			if err := snp.CheckProduct(r, chain); err != nil {
				t.Error(err)
			}
			if err := chain.CheckValidity(v.notBefore.Add(time.Hour)); err != nil {
				t.Error(err)
			}
			if err := chain.CheckValidity(v.leaf.Certificate.NotAfter.Add(time.Second)); snp.CodeOf(err) != snp.CodeExpired {
				t.Errorf("a second after its end: %v, want %s", err, snp.CodeExpired)
			}
			if err := chain.CheckValidity(v.notBefore.Add(-time.Second)); snp.CodeOf(err) != snp.CodeNotYetValid {
				t.Errorf("a second before its start: %v, want %s", err, snp.CodeNotYetValid)
			}
		})
	}
}

func title(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// The Turin certificate has an 8-byte HWID and the FMC level, which others lack.
func TestTurinCertificate(t *testing.T) {
	leaf, err := snp.ParseEndorsementKey(vectors.Read(t, "virtee_sev/vcek_turin.der"))
	if err != nil {
		t.Fatal(err)
	}
	if leaf.Product != snp.Turin || len(leaf.HWID) != 8 || leaf.Signer != snp.SignerVCEK {
		t.Errorf("product %v, hwid of %d bytes, signer %v", leaf.Product, len(leaf.HWID), leaf.Signer)
	}
	levels, reserved, err := leaf.TCB.Components(snp.Turin)
	if err != nil || reserved != 0 || len(levels) != 5 || levels[0].Component != snp.FMC {
		t.Errorf("levels %v, reserved %v, %v", levels, reserved, err)
	}
	chain, err := snp.VerifyChain(leaf, nil, roots(t))
	if err != nil {
		t.Fatal(err)
	}
	if chain.Product != snp.Turin {
		t.Errorf("chain for %v", chain.Product)
	}
}

// Both byte orders of the GUIDs in use lead to the same certificates.
func TestTableOfRealHosts(t *testing.T) {
	for _, c := range []struct {
		file string
		want []snp.GUID
	}{
		{"veraison_services/extracted_report_plus_auxblob.bin", []snp.GUID{snp.GUIDARK, snp.GUIDASK, snp.GUIDVCEK}},
		{"EternisAI_attestation-server/sevsnp_attestation_aws_evidence_0.sevsnp.bin", []snp.GUID{snp.GUIDVLEK}},
	} {
		t.Run(path.Dir(c.file), func(t *testing.T) {
			table := vectors.Read(t, c.file)[snp.ReportSize:]
			entries, err := snp.ParseTable(table)
			if err != nil {
				t.Fatal(err)
			}
			var got []snp.GUID
			for i, e := range entries {
				got = append(got, e.GUID)
				swap(table[i*24:])
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("entries %v, want %v", got, c.want)
			}
			again, err := snp.TableCertificates(table)
			if err != nil || len(again) != len(c.want) {
				t.Errorf("mixed byte order: %d certificates, %v", len(again), err)
			}
		})
	}
}

// swap turns the GUID at the start of b from one byte order into the other.
func swap(b []byte) {
	binary.BigEndian.PutUint32(b, binary.LittleEndian.Uint32(b))
	binary.BigEndian.PutUint16(b[4:], binary.LittleEndian.Uint16(b[4:]))
	binary.BigEndian.PutUint16(b[6:], binary.LittleEndian.Uint16(b[6:]))
}
