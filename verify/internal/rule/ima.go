// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// IMARules are rules about what the kernel measured before it was used.
type IMARules struct {
	quiet
	IMA      IMA        `toml:"ima,omitempty"`
	IMAFiles []IMAFiles `toml:"ima_files,omitempty"`

	keys  []ima.Key // of IMA.Keys, in a compiled policy
	files *imaFiles // of IMAFiles, in a compiled policy
}

// IMA is [ima].
type IMA struct {
	List            Choice `toml:"list,omitempty" value:"one required optional" default:"\"required\"" doc:"|required|: the list of IMA must be there, with an entry or more, and must explain the quoted PCR 10 in a bank other than SHA-1. |optional|: only a list that is there is judged, and an attacker can leave it out. Without |[ima]| and |[[ima_files]]| nothing is asked"`
	Unlisted        Choice `toml:"unlisted,omitempty" value:"one refuse allow" default:"\"refuse\"" doc:"what happens if an entry is neither of a file that an |[[ima_files]]| lists nor signed by a key of |ima.keys|: |allow| names it in the claims"`
	Violations      Choice `toml:"violations,omitempty" value:"one refuse allow" default:"\"refuse\"" doc:"what happens if a file was written while it was used, so that the kernel could not tell what was used: |allow| counts them in the claims. No TPM vouches for the name in such an entry"`
	BootAggregate   Choice `toml:"boot_aggregate,omitempty" value:"one required optional" default:"\"required\"" doc:"|required|: the first entry must be the kernel's digest of the quoted PCRs 0 to 9, or of PCRs 0 to 7 as older kernels make it. A system that extends these PCRs later is refused, except for systemd's |os-separator| if the firmware's log is in the evidence."`
	AllowPaddedSHA1 bool   `toml:"allow_padded_sha1,omitempty" default:"false" doc:"accept a kernel before Linux 5.8, which extends all banks with hashes of SHA-1: a user who can write files may be able to make two entries with one hash"`
	Keys            string `toml:"keys,multiline,omitempty" default:"none" doc:"public keys and certificates that sign files, as PEM: 1 to 16. A file with such a signature in |security.ima| is listed, whatever its path and its age. The kernel adds signatures with the templates |ima-sig| and |ima-sigv2|"`
}

// IMAFiles is one [[ima_files]]: what files at some paths may be.
type IMAFiles struct {
	Path      string   `toml:"path,omitempty" default:"any" doc:"paths that this is about: |*| stands for any characters but |/|, |**| for any at all. Absent: files of these digests may be anywhere"`
	Digests   []string `toml:"digests,omitempty" value:"later" default:"none" doc:"acceptable digests: |sha256:|, |sha384:| or |sha512:| and hexadecimal, with |verity:| before it for a digest of fs-verity"`
	Reference string   `toml:"reference,omitempty" value:"hex 32" default:"none" doc:"SHA-256 of a file with acceptable digests, which the verifier is given besides (|--ima-reference|, |Config.IMAReferences|)"`
	AnyDigest bool     `toml:"any_digest,omitempty" default:"false" doc:"accept any content at these paths: for what is read and not executed, such as logs. A program there goes unnoticed"`
}

// maxPatterns is the number of rules with a pattern: each entry is compared with each.
const maxPatterns = 256

var imaChecks = []check.Definition{
	{ID: "policy.ima", Class: check.Policy, Ground: check.OnQuote, Checks: "the list of IMA is there and explains the quoted PCR 10 by hashes other than SHA-1, if the policy asks for it", Stops: "a machine whose kernel measures nothing, or that does not show what it measured"},
	{ID: "policy.ima-aggregate", Class: check.Policy, Ground: check.OnQuote, Checks: "the first entry of the list of IMA is the digest of the quoted PCRs 0 to 9, or 0 to 7, if the policy asks for it", Stops: "PCRs of the boot that were extended after the kernel began, or a list that is not of this boot"},
	{ID: "policy.ima-violations", Class: check.Policy, Ground: check.OnQuote, Checks: "no file of the list that leads to the quoted PCR 10 was written while it was used, or the policy allows it", Stops: "a program that changed after it was measured"},
	{ID: "policy.ima-files", Class: check.Policy, Ground: check.OnQuote, Checks: "each entry that leads to the quoted PCR 10 is of a file that the policy lists, or is signed by a key of it", Stops: "a program that was changed on disk, or that no listed package brought"},
}

// AsksIMA reports whether the policy says anything about the list of IMA.
func (r *IMARules) AsksIMA() bool { return r.IMA != IMA{} || len(r.IMAFiles) > 0 }

// required reports whether the list must be there.
func (r *IMARules) required() bool { return r.AsksIMA() && r.IMA.List != Optional }

func (r *IMARules) values(f *faults) {
	if f.given("ima.keys", r.IMA.Keys != "") {
		if _, err := ima.ParseKeys([]byte(r.IMA.Keys)); err != nil {
			f.fail("ima.keys", "%v", err)
		}
	}
	f.twice("ima_files[%d].path", len(r.IMAFiles), func(i int) string { return r.IMAFiles[i].Path })
	patterns := 0
	for i, x := range r.IMAFiles {
		key := fmt.Sprintf("ima_files[%d]", i)
		f.failIf(f.given(key+".path", x.Path != "") && (x.Path == "" || strings.ContainsRune(x.Path, 0)), key+".path", "it is empty or has a zero character: leave it out if the files may be anywhere")
		f.failIf(x.Digests == nil && x.Reference == "" && !x.AnyDigest, key, "want digests, a reference, or any_digest = true")
		f.failIf(x.AnyDigest && x.Path == "", key+".any_digest", "without a path it accepts everything: ima.unlisted = \"allow\" says that")
		f.failIf(x.AnyDigest && len(x.Digests)+len(x.Reference) > 0, key+".any_digest", "it leaves nothing to the digests: give one of the two")
		f.imaDigests(key+".digests", x.Digests)
		if strings.Contains(x.Path, "*") {
			f.failIf(len(x.Path) > maxPattern, key+".path", "a path with a * has %d bytes, want at most %d", len(x.Path), maxPattern)
			patterns++
			f.failIf(patterns > maxPatterns, key+".path", "more than %d paths have a *: give their digests without a path", maxPatterns)
		}
	}
}

// imaDigests checks digests with the names of their algorithms.
func (f *faults) imaDigests(key string, list []string) {
	f.failIf(list != nil && len(list) == 0, key, "the list is empty: leave the key out")
	f.twice(key+"[%d]", len(list), func(i int) string { return list[i] })
	for i, x := range list {
		at := fmt.Sprintf("%s[%d]", key, i)
		name, value, _ := strings.Cut(strings.TrimPrefix(x, "verity:"), ":")
		bank, err := pcr.ParseAlgorithm(name)
		if err != nil || bank == pcr.SHA1 {
			f.fail(at, "%q does not begin with sha256:, sha384: or sha512:, or verity: and one of these. Collisions of SHA-1 can be made", name)
			continue
		}
		f.hex(at, value, bank.Size())
	}
}

func (r *IMARules) conflicts(_ *Policy, f *faults) {
	lists := len(r.IMAFiles) > 0 || r.IMA.Keys != ""
	f.failIf(r.AsksIMA() && !lists && r.IMA.Unlisted != Allow, "ima", "nothing is listed, by [[ima_files]] or ima.keys, so every evidence would be refused: ima.unlisted = \"allow\" accepts what is not listed")
	f.failIf(lists && r.IMA.Unlisted == Allow, "ima.unlisted", "files are listed, and what is not listed is allowed: the lists would mean nothing")
}

func (r *IMARules) explain(_ *Policy, w *Words) {
	w.on(check.OnQuote, "what the kernel measured ([ima])")
	if !r.AsksIMA() {
		w.open("Which files the kernel measured before they were used (its list of IMA): no [ima] asks.")
		return
	}
	i := r.IMA
	w.demandIf(r.required(), "The list of IMA is there, and leads to the quoted PCR 10.")
	w.dangerIf(!r.required(), "ima.list is \"optional\": evidence without the list is accepted, and an attacker can leave it out.")
	w.demandIf(i.BootAggregate != Optional, "The list of IMA begins with the digest of the quoted PCRs of the boot.")
	w.openIf(i.BootAggregate == Optional, "Whether the quoted PCRs are the PCRs of the boot that the kernel found (ima.boot_aggregate).")
	w.tolerates(i.Violations == Allow, "ima.violations: files may have been changed while they were used.", "No file in the list of IMA was written while it was used.")
	w.dangerIf(i.Unlisted == Allow, "ima.unlisted: files of any content may have been used; the claims name those that nothing lists.")
	w.demandIf(i.Unlisted != Allow, "Each file in the list of IMA is listed by [[ima_files]], or signed by a key of ima.keys.")
	w.dangerIf(i.AllowPaddedSHA1, "ima.allow_padded_sha1: the list rests on SHA-1, whose collisions can be made.")
	for _, x := range r.IMAFiles {
		w.dangerIf(x.AnyDigest, "ima_files: any content is accepted at %q. A program there goes unnoticed.", x.Path)
	}
	w.open("Which files the kernel measures at all: its policy of IMA says that, which its command line or what boots it must pin.")
}

func (*IMARules) draft(g *Golden, d *Draft) {
	if g.IMAState == LogRead {
		d.tables.offer("The list of IMA was there. With this, it must be, and the claims name each file in it; agentctl policy explains more.", "# [ima]\n# unlisted = \"allow\"\n")
	}
}

func (r *IMARules) judge(_ *Policy, s *Subject, f *check.Findings) {
	ids := make([]check.ID, len(imaChecks))
	for i, d := range imaChecks {
		ids[i] = d.ID
	}
	switch {
	case !r.AsksIMA():
		skip(f, "the policy does not ask for the list of IMA", ids...)
	case s.IMAState == LogAbsent && r.required():
		f.Decide(ids[0], false, "the list of IMA", "none", "the policy needs the list of IMA, and there is none")
		skip(f, "there is no list of IMA", ids[1:]...)
	case s.IMAState == LogAbsent:
		skip(f, "there is no list of IMA, and the policy does not need one", ids...)
	case s.IMAState == LogRead:
		r.judgeList(s, f)
	}
}

// judgeList judges a list that leads to the quoted PCR.
func (r *IMARules) judgeList(s *Subject, f *check.Findings) {
	m := s.Measured
	explains := slices.ContainsFunc(s.IMA.Banks, func(b pcr.Algorithm) bool { return s.IMA.Explains(b, ima.PCR) })
	strong := s.IMA.Mode == ima.Own || r.IMA.AllowPaddedSHA1
	found := fmt.Sprintf("%d entries, %s, in %s", s.IMA.Entries, s.IMA.Mode, joined(s.IMA.Banks, ", "))
	if m.known != nil && m.known.Policy != m.policy {
		f.Decide("policy.ima", false, "policy "+m.policy, "policy "+m.known.Policy, "another policy accepted the entries that the list of IMA continues: ask for the whole list")
	} else {
		f.Decide("policy.ima", explains && strong, "1 entry or more, by the own hash of a bank other than SHA-1", found, "the list of IMA does not explain PCR 10 by hashes that the policy accepts (ima.allow_padded_sha1 is about kernels before Linux 5.8)")
	}
	if !f.SkipIf(r.IMA.BootAggregate == Optional || s.IMA.Entries == 0, "policy.ima-aggregate", "the policy does not ask for it, or there is no entry") {
		f.Decide("policy.ima-aggregate", m.first != "" && m.aggregates[m.first], "boot_aggregate over the quoted PCRs 0 to 9, or 0 to 7", m.begins(),
			"the first entry of the list of IMA is not over the PCRs that were quoted")
	}
	tolerate(f, "policy.ima-violations", named(m.Violations, m.Violated), r.IMA.Violations == Allow, "a file was written while it was used")
	tolerate(f, "policy.ima-files", named(m.Unlisted, m.Named), r.IMA.Unlisted == Allow, "files were used that the policy does not list")
}

// named spells out the first of n files, and how many there are more.
func named(n uint64, files []MeasuredFile) (out []string) {
	const most = 4
	files = files[:min(len(files), most)]
	for _, x := range files {
		out = append(out, fmt.Sprintf("entry %d, %q %s%s", x.Entry, x.Path, x.Digest, x.Fault))
	}
	if more := n - uint64(len(files)); more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return out
}

// compile reads keys and lists.
func (r *IMARules) compile() (err error) {
	if r.IMA.Keys != "" {
		if r.keys, err = ima.ParseKeys([]byte(r.IMA.Keys)); err != nil {
			return fmt.Errorf("policy: ima.keys: %w", err)
		}
	}
	r.files = newIMAFiles(r.IMAFiles)
	return nil
}

// Refer hands the references to a policy that names some. Each that it names must be there.
func (c *Compiled) Refer(references [][]byte) error {
	have := make(map[string]*ima.Reference)
	for i, b := range references {
		p, err := ima.ParseReference(b)
		if err != nil {
			return fmt.Errorf("reference %d: %w", i, err)
		}
		sum := sha256.Sum256(b)
		have[hex.EncodeToString(sum[:])] = p
	}
	for i, x := range c.IMAFiles {
		if x.Reference == "" {
			continue
		}
		p := have[x.Reference]
		if p == nil {
			return fmt.Errorf("the policy names the reference %s (ima_files[%d]), which was not given", x.Reference, i)
		}
		c.files.refer(x.Path, p)
	}
	return nil
}
