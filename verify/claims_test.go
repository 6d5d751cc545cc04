// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestMachineClaims: each claim about the machine is that of the field which it names.
// Every field has a value of its own, so that none can pass for another.
func TestMachineClaims(t *testing.T) {
	r := evidencetest.New()
	r.Report.Body = func(b []byte) {
		b[evidencetest.AtLaunchTCB+7]--
		b[evidencetest.AtCommittedTCB+7] -= 2
		b[evidencetest.AtCurrentTCB+7]++
		binary.LittleEndian.PutUint32(b[evidencetest.AtVMPL:], 1)
		binary.LittleEndian.PutUint32(b[evidencetest.AtGuestSVN:], 7)
	}
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy("vmpl = [1]\nallow_provisional_firmware = true", ""))
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	m, body := a.Accepted.claims.Machine, r.Build(t).Report.Bytes
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(body[at:]) }
	for _, x := range []struct {
		name      string
		got, want any
	}{
		{"platform", m.Platform, evidence.ReportSNP},
		{"product", m.SNP.Product, "genoa"},
		{"report version", m.SNP.ReportVersion, uint32(5)},
		{"measurement", m.Measurement, hex.EncodeToString(evidencetest.Measurement)},
		{"label", m.Label, "test firmware"},
		{"covers", m.Covers, CoversKernel},
		{"guest policy", uint64(m.SNP.GuestPolicy), u64(evidencetest.AtPolicy)},
		{"platform info", uint64(m.SNP.PlatformInfo), u64(evidencetest.AtPlatformInfo)},
		{"VMPL", m.SNP.VMPL, uint32(1)},
		{"signer", m.SNP.Signer, "vcek"},
		{"chip", m.SNP.ChipID, hex.EncodeToString(evidencetest.ChipID)},
		{"host data", m.SNP.HostData, hex.EncodeToString(evidencetest.HostData)},
		{"security version", m.SNP.GuestSVN, uint32(7)},
		{"root", m.Root, "ARK-Genoa"},
		{"test root", m.TestRoot, true},
	} {
		if x.got != x.want {
			t.Errorf("%s is %v, want %v", x.name, x.got, x.want)
		}
	}
	for name, x := range map[string]struct {
		got map[string]uint8
		at  int
	}{
		"reported": {m.SNP.ReportedTCB, evidencetest.AtReportedTCB}, "committed": {m.SNP.CommittedTCB, evidencetest.AtCommittedTCB},
		"current": {m.SNP.CurrentTCB, evidencetest.AtCurrentTCB}, "launch": {m.SNP.LaunchTCB, evidencetest.AtLaunchTCB},
	} {
		want := map[string]uint8{"bootloader": body[x.at], "tee": body[x.at+1], "snp": body[x.at+6], "microcode": body[x.at+7]}
		if !maps.Equal(x.got, want) {
			t.Errorf("%s TCB is %v, want %v", name, x.got, want)
		}
	}
	ak := "000b" + recipeAK()
	if a.Accepted.claims.AKName != ak || a.Accepted.claims.Log.AKName != ak || a.Accepted.claims.Log.ResetCount != r.Batch.Reset {
		t.Errorf("AK %s, in the log's state %s with reset count %d; want %s, %d", a.Accepted.claims.AKName, a.Accepted.claims.Log.AKName, a.Accepted.claims.Log.ResetCount, ak, r.Batch.Reset)
	}
}

// TestMaskedChipIsNotClaimed: zeros are not a chip id, for any signer.
func TestMaskedChipIsNotClaimed(t *testing.T) {
	masked := evidencetest.New()
	body(func(b []byte) { clear(b[evidencetest.AtChipID : evidencetest.AtChipID+64]) })(t, masked)
	byCloud := evidencetest.New()
	byCloud.Report.Signer = snp.SignerVLEK
	for signer, r := range map[string]*evidencetest.Recipe{"vcek": masked, "vlek": byCloud} {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy("signers = [\"vcek\", \"vlek\"]\nvlek_csps = [\"test cloud 1\"]\nallow_masked_chip = true", ""))
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil || a.Verdict != Pass {
			t.Fatal(err, explain(a))
		}
		if m := a.Accepted.claims.Machine; m.SNP.ChipID != "" || m.SNP.Signer != signer {
			t.Errorf("chip %q, signer %q; want none, %s", m.SNP.ChipID, m.SNP.Signer, signer)
		}
	}
}

// TestPinnedInAnotherBank: a rule explains the PCR of its own bank alone.
func TestPinnedInAnotherBank(t *testing.T) {
	r := evidencetest.New()
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy("", "[[pcr]]\nbank = \"sha384\"\nindex = 4\nvalues = [\""+repeated(0x24, 48)+"\"]"))
	r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, 13}}, {Algorithm: pcr.SHA384, PCRs: []uint32{4, 13}}}
	r.PCRs.Set(pcr.SHA384, 4, bytes.Repeat([]byte{0x24}, 48))
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	for _, p := range a.Accepted.claims.PCRs {
		if want := map[string]Explanation{"sha256": Unexplained, "sha384": ByPolicy}[p.Bank]; p.Index == 4 && p.Explained != want {
			t.Errorf("PCR 4 of %s is explained by %s, want %s", p.Bank, p.Explained, want)
		}
	}
	if !says(a, "PCR 0, 4 (sha256)") {
		t.Errorf("%q", a.Sentences)
	}
}

// TestBitFieldsInJSON: the host chooses bits of PLATFORM_INFO and of the guest policy up to
// the 64th. The JSON of the claims has each, and gives them back.
func TestBitFieldsInJSON(t *testing.T) {
	r := evidencetest.New()
	r.Report.Body = func(b []byte) {
		binary.LittleEndian.PutUint64(b[evidencetest.AtPlatformInfo:], 1<<63|1<<53|1<<5|1)
		binary.LittleEndian.PutUint64(b[evidencetest.AtPolicy:], 1<<62|1<<53|1<<17|1<<16)
	}
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy("", "\n[guest_policy]\nallow_reserved_bits = true\n"))
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	b, err := strictjson.Encode(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"platformInfo":"0x8020000000000021"`, `"guestPolicy":"0x4020000000030000"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
	again := new(Appraisal)
	if err := strictjson.Decode(b, len(b), again); err != nil {
		t.Fatal(err)
	}
	if got := again.Accepted.claims.Machine.SNP; got.PlatformInfo != claims.Machine.SNP.PlatformInfo || got.GuestPolicy != claims.Machine.SNP.GuestPolicy {
		t.Errorf("read again: %v, %v", got.PlatformInfo, got.GuestPolicy)
	}
}

// TestAppraisalInOneEncoding: the JSON of an appraisal has every byte string in hexadecimal, so that
// no value is there twice in different forms, and it comes back as it was.
func TestAppraisalInOneEncoding(t *testing.T) {
	r := evidencetest.New()
	r.Statement.UserData, r.Statement.PublicKey = []byte{0xff, 0}, bytes.Repeat([]byte{0xab}, 44)
	o := baseOptions(t)
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	for name, encode := range map[string]func(any) ([]byte, error){"strictjson": strictjson.Encode, "in hexadecimal": strictjson.EncodeHex, "encoding/json": json.Marshal} {
		b, err := encode(a)
		if err != nil {
			t.Fatal(err)
		}
		for what, value := range map[string][]byte{
			"nonce": claims.Statement.Nonce, "user data": claims.Statement.UserData, "public key": claims.Statement.PublicKey, "head": claims.Log.Head.Digest[:],
			"start value": claims.Log.Start[0].Value, "value": claims.Log.Values[0].Value, "agent key": claims.Log.AgentKey, "agent": claims.Log.Agents[0].Digest[:], "application": claims.Log.Apps[0].Versions[0].Digest[:],
		} {
			if !bytes.Contains(b, fmt.Appendf(nil, "%q", hex.EncodeToString(value))) {
				t.Errorf("%s: the %s is not in hexadecimal", name, what)
			}
			if bytes.Contains(b, strictjson.EncodeBase64(value)) {
				t.Errorf("%s: the %s is in base64", name, what)
			}
		}
		again := new(Appraisal)
		if err := json.Unmarshal(b, again); err != nil {
			t.Fatal(err)
		}
		if got, err := again.Claims(); err != nil || !reflect.DeepEqual(got, claims) {
			t.Errorf("%s: %v: read again: %+v, want %+v", name, err, got, claims)
		}
	}
}
