// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/pcr"
)

// imaPolicy lists one file, whatever its path.
var imaPolicy = "[[ima_files]]\ndigests = [\"" + imaDigest("true") + "\"]\n"

// imaDigest returns the digest of content as a policy names it.
func imaDigest(content string) string {
	return "sha256:" + hex.EncodeToString(pcr.SHA256.Sum([]byte(content)))
}

// imaKeys is a key for policies, as PEM.
var imaKeys = string(pemOf(letterKey('i')))

// measured makes evidence of a machine whose kernel measured what f returns, of what it measured
// at first: the PCRs of the boot, and one file.
func measured(f func(first [][]byte) [][]byte) (func(*testing.T, *evidencetest.Recipe), func(*testing.T, *options)) {
	all := new([][]byte)
	recipe := func(_ *testing.T, r *evidencetest.Recipe) {
		boot(r)
		*all = firstMeasured(r)
		if f != nil {
			*all = f(*all)
		}
		for _, bank := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384} {
			r.PCRs.Set(bank, 10, evidencetest.IMAValue(bank, *all...))
		}
	}
	return recipe, func(t *testing.T, o *options) {
		recipe(t, evidencetest.New()) // options come first
		o.IMAList = bytes.Join(*all, nil)
	}
}

// boot has the machine quote the PCRs of its boot and PCR 10, in two banks.
func boot(r *evidencetest.Recipe) {
	r.Select = pcr.Selection{
		{Algorithm: pcr.SHA256, PCRs: []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13}},
		{Algorithm: pcr.SHA384, PCRs: []uint32{10, 13}},
	}
	for i := range uint32(10) {
		r.PCRs.Set(pcr.SHA256, i, bytes.Repeat([]byte{0x10 + byte(i)}, 32))
	}
}

// firstMeasured is the beginning of every list.
func firstMeasured(r *evidencetest.Recipe) [][]byte {
	return [][]byte{evidencetest.IMAAggregate(r.PCRs), evidencetest.IMAFile("/usr/bin/true", "true")}
}

// imaMutations are lists of the kernel with which one thing is wrong (case 127).
func imaMutations() []mutation {
	var out []mutation
	add := func(m mutation, f func([][]byte) [][]byte, change func(*options)) {
		recipe, opts := measured(f)
		if m.tables == "" {
			m.tables = imaPolicy
		}
		given := m.recipe
		m.recipe = func(t *testing.T, r *evidencetest.Recipe) {
			recipe(t, r)
			if given != nil {
				given(t, r)
			}
		}
		m.opts = func(t *testing.T, o *options) {
			opts(t, o)
			if change != nil {
				change(o)
			}
		}
		out = append(out, m)
	}
	edit := func(f func([]byte) []byte) func(*options) {
		return func(o *options) { o.IMAList = f(bytes.Clone(o.IMAList)) }
	}
	another := func(e ...[]byte) func([][]byte) [][]byte {
		return func(first [][]byte) [][]byte { return append(first, e...) }
	}
	last := len(evidencetest.IMAFile("/usr/bin/true", "true"))
	add(mutation{id: IMADecode, name: "case 127 path changed", blind: true}, nil, edit(func(b []byte) []byte { b[len(b)-2] = 'x'; return b }))
	add(mutation{id: IMADecode, name: "case 127 cut within an entry", blind: true}, nil, edit(func(b []byte) []byte { return b[:len(b)-1] }))
	add(mutation{id: IMADecode, name: "garbage", blind: true}, nil, edit(func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 100) }))
	add(mutation{id: IMAReplay, name: "case 127 cut at an entry"}, nil, edit(func(b []byte) []byte { return b[:len(b)-last] }))
	add(mutation{id: IMAReplay, name: "an entry removed"}, another(evidencetest.IMAFile("/x", "true")), edit(func(b []byte) []byte {
		x := len(evidencetest.IMAFile("/x", "true"))
		return slices.Delete(b, len(b)-x-last, len(b)-x)
	}))
	add(mutation{id: IMAReplay, name: "case 127 of another boot"}, nil, edit(func(b []byte) []byte {
		return slices.Insert(b, len(b)-last, evidencetest.IMAFile("/y", "true")...)
	}))
	add(mutation{id: IMAReplay, name: "one bank leads elsewhere", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.PCRs.Set(pcr.SHA384, 10, bytes.Repeat([]byte{1}, 48))
	}}, nil, nil)
	add(mutation{id: IMAReplay, name: "PCR 10 is not quoted", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 13}}}
	}}, nil, nil)
	add(mutation{id: PolicyIMA, name: "there is no list"}, nil, func(o *options) { o.IMAList = nil })
	add(mutation{id: PolicyIMA, name: "the kernel measured nothing", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.PCRs.Set(pcr.SHA256, 10, make([]byte, 32))
		r.PCRs.Set(pcr.SHA384, 10, make([]byte, 48))
	}}, nil, nil)
	add(mutation{id: PolicyIMA, name: "hashes of SHA-1 and zeros", recipe: padded}, nil, nil)
	out = append(out, mutation{id: PolicyIMA, name: "a bare report has none", policy: makePolicy(bareRoot, imaPolicy), raw: bare(nil, nil)})
	add(mutation{id: PolicyIMAAggregate, name: "of other PCRs"}, func(first [][]byte) [][]byte {
		return [][]byte{evidencetest.IMAFile("boot_aggregate", "PCRs"), first[1]}
	}, nil)
	add(mutation{id: PolicyIMAAggregate, name: "the list begins with a file"}, func(first [][]byte) [][]byte { return first[1:] }, nil)
	add(mutation{id: PolicyIMAAggregate, name: "a PCR of the boot was extended later", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.PCRs.Set(pcr.SHA256, 5, bytes.Repeat([]byte{1}, 32))
	}}, nil, nil)
	add(mutation{id: PolicyIMAAggregate, name: "a PCR of the boot is not quoted", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Select[0].PCRs = slices.Delete(slices.Clone(r.Select[0].PCRs), 3, 4)
	}}, nil, nil)
	add(mutation{id: PolicyIMAViolations, name: "case 127"}, another(evidencetest.IMAViolation("/usr/bin/true")), nil)
	for _, c := range []struct {
		name  string
		entry []byte
	}{
		{"changed on disk", evidencetest.IMAFile("/usr/bin/true", "false")},
		{"a file that is called like the boot", evidencetest.IMAFile("boot_aggregate", "false")},
		{"a template that is not known", evidencetest.IMAEntry("ima-new", []byte("true"))},
		{"a buffer", evidencetest.IMAEntry("ima-buf", evidencetest.IMADigest("sha256", pcr.SHA256.Sum([]byte("key"))), evidencetest.IMAName(".ima"), []byte("key"))},
		{"the digest of fs-verity", evidencetest.IMAEntry("ima-ngv2", append([]byte("verity:"), evidencetest.IMADigest("sha256", pcr.SHA256.Sum([]byte("true")))...), evidencetest.IMAName("/usr/bin/true"))},
		{"signed by a key that is not listed", signedFile("evil", "/usr/bin/evil", 'j', 0)},
		{"in another PCR", append([]byte{11}, evidencetest.IMAFile("/usr/bin/evil", "false")[1:]...)},
	} {
		m, e := mutation{id: PolicyIMAFiles, name: c.name}, c.entry
		if c.name == "in another PCR" { // between the two that lead to the quoted value
			add(m, nil, edit(func(b []byte) []byte { return slices.Insert(b, len(b)-last, e...) }))
			continue
		}
		add(m, another(e), nil)
	}
	add(mutation{id: PolicyIMAFiles, name: "at another path", tables: "[[ima_files]]\npath = \"/usr/sbin/*\"\ndigests = [\"" + imaDigest("true") + "\"]\n"}, nil, nil)
	add(mutation{id: PolicyIMAFiles, name: "not in the reference", tables: "[[ima_files]]\nreference = \"" + imaReferenceOf("other") + "\"\n"}, nil, func(o *options) {
		o.References = [][]byte{imaReference("other")}
	})
	add(mutation{id: PolicyIMAFiles, name: "signature of another digest", tables: imaKeyTable}, func(first [][]byte) [][]byte {
		return append(first[:1], signedFile("true", "/usr/bin/true", 'i', 1))
	}, nil)
	add(mutation{id: PolicyIMAFiles, name: "the listed digest in a command line for kexec, by another order of fields"},
		another(relabelled("xattrvalues|n-ng|d-ng", "sha256:\x00"+string(pcr.SHA256.Sum([]byte("true"))))), nil)
	return out
}

// relabelled returns the entry of a command line for kexec, under the name of another template. No
// hash covers that name.
func relabelled(template, commandLine string) []byte {
	return evidencetest.IMAEntry(template, evidencetest.IMADigest("sha256", pcr.SHA256.Sum([]byte(commandLine))), evidencetest.IMAName("kexec-cmdline"), []byte(commandLine))
}

// padded has the kernel extend both banks with hashes of SHA-1 and zeros.
func padded(_ *testing.T, r *evidencetest.Recipe) {
	for _, bank := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384} {
		replay := ima.NewReplay(bank)
		for e := range ima.Entries(ima.Whole(bytes.Join(firstMeasured(r), nil))) {
			replay.Extend(e)
		}
		r.PCRs.Set(bank, 10, replay.Value(bank, ima.Padded))
	}
}

// imaKeyTable accepts files that the key of letter i signed.
var imaKeyTable = "[ima]\nkeys = '''\n" + imaKeys + "'''\n"

// imaReference returns a reference of files with these contents.
func imaReference(contents ...string) []byte {
	var digests [][]byte
	for _, c := range contents {
		digests = append(digests, pcr.SHA256.Sum([]byte(c)))
	}
	return ima.EncodeReference(pcr.SHA256, digests)
}

// imaReferenceOf returns the name of the reference of files with these contents.
func imaReferenceOf(contents ...string) string {
	return hex.EncodeToString(pcr.SHA256.Sum(imaReference(contents...)))
}

// TestIMA: a list that leads to the quoted PCR explains it, whatever is listed in which way.
func TestIMA(t *testing.T) {
	more := []byte("entries that the kernel added after the quote")
	for _, c := range []struct {
		name, tables string
		entries      func([][]byte) [][]byte
		change       func(*options)
		recipe       func(*testing.T, *evidencetest.Recipe)
		entriesWant  uint64
	}{
		{"digest anywhere", imaPolicy, nil, nil, nil, 2},
		{"digest at a path", "[[ima_files]]\npath = \"/usr/bin/true\"\ndigests = [\"" + imaDigest("true") + "\"]\n", nil, nil, nil, 2},
		{"digest at a pattern", "[[ima_files]]\npath = \"/usr/**\"\ndigests = [\"" + imaDigest("true") + "\"]\n", nil, nil, nil, 2},
		{"any digest at a pattern", "[[ima_files]]\npath = \"/usr/bin/*\"\nany_digest = true\n", nil, nil, nil, 2},
		{"reference", "[[ima_files]]\nreference = \"" + imaReferenceOf("a", "true", "z") + "\"\n", nil, func(o *options) { o.References = [][]byte{imaReference("a", "true", "z")} }, nil, 2},
		{"signature", imaKeyTable, func(first [][]byte) [][]byte { return append(first[:1], signedFile("evil", "/usr/bin/evil", 'i', 0)) }, nil, nil, 2},
		{"read after the quote", imaPolicy, nil, func(o *options) { o.IMAList = append(o.IMAList, more...) }, nil, 2},
		{"kexec", imaPolicy, func(first [][]byte) [][]byte { return append(first, first[0]) }, nil, nil, 3},
		{"older aggregate", imaPolicy, func(first [][]byte) [][]byte {
			r := evidencetest.New()
			boot(r)
			var b []byte
			for i := range uint32(8) {
				b = append(b, r.PCRs[pcr.SHA256][i]...)
			}
			return [][]byte{evidencetest.IMAFile("boot_aggregate", string(b)), first[1]}
		}, nil, nil, 2},
		{"no aggregate asked for", "[ima]\nboot_aggregate = \"optional\"\n" + imaPolicy, func(first [][]byte) [][]byte { return first[1:] }, nil, nil, 1},
		{"violations allowed", "[ima]\nviolations = \"allow\"\n" + imaPolicy, func(first [][]byte) [][]byte { return append(first, evidencetest.IMAViolation("/x\x01")) }, nil, nil, 3},
		{"nothing listed", "[ima]\nunlisted = \"allow\"\n", func(first [][]byte) [][]byte { return append(first, evidencetest.IMAEntry("ima-new", []byte("x"))) }, nil, nil, 3},
		{"padded allowed", "[ima]\nallow_padded_sha1 = true\n" + imaPolicy, nil, nil, padded, 2},
		{"nothing asked", "", nil, nil, nil, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			recipe, opts := measured(c.entries)
			o, r := baseOptions(t), evidencetest.New()
			o.Policy = mustPolicy(t, makePolicy("", c.tables))
			opts(t, &o)
			recipe(t, r)
			if c.recipe != nil {
				c.recipe(t, r)
			}
			if c.change != nil {
				c.change(&o)
			}
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := a.Claims()
			if err != nil {
				t.Fatal(err, explain(a))
			}
			if says(a, "No rule of the policy says what it may be") != (c.tables == "") {
				t.Errorf("sentences are %q", a.Sentences)
			}
			if says(a, "SHA-1 alone") != (c.name == "padded allowed") {
				t.Errorf("sentences are %q", a.Sentences)
			}
			if claims.IMA == nil || claims.IMA.Entries != c.entriesWant || !says(a, "The list of IMA leads to") {
				t.Errorf("claims are %+v, want %d entries", claims.IMA, c.entriesWant)
			}
			for _, p := range claims.PCRs {
				if p.Index == 10 && p.Explained != ByIMA {
					t.Errorf("PCR 10 of %s is explained by %s", p.Bank, p.Explained)
				}
			}
			var unlisted, violated uint64
			switch c.name {
			case "nothing listed":
				unlisted = 2
			case "violations allowed":
				violated = 1
			case "nothing asked":
				unlisted = 1
			}
			if m := claims.IMA; m.Unlisted != unlisted || m.Violations != violated || len(m.Named) != int(unlisted) || len(m.Violated) != int(violated) {
				t.Errorf("%+v, want %d unlisted and %d violations", m, unlisted, violated)
			} else if unlisted > 0 && (m.Named[0].Path != "/usr/bin/true" || m.Named[0].Digest != imaDigest("true")) || violated > 0 && m.Violated[0].Path != "/x?" {
				t.Errorf("named are %+v and %+v", m.Named, m.Violated)
			}
		})
	}
}

// TestIMAWithoutSHA1: PCR 10 that was quoted in a bank of SHA-1 is not explained.
func TestIMAWithoutSHA1(t *testing.T) {
	recipe, opts := measured(nil)
	o, r := baseOptions(t), evidencetest.New()
	o.Policy = mustPolicy(t, makePolicy("", imaPolicy))
	opts(t, &o)
	recipe(t, r)
	r.Select = pcr.Selection{{Algorithm: pcr.SHA1, PCRs: []uint32{10}}, {Algorithm: pcr.SHA256, PCRs: []uint32{0, 13}}}
	r.PCRs.Set(pcr.SHA1, 10, evidencetest.IMAValue(pcr.SHA1, firstMeasured(r)...))
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || a.Check(IMAReplay).Verdict != Pass || a.Check(PolicyIMA).Verdict != Fail {
		t.Fatalf("%v\n%s", err, explain(a))
	}
	o.Policy = mustPolicy(t, makePolicy("", ""))
	if a, err = appraiseEvidence(r.Encode(t), o); err != nil || a.Verdict != Pass || !says(a, "SHA-1 alone") {
		t.Fatalf("without rules: %v, %q\n%s", err, a.Sentences, explain(a))
	}
}

// TestIMANamesFiles: a list with many files that nothing lists names the first of them, by path, and
// counts all.
func TestIMANamesFiles(t *testing.T) {
	recipe, opts := measured(func(first [][]byte) [][]byte {
		for i := range 300 {
			first = append(first, evidencetest.IMAFile(fmt.Sprintf("/tmp/%d", i), "evil"))
		}
		return first
	})
	for _, unlisted := range []string{"allow", "refuse"} {
		o, r := baseOptions(t), evidencetest.New()
		tables := "[ima]\nunlisted = \"allow\"\n"
		if unlisted == "refuse" {
			tables = imaPolicy
		}
		o.Policy = mustPolicy(t, makePolicy("", tables))
		opts(t, &o)
		recipe(t, r)
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil {
			t.Fatal(err)
		}
		if unlisted == "refuse" {
			if c := a.Check(PolicyIMAFiles); c.Verdict != Fail || !bytes.Contains([]byte(c.Found), []byte(`"/tmp/0"`)) || !strings.HasSuffix(c.Found, "; 296 more") {
				t.Errorf("%+v", c)
			}
			continue
		}
		claims, err := a.Claims()
		if err != nil {
			t.Fatal(err, explain(a))
		}
		if m := claims.IMA; m.Unlisted != 301 || len(m.Named) != 100 || m.Named[99].Path != "/tmp/98" || m.Named[99].Entry != 100 {
			t.Errorf("%d unlisted, %d named, the last %+v", m.Unlisted, len(m.Named), m.Named[len(m.Named)-1])
		}
	}
}

// TestIMAReferenceIsNeeded: a policy that names a reference says nothing without it.
func TestIMAReferenceIsNeeded(t *testing.T) {
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy("", "[[ima_files]]\nreference = \""+imaReferenceOf("true")+"\"\n"))
	for name, given := range map[string][][]byte{"none": nil, "another": {imaReference("x")}, "changed": {append(imaReference("true"), 0)}, "garbage": {[]byte("x")}} {
		o.References = given
		if a, err := appraiseEvidence(evidencetest.New().Encode(t), o); err == nil {
			t.Errorf("%s: %v", name, a.Verdict)
		}
	}
}
