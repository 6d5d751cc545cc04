// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// spelled is a report member by member, as virtee's library prints one.
func spelled(b []byte) map[string]any {
	le := binary.LittleEndian
	list := func(from, to int) any {
		out := []int{}
		for _, x := range b[from:to] {
			out = append(out, int(x))
		}
		return out
	}
	version := le.Uint32(b)
	turin := version >= 3 && b[0x188] >= 0x1a
	tcb := func(at int) any {
		t := b[at : at+8]
		if turin {
			return map[string]any{"fmc": t[0], "bootloader": t[1], "tee": t[2], "snp": t[3], "microcode": t[7]}
		}
		return map[string]any{"fmc": nil, "bootloader": t[0], "tee": t[1], "snp": t[6], "microcode": t[7]}
	}
	firmware := func(at int) any { return map[string]any{"major": b[at+2], "minor": b[at+1], "build": b[at]} }
	out := map[string]any{
		"version": version, "guest_svn": le.Uint32(b[4:]), "policy": le.Uint64(b[8:]), "family_id": list(0x10, 0x20), "image_id": list(0x20, 0x30),
		"vmpl": le.Uint32(b[0x30:]), "sig_algo": le.Uint32(b[0x34:]), "current_tcb": tcb(0x38), "plat_info": le.Uint64(b[0x40:]), "key_info": le.Uint32(b[0x48:]),
		"report_data": list(0x50, 0x90), "measurement": list(0x90, 0xc0), "host_data": list(0xc0, 0xe0), "id_key_digest": list(0xe0, 0x110),
		"author_key_digest": list(0x110, 0x140), "report_id": list(0x140, 0x160), "report_id_ma": list(0x160, 0x180), "reported_tcb": tcb(0x180),
		"cpuid_fam_id": nil, "cpuid_mod_id": nil, "cpuid_step": nil, "chip_id": list(0x1a0, 0x1e0), "committed_tcb": tcb(0x1e0),
		"current": firmware(0x1e8), "committed": firmware(0x1ec), "launch_tcb": tcb(0x1f0),
		"signature": map[string]any{"r": list(0x2a0, 0x2e8), "s": list(0x2e8, 0x330)},
	}
	if version >= 3 {
		out["cpuid_fam_id"], out["cpuid_mod_id"], out["cpuid_step"] = b[0x188], b[0x189], b[0x18a]
	}
	if version >= 4 {
		out["launch_mit_vector"], out["current_mit_vector"] = le.Uint64(b[0x1f8:]), le.Uint64(b[0x200:])
	}
	return out
}

// TestSpelledReport: a report that is spelled out is read as the bytes that the processor signed. With
// a member less, one more, or another version it is not read, since something could be left out.
func TestSpelledReport(t *testing.T) {
	e, err := evidence.Parse(evidencetest.New().Encode(t))
	if err != nil {
		t.Fatal(err)
	}
	reports := map[string][]byte{"simulated": e.Report.Bytes}
	for version := byte(2); version <= 4; version++ {
		b := bytes.Clone(e.Report.Bytes)
		if b[0] = version; version == 2 {
			clear(b[0x188:0x18b])
		}
		if version < 4 {
			clear(b[0x1f8:0x208])
		}
		reports["version "+string('0'+version)] = b
	}
	for name, b := range reports {
		readSpelled(t, name, b)
	}
	doc := spelled(e.Report.Bytes)
	for name := range doc {
		less := maps.Clone(doc)
		delete(less, name)
		null := maps.Clone(doc)
		null[name] = nil
		for _, d := range []map[string]any{less, null, {"attestation_report": less}} {
			if reportIn(jsonText(t, d), 0) != nil {
				t.Errorf("read without %s", name)
			}
		}
	}
	for name, change := range map[string]func(map[string]any){
		"one more":            func(d map[string]any) { d["alias_check"] = 1 },
		"one more in a TCB":   func(d map[string]any) { d["launch_tcb"].(map[string]any)["other"] = 1 },
		"one more in it":      func(d map[string]any) { d["current"].(map[string]any)["other"] = 1 },
		"in the signature":    func(d map[string]any) { d["signature"].(map[string]any)["algorithm"] = 1 },
		"version 1":           func(d map[string]any) { d["version"] = 1 },
		"version 6":           func(d map[string]any) { d["version"] = 6 },
		"not a byte":          func(d map[string]any) { d["host_data"] = slices.Repeat([]int{256}, 32) },
		"negative":            func(d map[string]any) { d["host_data"] = slices.Repeat([]int{-1}, 32) },
		"a byte more":         func(d map[string]any) { d["host_data"] = make([]int, 33) },
		"a byte less":         func(d map[string]any) { d["measurement"] = make([]int, 47) },
		"text":                func(d map[string]any) { d["measurement"] = strings.Repeat("00", 48) },
		"a TCB of 256":        func(d map[string]any) { d["current_tcb"].(map[string]any)["snp"] = 256 },
		"too large a version": func(d map[string]any) { d["version"] = uint64(1)<<32 + 3 },
	} {
		d := spelled(e.Report.Bytes)
		if change(d); reportIn(jsonText(t, d), 0) != nil {
			t.Errorf("%s: read", name)
		}
	}
	// A change of what is signed is found by the signature.
	t.Chdir(folder(t, map[string][]byte{"policy.toml": []byte(openPolicy), "root.pem": rootPEM(t), "vcek": e.Certificates[0], "ask": e.Certificates[1]}))
	for check, change := range map[string]func(map[string]any){"": func(map[string]any) {}, "report.signature": func(d map[string]any) { d["guest_svn"] = 77 }} {
		d := spelled(e.Report.Bytes)
		change(d)
		if err := os.WriteFile("report.json", jsonText(t, d), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stdout, stderr := agentctl(t, "verify", "--snp-report", "report.json", "--certificate", "vcek", "--certificate", "ask", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce), "--verbose",
			"--at", "2026-06-01T12:00:00Z", "--trust-test-root-that-vouches-for-no-hardware", "root.pem")
		if failed := strings.Contains(stdout, "FAIL  report.signature"); !strings.Contains(stdout, "pass  report.decode") || failed != (check != "") {
			t.Errorf("%q: %s%s", check, stdout, stderr)
		}
	}
}

// readSpelled spells a report out as both tools do, and checks that it is read as it was.
func readSpelled(t *testing.T, name string, b []byte) {
	t.Helper()
	doc := spelled(b)
	for _, text := range [][]byte{jsonText(t, doc), jsonText(t, map[string]any{"attestation_report": doc, "cert_chain": []any{map[string]any{"cert_type": "VCEK", "data": []int{1}}}})} {
		if got := reportIn(text, 0); !bytes.Equal(got, b) {
			t.Errorf("%s: read as %x, want %x", name, got, b)
		}
	}
}

// TestSpelledRecordings: reports of real processors survive being spelled out.
func TestSpelledRecordings(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectors.Dir(t), "*", "*.bin"))
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snp.ParseReport(b); err == nil && len(b) == snp.ReportSize {
			readSpelled(t, f, b)
			read++
		}
	}
	if read < 5 {
		t.Errorf("%d recordings", read)
	}
}

func jsonText(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzSpelledReport: what is read has the size of a report, whatever else is in the text.
func FuzzSpelledReport(f *testing.F) {
	for _, v := range []byte{2, 3, 4, 5} {
		b := make([]byte, snp.ReportSize)
		b[0] = v
		text, err := json.Marshal(spelled(b))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add([]byte(`{"attestation_report":` + string(text) + `}`))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b := reportOfMembers(text)
		if b == nil {
			return
		}
		if len(b) != snp.ReportSize {
			t.Fatalf("%d bytes", len(b))
		}
		reportIn(text, 0)
	})
}
