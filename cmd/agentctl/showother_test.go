// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestShowOther: case 113: show draws what other systems record, cut short too, and says that
// nothing of it was verified.
func TestShowOther(t *testing.T) {
	recipe := evidencetest.New()
	recipe.Booted()
	e, err := evidence.Parse(recipe.Encode(t))
	if err != nil {
		t.Fatal(err)
	}
	set := evidencetest.NewParavisor().Build(t)
	entry := append(snp.GUIDVCEK[:len(snp.GUIDVCEK):len(snp.GUIDVCEK)], make([]byte, 32)...)
	binary.LittleEndian.PutUint32(entry[16:], 48)
	binary.LittleEndian.PutUint32(entry[20:], uint32(len(e.Certificates[0])))
	table := append(entry, e.Certificates[0]...)
	unknown := tpmwire.ServiceGUID([]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"))
	services := evidencetest.Services(tpmwire.Service{GUID: tpmwire.ServiceVTPM, Data: evidencetest.EK('e')},
		tpmwire.Service{GUID: tpmwire.ServiceUEFI, Data: []byte{0, 0, 0, 0, 0xfa, 0xff, 0xff, 0xff}}, tpmwire.Service{GUID: unknown, Data: []byte("\x1b[2")})
	junk := evidencetest.Services(tpmwire.Service{GUID: tpmwire.ServiceVTPM, Data: []byte("\x1b[")}, tpmwire.Service{GUID: tpmwire.ServiceUEFI, Data: []byte("abc")})
	hostile := bytes.Clone(set.HCL)
	copy(hostile[hclData:], "{\"user-data\":\"\x1b[2J\"")
	for name, c := range map[string]struct {
		content []byte
		says    []string
	}{
		"report":              {e.Report.Bytes, []string{"attestation report", "launch measurement", "as the guest chose it"}},
		"report in base64":    {[]byte(base64.StdEncoding.EncodeToString(e.Report.Bytes)), []string{"launch measurement"}},
		"report with a table": {append(bytes.Clone(e.Report.Bytes), table...), []string{"launch measurement", "VCEK", "SEV-VCEK"}},
		"table":               {table, []string{"certificate table of a host", "VCEK", "SEV-VCEK"}},
		"paravisor":           {set.HCL, []string{"paravisor (HCL)", "launch measurement", "runtime data", `key "HCLAkPub"`}},
		"hostile paravisor":   {hostile, []string{"cannot be read"}},
		"manifest":            {evidencetest.Manifest(evidencetest.EK('e'), evidencetest.ECCKey('k').Public()), []string{"of an SVSM's vTPM", "version 1", "endorsement key 000b", "attestation key 000b"}},
		"manifest, version 0": {evidencetest.EK('e'), []string{"of an SVSM's vTPM", "version 0", "endorsement key 000b"}},
		"all services":        {services, []string{"all services of an SVSM", "c476f1eb-0123-45a5-9641-b4e7dde5bfe3, vTPM", "endorsement key 000b", "variables of UEFI", "secure boot is enabled", "unknown meaning 0xfffffff8", "04030201-0605-0807-090a-0b0c0d0e0f10, 3 bytes of a kind without a name"}},
		"services with junk":  {junk, []string{"all services of an SVSM", "vTPM, 2 bytes", "variables of UEFI, 3 bytes", "cannot be read"}},
		"services, torn":      {services[:len(services)-1], []string{"all services of an SVSM", "cannot be read"}},
		"no services":         {evidencetest.Services(), []string{"no services"}},
		"report and manifest": {append(bytes.Clone(e.Report.Bytes), services...), []string{"attestation report of SEV-SNP, and manifest of all", "launch measurement", "should be SHA-512", "endorsement key 000b"}},
		"quote":               {set.Quote, []string{"quote of a TPM", "over the PCRs sha256:", "qualifying data"}},
		"firmware log":        {e.FirmwareLog, []string{"event log of the firmware", "PCR 0, ", "leads to sha256"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(folder(t, map[string][]byte{"f": c.content}))
			code, stdout, stderr := agentctl(t, "show", "f")
			if code != 0 || !strings.Contains(stdout, "NOT VERIFIED") || !strings.Contains(stdout, "Nothing above was verified") || steers(stdout) {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
			for _, part := range c.says {
				if !strings.Contains(stdout, part) {
					t.Errorf("does not say %q:\n%s", part, stdout)
				}
			}
			if code, stdout, _ := agentctl(t, "show", "--json", "f"); code != exitMisuse || stdout != "" {
				t.Errorf("--json: exit code %d\n%s", code, stdout)
			}
		})
	}
	for name, content := range map[string][]byte{"a certificate in DER": e.Certificates[0], "a web page": []byte("<html>"), "an empty file": nil} {
		t.Chdir(folder(t, map[string][]byte{"f": content}))
		if code, stdout, stderr := agentctl(t, "show", "f"); code != exitBinding || stdout != "" || !strings.Contains(stderr, name) {
			t.Errorf("%s: exit code %d\n%s%s", name, code, stdout, stderr)
		}
	}
}
