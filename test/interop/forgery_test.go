// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify"
)

// TestForgeries: tpm2_checkquote of tpm2-tools 5.4 accepts both, ours refuses them,
// each with a check of its own. Cases 44 and 45.
func TestForgeries(t *testing.T) {
	for _, c := range []struct {
		name  string
		forge func(*evidencetest.Attestation)
		check verify.CheckID
	}{
		{
			// The key signed something that no TPM made: an attacker with an unrestricted key,
			// or gets a restricted one to sign foreign data, can write it.
			name:  "wrong magic",
			forge: func(a *evidencetest.Attestation) { a.Magic = 0xFEEDFACE },
			check: "quote.magic",
		},
		{
			// A genuine TPM2_NV_Certify by the same AK over an NV index that every program may
			// fill. tpm2_checkquote reads its structure as that of a quote.
			name:  "NV certification",
			forge: certification,
			check: "quote.type",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, 13}}}
			r.Batch.Attest = c.forge
			e := r.Build(t)

			if err := checkquote(t, parts(t, e), ""); err != nil {
				t.Logf("this tpm2_checkquote refuses it, as ours does: %v", err)
			} else {
				t.Log("this tpm2_checkquote accepts it")
			}
			a := appraise(t, e)
			if a.Verdict != verify.Fail {
				t.Fatal("our verifier accepts it")
			}
			if !slices.ContainsFunc(a.Failed(), func(f verify.Check) bool { return f.ID == c.check && f.Verdict == verify.Fail }) {
				t.Errorf("refused for %v, want %s among the reasons", a.Failed(), c.check)
			}
		})
	}
}

// certification turns a quote into what TPM2_NV_Certify signs: TPMS_NV_CERTIFY_INFO
// (TPM 2.0 Part 2, section 10.12.8) is the name of the index, an offset, and the
// content of the index. In the memory of a C program that takes the union for a
// TPMS_QUOTE_INFO, the PCR digest lies 58 bytes into that content, its size first in
// the order of the processor.
func certification(a *evidencetest.Attestation) {
	a.Type = uint16(tpm2.TPMSTAttestNV)
	content := make([]byte, 58)
	content = binary.LittleEndian.AppendUint16(content, uint16(len(a.Digest)))
	content = append(content, a.Digest...)

	name := append([]byte{0x00, 0x0b}, make([]byte, 32)...)
	body := binary.BigEndian.AppendUint16(nil, uint16(len(name)))
	body = append(body, name...)
	body = binary.BigEndian.AppendUint16(body, 0) // offset
	body = binary.BigEndian.AppendUint16(body, uint16(len(content)))
	a.Body = append(body, content...)
}

// appraise verifies e under a policy that would accept it unforged.
func appraise(t *testing.T, e *evidence.Evidence) *verify.Appraisal {
	t.Helper()
	policy, err := verify.ParsePolicy([]byte("version = 1\nunlisted_launch = \"allow\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := strictjson.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(policy, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := v.Appraise(document, verify.Expect{Nonce: evidencetest.Nonce}, evidencetest.Time)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestUnforged: without the forgery, both accept: what refuses it is the forgery.
func TestUnforged(t *testing.T) {
	r := evidencetest.New()
	r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, 13}}}
	e := r.Build(t)
	if a := appraise(t, e); a.Verdict != verify.Pass {
		t.Errorf("our verifier refuses it: %v", a.Failed())
	}
	if err := checkquote(t, parts(t, e), ""); err != nil {
		t.Errorf("tpm2_checkquote refuses it: %v", err)
	}
}
