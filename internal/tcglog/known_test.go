// SPDX-License-Identifier: Apache-2.0

package tcglog_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/pcr"
)

var allBanks = []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512}

// recorded returns the recorded firmware log of a file.
func recorded(t *testing.T, file string) *tcglog.Log {
	t.Helper()
	b := vectors.Read(t, file)
	if strings.HasSuffix(file, ".b64") {
		var err error
		if b, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(b)), "")); err != nil {
			t.Fatal(err)
		}
	}
	l, err := tcglog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestKnownByHand: zero and the separator have their names, in each bank (case 102). The
// values are written here by hand.
func TestKnownByHand(t *testing.T) {
	separator, err := hex.DecodeString("ff5b9d73dad70963")
	if err != nil {
		t.Fatal(err)
	}
	if sum := pcr.SHA256.Sum([]byte("os-separator")); !bytes.HasPrefix(sum, separator) {
		t.Fatalf("SHA-256 of the separator is %x", sum)
	}
	for _, bank := range allBanks {
		zero := make([]byte, bank.Size())
		one := bank.Sum(zero, bank.Sum([]byte("os-separator")))
		two := bank.Sum(one, bank.Sum([]byte("os-separator")))
		for index := range uint32(16) {
			want := "after one os-separator of systemd"
			if index == 8 || index == 10 || index == 11 || index == 15 { // systemd never extends these by it
				want = ""
			}
			for _, c := range []struct {
				value []byte
				want  string
			}{{zero, "zero"}, {one, want}, {two, ""}, {zero[1:], ""}, {nil, ""}, {bank.Sum(zero), ""}} {
				if got := tcglog.Known(bank, index, c.value); got != c.want {
					t.Errorf("PCR %d of bank %s, %x: %q, want %q", index, bank, c.value, got, c.want)
				}
			}
		}
	}
	if got := tcglog.Known(0x12, 13, nil); got != "" {
		t.Errorf("a bank that this program does not know: %q", got)
	}
	if one := pcr.SHA256.Sum(make([]byte, 32), pcr.SHA256.Sum([]byte("os-separator"))); !strings.HasPrefix(hex.EncodeToString(one), "3345a4e7857aa5ae") {
		t.Errorf("after the separator: %x", one)
	}
}

// TestKnownRecorded: every recorded firmware log leaves zero in PCR 13, and in PCR 14 a
// value that has the name of the shim, in each bank of the log (case 102). In another PCR
// the value has no name, and with one byte changed neither.
func TestKnownRecorded(t *testing.T) {
	for file, shim := range map[string]string{
		recordings + "cos-93-amd-sev.bin":         "",
		recordings + "cos-101-amd-sev.bin":        "shim of Container-Optimized OS 101",
		recordings + "eventlogwithsp800155.bin":   "shim of Container-Optimized OS",
		recordings + "rhel8-uefi.bin":             "shim of Red Hat Enterprise Linux 8",
		recordings + "ubuntu-2404-amd-sevsnp.bin": "shim of Ubuntu",
		"keylime_keylime/mb_log.b64":              "shim of CentOS 8",
	} {
		l := recorded(t, file)
		values := l.Replay()
		for _, bank := range l.Banks {
			if _, extended := values[bank][13]; extended {
				t.Errorf("%s extends PCR 13", file)
			}
			left, extended := values[bank][14]
			if extended != (shim != "") {
				t.Fatalf("%s: extends PCR 14: %v", file, extended)
			}
			if !extended {
				continue
			}
			want := "after " + shim + " without MOKs"
			if got := tcglog.Known(bank, 14, left); got != want {
				t.Errorf("%s, bank %s: %q, want %q", file, bank, got, want)
			}
			if got := tcglog.Known(bank, 14, bank.Sum(left, bank.Sum([]byte("os-separator")))); got != want+", and one os-separator of systemd" {
				t.Errorf("%s, bank %s, after a separator: %q", file, bank, got)
			}
			if got := tcglog.Known(bank, 13, left); got != "" {
				t.Errorf("%s: in PCR 13: %q", file, got)
			}
			changed := bytes.Clone(left)
			changed[0] ^= 1
			if got := tcglog.Known(bank, 14, changed); got != "" {
				t.Errorf("%s, one bit changed: %q", file, got)
			}
		}
	}
}

// TestKnownAzure: the PCRs that Azure's machines quoted have names.
func TestKnownAzure(t *testing.T) {
	for _, file := range []string{"v0", "genoa"} {
		b := vectors.Read(t, "confidential-containers_trustee/extracted_evidence-"+file+".pcrs.bin")
		if len(b) != 24*32 {
			t.Fatalf("%d bytes of PCRs", len(b))
		}
		for index, want := range map[int]string{13: "zero", 14: "after shim of Ubuntu without MOKs"} {
			if got := tcglog.Known(pcr.SHA256, uint32(index), b[32*index:][:32]); got != want {
				t.Errorf("%s, PCR %d: %q, want %q", file, index, got, want)
			}
		}
	}
}

// TestShimLists: a list of shim whose content is recorded has the digests of that content
// in every bank: the empty list, and those with the certificate that shim measured into
// PCR 7 when it used it.
func TestShimLists(t *testing.T) {
	owner := []byte{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}
	list := func(kind string, data []byte) []byte { // EFI_SIGNATURE_LIST of one entry
		b, err := hex.DecodeString(kind)
		if err != nil {
			t.Fatal(err)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(28+16+len(data)))
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(16+len(data)))
		return append(append(b, owner...), data...)
	}
	const typeSHA256, typeX509 = "2616c4c14c509240aca941f936934328", "a159c0a5e494a74a87b5ab155c2bf072"
	empty := list(typeSHA256, make([]byte, 32))
	check := func(name string, contents ...[]byte) {
		t.Helper()
		for _, bank := range allBanks {
			value := make([]byte, bank.Size())
			for _, c := range contents {
				value = bank.Sum(value, bank.Sum(c))
			}
			if got := tcglog.Known(bank, 14, value); got != "after shim of "+name+" without MOKs" {
				t.Errorf("%s, bank %s: %q", name, bank, got)
			}
		}
	}
	check("Container-Optimized OS 101", empty, empty)
	check("Container-Optimized OS", empty, empty, []byte{1})
	for file, name := range map[string]string{recordings + "rhel8-uefi.bin": "Red Hat Enterprise Linux 8", "keylime_keylime/mb_log.b64": "CentOS 8"} {
		found := false
		for _, e := range recorded(t, file).Events {
			if content, ok := variable(e, "Shim"); ok {
				check(name, list(typeX509, content), empty)
				found = true
			}
		}
		if !found {
			t.Errorf("%s: no event of shim's certificate", file)
		}
	}
}

// variable returns the content of a UEFI_VARIABLE_DATA in an EV_EFI_VARIABLE_AUTHORITY
// event (Platform Firmware Profile, section 10.2.6), if it is of this variable.
func variable(e tcglog.Event, name string) ([]byte, bool) {
	const head = 16 + 8 + 8 // GUID, length of the name in characters, length of the content
	if e.PCR != 7 || e.Type != 0x800000e0 || len(e.Data) < head {
		return nil, false
	}
	characters := binary.LittleEndian.Uint64(e.Data[16:])
	if characters > uint64(len(e.Data)-head)/2 {
		return nil, false
	}
	spelled := strings.ReplaceAll(string(e.Data[head:head+2*characters]), "\x00", "")
	return e.Data[head+2*characters:], spelled == name
}

// TestLeads: a log explains the value that it leads to, and the one after a separator.
func TestLeads(t *testing.T) {
	bank := pcr.SHA256
	to := bytes.Repeat([]byte{7}, 32)
	replayed := pcr.Values{}
	replayed.Set(bank, 14, to)
	replayed.Set(bank, 15, to)
	separated := bank.Sum(to, bank.Sum([]byte("os-separator")))
	for _, c := range []struct {
		index uint32
		value []byte
		want  string
	}{
		{14, to, "the firmware's log leads to it"},
		{14, separated, "the firmware's log leads to it, with one os-separator of systemd"},
		{15, to, "the firmware's log leads to it"},
		{15, separated, ""},
		{14, bank.Sum(separated, bank.Sum([]byte("os-separator"))), ""},
		{13, to, ""},
		{13, make([]byte, 32), ""},
		{14, nil, ""},
	} {
		if got := tcglog.Leads(replayed, bank, c.index, c.value); got != c.want {
			t.Errorf("PCR %d, %x: %q, want %q", c.index, c.value, got, c.want)
		}
	}
}

var update = flag.Bool("update", false, "write the values of docs/start-values.md anew")

// TestKnownIsDocumented compares docs/start-values.md with the values that have names.
func TestKnownIsDocumented(t *testing.T) {
	const file, begin, end = "../../docs/start-values.md", "<!-- values: begin, written by go test ./internal/tcglog -run TestKnownIsDocumented -update -->\n", "<!-- values: end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s does not contain the marks", file)
	}
	var b strings.Builder
	for _, bank := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		fmt.Fprintf(&b, "\n| name | PCRs | value in bank %s |\n|---|---|---|\n", bank)
		for _, k := range tcglog.KnownValues(bank) {
			pcrs := strings.Trim(strings.ReplaceAll(fmt.Sprint(k.PCRs), " ", ", "), "[]")
			if len(k.PCRs) == 0 {
				pcrs = "all"
			}
			fmt.Fprintf(&b, "| %s | %s | `%x` |\n", k.Name, pcrs, k.Value)
			for _, index := range k.PCRs {
				if name := tcglog.Known(bank, index, k.Value); name != k.Name {
					t.Errorf("PCR %d of bank %s: the value of %q has the name %q", index, bank, k.Name, name)
				}
			}
		}
	}
	b.WriteString("\n")
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != b.String() {
		t.Errorf("%s does not have the values of this package: run go test ./internal/tcglog -run %s -update", file, t.Name())
	}
}
