// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
)

// booted gives the recipe a firmware's log, and lets f replace it.
func booted(f func([]evidencetest.FirmwareEvent) []byte) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		r.Booted()
		if f != nil {
			r.FirmwareLog = f(evidencetest.Firmware)
		}
	}
}

const firmwareRoot = `firmware_log = "required"`

var firmwareMutations = []mutation{
	{id: FirmwareDecode, name: "case 32 garbage", recipe: booted(func([]evidencetest.FirmwareEvent) []byte { return []byte("no log") })},
	{id: FirmwareDecode, name: "case 32 PCR 99", recipe: booted(func(e []evidencetest.FirmwareEvent) []byte {
		return evidencetest.FirmwareLog(append(e[:len(e):len(e)], evidencetest.FirmwareEvent{PCR: 99, Digest: e[0].Digest})...)
	})},
	{id: FirmwareDecode, name: "case 30 cut off", recipe: booted(func(e []evidencetest.FirmwareEvent) []byte {
		b := evidencetest.FirmwareLog(e...)
		return b[:len(b)-1]
	})},
	{id: PolicyFirmwareLog, name: "absent", root: firmwareRoot},
	{id: PolicyFirmwareLog, name: "case 28 digest changed", root: firmwareRoot, recipe: booted(func(e []evidencetest.FirmwareEvent) []byte {
		return evidencetest.FirmwareLog(e[0], evidencetest.FirmwareEvent{PCR: 4, Digest: e[0].Digest})
	})},
	{id: PolicyFirmwareLog, name: "case 28 dropped", root: firmwareRoot, recipe: booted(func(e []evidencetest.FirmwareEvent) []byte { return evidencetest.FirmwareLog(e[0]) })},
	{id: PolicyFirmwareLog, name: "case 28 inserted", root: firmwareRoot, recipe: booted(func(e []evidencetest.FirmwareEvent) []byte { return evidencetest.FirmwareLog(e[0], e[0], e[1]) })},
	{id: PolicyFirmwareLog, name: "empty, and the only PCR is that of our own log", root: firmwareRoot + "\nlog_pcr = 5", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.LogPCR = 5
		r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{5}}}
		r.FirmwareLog = evidencetest.FirmwareLog()
	}},
	{id: PolicyFirmwareLog, name: "a bare report has none", root: bareRoot + "\n" + firmwareRoot, raw: bare(nil, nil)},
}

// TestFirmwareLog: each quoted PCR is said to be explained by what explains it.
func TestFirmwareLog(t *testing.T) {
	pin := func(index string, value byte) string {
		return "[[pcr]]\nbank = \"sha256\"\nindex = " + index + "\nvalues = [\"" + repeated(value, 32) + "\"]\n"
	}
	for _, c := range []struct {
		name, root, tables string
		recipe             func(*testing.T, *evidencetest.Recipe)
		want               map[uint32]Explanation // of bank SHA-256
	}{
		{"whole", firmwareRoot, "", booted(nil), map[uint32]Explanation{0: ByFirmware, 4: ByFirmware, 13: ByLog}},
		{"no log", "", "", func(*testing.T, *evidencetest.Recipe) {}, map[uint32]Explanation{0: Unexplained, 4: Unexplained, 13: ByLog}},
		{"a log of one PCR", "", "", booted(func(e []evidencetest.FirmwareEvent) []byte { return evidencetest.FirmwareLog(e[0]) }),
			map[uint32]Explanation{0: ByFirmware, 4: Unexplained, 13: ByLog}},
		{"pinned in place of explained", firmwareRoot, pin("4", 0x14), func(t *testing.T, r *evidencetest.Recipe) {
			value := r.PCRs[pcr.SHA256][4]
			booted(func(e []evidencetest.FirmwareEvent) []byte { return evidencetest.FirmwareLog(e[0]) })(t, r)
			r.PCRs.Set(pcr.SHA256, 4, value)
		}, map[uint32]Explanation{0: ByFirmware, 4: ByPolicy, 13: ByLog}},
		{"our own log before the firmware's", "", "", booted(func(e []evidencetest.FirmwareEvent) []byte {
			return evidencetest.FirmwareLog(e[0], e[1], evidencetest.FirmwareEvent{PCR: 13, Digest: e[0].Digest})
		}), map[uint32]Explanation{0: ByFirmware, 4: ByFirmware, 13: ByLog}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			c.recipe(t, r)
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy(c.root, c.tables))
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := a.Claims()
			if err != nil {
				t.Fatal(err, explain(a))
			}
			for _, p := range claims.PCRs {
				if want := c.want[p.Index]; p.Bank == "sha256" && p.Explained != want {
					t.Errorf("PCR %d is explained by %s, want %s", p.Index, p.Explained, want)
				}
			}
		})
	}
}

// TestFirmwareLogUnderSHA1: collisions can be made, so that a value which the firmware's log
// leads to in that bank is not explained by it.
func TestFirmwareLogUnderSHA1(t *testing.T) {
	a := beginWith(t, baseOptions(t))
	a.firmware, a.batch = pcr.Values{}, &quote.Quote{Values: pcr.Values{}}
	for _, bank := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256} {
		value := make([]byte, bank.Size())
		a.firmware.Set(bank, 4, value)
		a.batch.Values.Set(bank, 4, value)
		if got, want := a.explained(bank, 4), map[pcr.Algorithm]Explanation{pcr.SHA1: Unexplained, pcr.SHA256: ByFirmware}[bank]; got != want {
			t.Errorf("PCR 4 of %s is explained by %s, want %s", bank, got, want)
		}
	}
}
