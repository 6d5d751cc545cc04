// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestInHand: case 113: what people have in hand in the place of a report is read, or the
// error says what it is.
func TestInHand(t *testing.T) {
	e, err := evidence.Parse(evidencetest.New().Encode(t))
	if err != nil {
		t.Fatal(err)
	}
	report := e.Report.Bytes
	b64 := base64.StdEncoding.EncodeToString(report)
	response := make([]byte, snp.ResponseSize)
	binary.LittleEndian.PutUint32(response[4:], snp.ReportSize)
	copy(response[snp.ResponseHeader:], report)
	refused := bytes.Clone(response)
	refused[0] = 0x16
	inJSON := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	lines := func(s string) string { // as base64 and xxd -p break them
		var out strings.Builder
		for len(s) > 60 {
			out.WriteString(s[:60] + "\n")
			s = s[60:]
		}
		return out.String() + s + "\n"
	}
	hcl := append([]byte("HCLA"), make([]byte, 2600)...)
	crl := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte{0x30, 0}})
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificates[0]})
	thim := inJSON(map[string]string{"vcekCert": string(leaf), "certificateChain": string(leaf), "tcbm": "DB18000000000004"})
	virtee := inJSON(map[string]any{"version": 2, "guest_svn": 0, "report_data": make([]int, 64), "measurement": make([]int, 48)})
	for name, c := range map[string]struct {
		content []byte
		says    string // "": it is read
	}{
		"report":                 {report, ""},
		"base64":                 {[]byte(b64), ""},
		"base64 in lines":        {[]byte(lines(b64)), ""},
		"base64 of URLs":         {[]byte(base64.RawURLEncoding.EncodeToString(report)), ""},
		"base64 with a mark":     {[]byte("\xef\xbb\xbf" + b64), ""},
		"hexadecimal":            {[]byte(lines(hex.EncodeToString(report))), ""},
		"HEXADECIMAL":            {[]byte("0x" + strings.ToUpper(hex.EncodeToString(report))), ""},
		"response":               {response, ""},
		"response in base64":     {[]byte(base64.StdEncoding.EncodeToString(response)), ""},
		"TSM":                    {inJSON(map[string]string{"provider": "sev_guest", "outblob": b64, "auxblob": ""}), ""},
		"TSM of Go":              {inJSON(map[string]string{"Provider": "sev_guest", "OutBlob": b64}), ""},
		"an attester's":          {inJSON(map[string]string{"attestation_report": b64}), ""},
		"two reports":            {inJSON(map[string]string{"report": b64, "quote": b64}), "a JSON object"},
		"refusal of the host":    {refused, "the firmware's response"},
		"HCL blob":               {hcl, "HCL blob"},
		"HCL blob in base64":     {[]byte(base64.StdEncoding.EncodeToString(hcl)), "HCL blob, which the paravisor of an Azure machine wraps a report in (agentctl: --azure-hcl), in base64"},
		"virtee":                 {virtee, "virtee's tools"},
		"Trustee":                {inJSON(map[string]any{"attestation_report": json.RawMessage(virtee), "cert_chain": []int{}}), "Trustee"},
		"THIM":                   {thim, "metadata service (THIM)"},
		"certificate":            {e.Certificates[0], "a certificate in DER"},
		"PEM":                    {leaf, "certificates in PEM"},
		"PEM list":               {crl, "a revocation list in PEM"},
		"key":                    {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1}}), "PRIVATE KEY"},
		"quote":                  {e.Batch.Quote.Attest, "a quote of a TPM"},
		"login page":             {[]byte("<!DOCTYPE html><html>"), "a web page"},
		"evidence":               {evidencetest.New().Encode(t), "a document of agentd"},
		"UTF-16":                 {[]byte("\xff\xfeA\x00"), "UTF-16"},
		"gzip":                   {[]byte("\x1f\x8b\x08\x00"), "gzip"},
		"empty":                  {nil, "an empty file"},
		"half a report":          {report[:600], "600 bytes"},
		"half a report in lines": {[]byte(lines(hex.EncodeToString(report[:600]))), "600 bytes in hexadecimal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(folder(t, map[string][]byte{"report": c.content, "policy.toml": []byte(openPolicy), "root.pem": rootPEM(t)}))
			_, stdout, stderr := agentctl(t, "verify", "--snp-report", "report", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce), "--verbose",
				"--at", "2026-06-01T12:00:00Z", "--trust-test-root-that-vouches-for-no-hardware", "root.pem")
			read := strings.Contains(stdout, "pass  report.decode")
			if read != (c.says == "") || !strings.Contains(stdout+stderr, c.says) {
				t.Errorf("read %v, want %q:\n%s%s", read, c.says, stdout, stderr)
			}
		})
	}
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"THIM":                  {thim, "metadata service (THIM)"},
		"a list":                {crl, "a revocation list in PEM"},
		"a report":              {report, "an attestation report"},
		"a report in base64":    {[]byte(b64), "an attestation report, in base64"},
		"a certificate, base64": {[]byte(base64.StdEncoding.EncodeToString(e.Certificates[0])), "a certificate in DER, in base64"},
		"a login page":          {[]byte("\n<html>"), "a web page"},
		"a key":                 {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), "PRIVATE KEY"},
	} {
		t.Run("certificates/"+name, func(t *testing.T) {
			t.Chdir(folder(t, map[string][]byte{"c": c.content, "e.json": evidencetest.New().Encode(t), "policy.toml": []byte(openPolicy)}))
			code, _, stderr := agentctl(t, "verify", "--certificate", "c", "--policy", "policy.toml", "--nonce", "00112233445566778899aabbccddeeff", "e.json")
			if code == 0 || !strings.Contains(stderr, c.says) || strings.Contains(stderr, "asn1") {
				t.Errorf("exit code %d, want %q:\n%s", code, c.says, stderr)
			}
		})
	}
}

// TestGetCollateral: what lacks is named with the line that fetches it, or where else it is.
func TestGetCollateral(t *testing.T) {
	e, err := evidence.Parse(evidencetest.New().Encode(t))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func([]byte)) []byte {
		b := bytes.Clone(e.Report.Bytes)
		change(b)
		return b
	}
	vlek := with(func(b []byte) { b[0x48] = 1 << 2 })
	masked := with(func(b []byte) { clear(b[0x1a0:0x1e0]) })
	unnamed := with(func(b []byte) { b[0] = 2; clear(b[0x188:0x1a0]); clear(b[0x1f8:0x2a0]) })
	for name, c := range map[string]struct {
		f    verifyFlags
		args []string
		want string
	}{
		"evidence":          {verifyFlags{report: e.Report.Bytes}, []string{"e.json"}, "`agentctl collateral fetch --dir collateral e.json`"},
		"a folder is given": {verifyFlags{report: e.Report.Bytes, appraisalFlags: appraisalFlags{trustFlags: trustFlags{collateral: "my cache"}}}, []string{"it's.json"}, `--dir 'my cache' 'it'\''s.json'`},
		"standard input":    {verifyFlags{report: e.Report.Bytes}, []string{"-"}, "--dir collateral FILE`"},
		"bare report":       {verifyFlags{report: e.Report.Bytes, material: materialFiles{report: "r.bin"}}, nil, "--dir collateral --snp-report r.bin`"},
		"paravisor":         {verifyFlags{report: e.Report.Bytes, material: materialFiles{hcl: "h.bin"}}, nil, "--dir collateral --azure-hcl h.bin`"},
		"VLEK":              {verifyFlags{report: vlek}, []string{"e.json"}, "comes from the cloud alone"},
		"masked":            {verifyFlags{report: masked}, []string{"e.json"}, "masks the chip's id"},
		"no product":        {verifyFlags{report: unnamed}, []string{"e.json"}, "--product milan|genoa|turin"},
		"no report":         {verifyFlags{}, []string{"e.json"}, ""},
	} {
		if got := c.f.getCollateral(c.args); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestDraftFromReport: case 113: a policy is drafted from a bare report in any form, accepts
// that report, and refuses that of another launch.
func TestDraftFromReport(t *testing.T) {
	r := evidencetest.NewReport(snp.Genoa)
	var data [64]byte
	copy(data[:], evidencetest.Nonce)
	report, certificates := r.Make(t, data)
	r.Body = func(b []byte) { b[0x90] ^= 1 }
	other, _ := r.Make(t, data)
	files := map[string][]byte{"report": report, "text": []byte(base64.StdEncoding.EncodeToString(report)), "other": other, "root.pem": rootPEM(t)}
	common := []string{"--at", "2026-06-01T12:00:00Z", "--trust-test-root-that-vouches-for-no-hardware", "root.pem"}
	for i, der := range certificates {
		name := string('a' + rune(i))
		files[name] = der
		common = append(common, "--certificate", name)
	}
	t.Chdir(folder(t, files))
	verify := func(file string) int {
		code, _, _ := agentctl(t, append([]string{"verify", "--policy", "policy.toml", "--snp-report", file, "--nonce", hex.EncodeToString(evidencetest.Nonce)}, common...)...)
		return code
	}
	for _, from := range []string{"report", "text"} {
		if code, stdout, stderr := agentctl(t, append([]string{"policy", "init", "--from", from, "--out", "policy.toml"}, common...)...); code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s", from, code, stdout, stderr)
		}
		if code := verify("text"); code != 0 {
			t.Errorf("%s: the policy refuses its own machine: exit code %d", from, code)
		}
		if code := verify("other"); code != 5 {
			t.Errorf("%s: another launch: exit code %d, want 5", from, code)
		}
	}
	if code, _, stderr := agentctl(t, append([]string{"policy", "init", "--from", "report", "--audience", "x"}, common...)...); code != exitMisuse || !strings.Contains(stderr, "bare report") {
		t.Errorf("with an audience: exit code %d\n%s", code, stderr)
	}
}
