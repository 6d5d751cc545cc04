// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"fmt"
	"strings"
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
	{id: FirmwareDecode, name: "case 32 garbage", root: firmwareRoot, recipe: booted(func([]evidencetest.FirmwareEvent) []byte { return []byte("no log") })},
	{id: FirmwareDecode, name: "case 32 PCR 99", root: firmwareRoot, recipe: booted(func(e []evidencetest.FirmwareEvent) []byte {
		return evidencetest.FirmwareLog(append(e[:len(e):len(e)], evidencetest.FirmwareEvent{PCR: 99, Digest: e[0].Digest})...)
	})},
	{id: FirmwareDecode, name: "case 30 cut off", root: firmwareRoot, recipe: booted(func(e []evidencetest.FirmwareEvent) []byte {
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

// unusable are firmware's logs as hosts have them, none of which this reader takes, each with what
// its error says.
func unusable() map[string]struct {
	log  []byte
	says string
} {
	type bad = struct {
		log  []byte
		says string
	}
	e := evidencetest.Firmware
	whole := evidencetest.FirmwareLog(e...)
	noAction := bytes.Clone(whole)
	copy(noAction[len(evidencetest.FirmwareLog()):], "\xff\xff\xff\xff\x03\x00\x00\x00") // pcrIndex, eventType
	fewer := bytes.Clone(whole)
	at := len(evidencetest.FirmwareLog()) + 8 // the count of digests of the first event
	fewer[at] = 0
	return map[string]bad{
		"PCR 0xffffffff in EV_NO_ACTION": {noAction, "PCR 4294967295"},
		"fewer digests than announced":   {fewer, "event 1 at byte"},
		"padded with zeros":              {append(bytes.Clone(whole), make([]byte, 512)...), "event 3 at byte"},
		"padded with ones":               {append(bytes.Clone(whole), bytes.Repeat([]byte{0xff}, 512)...), "event 3 at byte"},
		"cut off":                        {whole[:len(whole)-1], "event 2 at byte"},
		"of TPM 1.2":                     {append(make([]byte, 28), 1, 0, 0, 0, 0), "not of TPM 1.2"},
		"garbage":                        {[]byte("no log"), "event 0 at byte 0"},
	}
}

// TestUnusableFirmwareLog: the host's firmware wrote its log, which is not signed. One that does
// not parse makes no evidence forged: if the policy does not ask for it, the evidence is
// accepted, and the appraisal says what is wrong and at which place. If it does, something is
// missing that may be fetched anew. Case 112.
func TestUnusableFirmwareLog(t *testing.T) {
	for name, c := range unusable() {
		for _, required := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, required %v", name, required), func(t *testing.T) {
				r := evidencetest.New()
				r.Booted()
				r.FirmwareLog = c.log
				o, root := baseOptions(t), ""
				if required {
					root = firmwareRoot
				}
				o.Policy = mustPolicy(t, makePolicy(root, ""))
				a, err := appraiseEvidence(r.Encode(t), o)
				if err != nil {
					t.Fatal(err)
				}
				decode := a.Check(FirmwareDecode)
				if !strings.Contains(decode.Sentence, c.says) {
					t.Errorf("it says %q, want %q", decode.Sentence, c.says)
				}
				_, refused := a.Claims()
				switch {
				case required && (refused == nil || decode.Verdict != Fail || a.ExitCode() != 3):
					t.Errorf("required: %v, exit code %d, %+v", refused, a.ExitCode(), decode)
				case !required && (refused != nil || decode.Verdict != NotAsserted || decode.Required):
					t.Errorf("optional: %v, %+v", refused, decode)
				}
			})
		}
	}
}

// TestFirmwareLogOfSHA1: a log that only has SHA-1 explains nothing that a policy may rely on, and
// makes nothing forged. Case 112.
func TestFirmwareLogOfSHA1(t *testing.T) {
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x04, 0, 20, 0, 0)
	log := append(make([]byte, 28), byte(len(spec)), 0, 0, 0)
	log[4] = 3 // EV_NO_ACTION
	log = append(append(log, spec...), 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x04, 0)
	log = append(append(log, make([]byte, 20)...), 0, 0, 0, 0)
	for root, want := range map[string]int{"": 0, firmwareRoot: 5} {
		r := evidencetest.New()
		r.Booted()
		r.FirmwareLog = log
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy(root, ""))
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil {
			t.Fatal(err)
		}
		if a.ExitCode() != want || a.Check(FirmwareDecode).Verdict != Pass {
			t.Errorf("%q: exit code %d, want %d\n%s", root, a.ExitCode(), want, explain(a))
		}
	}
}
