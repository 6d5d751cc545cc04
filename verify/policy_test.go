// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// TestPolicyErrors: case 62. Each names the place, and what is wrong.
func TestPolicyErrors(t *testing.T) {
	launch := "[[launch]]\nmeasurement = \"" + repeated(1, 48) + "\"\nkind = \"plain\"\ncovers = \"firmware\"\n"
	for _, c := range []struct {
		name, text   string
		line, column int
		key, message string
	}{
		{"empty", "", 0, 0, "", "empty"},
		{"only a comment", "# nothing\n\n", 0, 0, "", "empty"},
		{"no version", launch, 0, 0, "version", "missing"},
		{"another version", "version = 2\n" + launch, 1, 1, "version", "not known"},
		{"unknown key", "version = 1\nproduct = [\"milan\"]\n" + launch, 2, 1, "product", "unknown key"},
		{"unknown key in a table", "version = 1\n" + launch + "[caller]\nname = \"x\"\n", 7, 1, "caller.name", "unknown key"},
		{"unknown key in an array of tables", "version = 1\n" + launch + "vmpl = 0\n", 6, 1, "launch[0].vmpl", "unknown key"},
		{"key in another case", "version = 1\nVMPL = [3]\n" + launch, 2, 1, "VMPL", "lower case"},
		{"key twice", "version = 1\nvmpl = [0]\nvmpl = [1]\n" + launch, 3, 0, "", "already"},
		{"wrong type", "version = 1\nvmpl = \"0\"\n" + launch, 2, 8, "", ""},
		{"syntax", "version = 1\nvmpl = [0\n", 0, 0, "", ""},
		{"not TOML", "\x00\xff", 1, 0, "", ""},
		{"measurement is short", "version = 1\n" + strings.Replace(launch, "01", "", 1), 3, 1, "launch[0].measurement", "47 bytes, want 48"},
		{"measurement in upper case", "version = 1\n" + strings.Replace(launch, "0101", "0A01", 1), 3, 1, "launch[0].measurement", "lower-case"},
		{"measurement missing", "version = 1\n[[launch]]\nkind = \"plain\"\ncovers = \"firmware\"\n", 2, 3, "launch[0]", "missing"},
		{"kind missing", "version = 1\n[[launch]]\nmeasurement = \"" + repeated(1, 48) + "\"\n", 2, 3, "launch[0]", "kind"},
		{"unknown kind", "version = 1\n" + strings.Replace(launch, "plain", "paravisory", 1), 4, 1, "launch[0].kind", "not one of"},
		{"measurement twice", "version = 1\n" + launch + launch, 7, 1, "launch[1].measurement", "twice"},
		{"no launch", "version = 1\n", 0, 0, "unlisted_launch", "every evidence would be refused"},
		{"second app is wrong", "version = 1\n" + launch + "[[app]]\nname = \"a\"\ndigests = [\"" + repeated(1, 32) + "\"]\n[[app]]\nname = \"b\"\ndigests = [\"" + repeated(1, 32) + "\", \"00\"]\n",
			11, 80, "app[1].digests[1]", "1 bytes, want 32"},
		{"app twice", "version = 1\n" + launch + app("a", "", "1") + app("a", "", "2"), 11, 1, "app[1].name", "twice"},
		{"app without digests", "version = 1\n" + launch + "[[app]]\nname = \"a\"\n", 6, 3, "app[0]", "digests"},
		{"app without any digest", "version = 1\n" + launch + "[[app]]\nname = \"a\"\ndigests = []\n", 8, 1, "app[0].digests", "empty"},
		{"digest twice", "version = 1\n" + launch + app("a", "", "1", "1"), 8, 80, "app[0].digests[1]", "twice"},
		{"app with optional log", "version = 1\nlog = \"optional\"\n" + launch + app("a", "", "1"), 2, 1, "log", "depends on the log"},
		{"executable without unit", "version = 1\n" + launch + "[caller]\nexecutables = [\"" + repeated(1, 32) + "\"]\n", 7, 1, "caller.executables", "caller.unit"},
		{"covered without app", "version = 1\n" + launch + "[caller]\nunit = \"u\"\ncovered = true\n", 8, 1, "caller.covered", "caller.app"},
		{"anchored of any age", "version = 1\nfreshness = \"anchored\"\n" + launch, 2, 1, "freshness", "max_anchor_age"},
		{"age of a fresh report", "version = 1\nmax_anchor_age = \"1m\"\n" + launch, 2, 1, "max_anchor_age", "no anchor"},
		{"age is none", "version = 1\nfreshness = \"anchored\"\nmax_anchor_age = \"soon\"\n" + launch, 3, 1, "max_anchor_age", "duration"},
		{"floor of an unlisted product", "version = 1\nproducts = [\"genoa\"]\n" + launch + "[tcb.milan]\nreported = { bootloader = 1, tee = 0, snp = 1, microcode = 1 }\n", 7, 6, "tcb.milan", "never be looked at"},
		{"floor of an unknown product", "version = 1\n" + launch + "[tcb.rome]\nreported = { snp = 1 }\n", 6, 6, "tcb.rome", "not one of"},
		{"floor without a component", "version = 1\n" + launch + "[tcb.genoa]\nreported = { snp = 1 }\n", 7, 1, "tcb.genoa.reported", "missing"},
		{"floor of Turin without FMC", "version = 1\n" + launch + "[tcb.turin]\nreported = { bootloader = 1, tee = 0, snp = 1, microcode = 1 }\n", 7, 1, "tcb.turin.reported", "fmc"},
		{"floor out of range", "version = 1\n" + launch + "[tcb.genoa]\nreported = { bootloader = 1, tee = 0, snp = 1, microcode = 256 }\n", 7, 48, "tcb.genoa.reported.microcode", "out of range"},
		{"no floor", "version = 1\n" + launch + "[tcb.genoa]\n", 6, 6, "tcb.genoa", "no floor"},
		{"SHA-1", "version = 1\n" + launch + "[[pcr]]\nbank = \"sha1\"\nindex = 4\nvalues = [\"" + repeated(1, 20) + "\"]\n", 7, 1, "pcr[0].bank", "not one of"},
		{"PCR 24", "version = 1\n" + launch + "[[pcr]]\nbank = \"sha256\"\nindex = 24\nvalues = [\"" + repeated(1, 32) + "\"]\n", 8, 1, "pcr[0].index", "out of range"},
		{"VMPL 4", "version = 1\nvmpl = [0, 4]\n" + launch, 2, 12, "vmpl[1]", "out of range"},
		{"no VMPL", "version = 1\nvmpl = []\n" + launch, 2, 1, "vmpl", "empty"},
		{"binding that nothing gives", "version = 1\nbinding = \"svsm\"\n" + launch, 2, 1, "binding", "every evidence would be refused"},
		{"listed and denied", "version = 1\ndenied_measurements = [\"" + repeated(1, 48) + "\"]\n" + launch, 4, 1, "launch[0].measurement", "denied"},
		{"chips and masked chips", "version = 1\nchips = [\"" + repeated(1, 64) + "\"]\nallow_masked_chip = true\n" + launch, 3, 1, "allow_masked_chip", "masked"},
		{"chips without VCEK", "version = 1\nsigners = [\"vlek\"]\nvlek_csps = [\"a\"]\nchips = [\"" + repeated(1, 64) + "\"]\n" + launch, 4, 1, "chips", "vlek"},
		{"required and refused", "version = 1\n" + launch + "[platform]\nrequire = [\"ecc\"]\nrefuse = [\"ecc\"]\n", 8, 1, "platform.refuse", "both"},
		{"mitigations of old reports", "version = 1\nmin_report_version = 3\n" + launch + "[mitigations]\nlaunch = 1\n", 7, 2, "mitigations", "min_report_version"},
		{"ABI", "version = 1\n" + launch + "[guest_policy]\nmin_abi = \"1\"\n", 7, 1, "guest_policy.min_abi", "version"},
		{"start value", "version = 1\n" + launch + "[[start_value]]\nbank = \"sha256\"\nvalue = \"00\"\n", 8, 1, "start_value[0].value", "want 32"},
		{"control character", "version = 1\n" + launch + "[caller]\nunit = \"a\\nb\"\n", 7, 1, "caller.unit", "U+000A"},
		{"origin without a key", "version = 1\nak_origin = \"enrolled\"\n" + launch, 2, 1, "ak_origin", "ak_names"},
		{"certified without a root", "version = 1\nak_origin = \"certified\"\n" + launch + certified(tpmRoot.certify('e', nil)), 2, 1, "ak_origin", "ek_roots"},
		{"certified, and no certificate", "version = 1\nek_roots = " + pemText(tpmRoot.cert) + "\nak_origin = \"certified\"\n" + launch + enrolment(repeated(1, 32), "CN=y"), 0, 1, "ak_origin", "ek_certificates"},
		{"roots of nothing", "version = 1\nek_roots = " + pemText(tpmRoot.cert) + "\n" + launch + enrolment(repeated(1, 32), "none"), 2, 1, "ek_roots", "ever be looked at"},
		{"root that is not an authority", "version = 1\nek_roots = " + pemText(tpmRoot.certify('e', nil)) + "\n" + launch + certified(tpmRoot.certify('e', nil)), 2, 1, "ek_roots", "not that of an authority"},
		{"root that is not PEM", "version = 1\nek_roots = \"CN=TPM root\"\n" + launch + certified(tpmRoot.certify('e', nil)), 2, 1, "ek_roots", "PEM"},
		{"certificates in a record of the first version", "version = 1\n" + launch + strings.Replace(certified(tpmRoot.certify('e', nil)), "enrolment/2", "enrolment/1", 1), 6, 3, "enrolment[0]", "enrolment/2"},
		{"record of a version to come", "version = 1\n" + launch + strings.Replace(certified(tpmRoot.certify('e', nil)), "enrolment/2", "enrolment/3", 1), 6, 3, "enrolment[0]", "enrolment/1"},
		{"certificates that are none", "version = 1\n" + launch + enrolment(repeated(1, 32), "none") + "ek_certificates = \"no\"\n", 12, 1, "enrolment[0].ek_certificates", "PEM"},
		{"enrolled twice", "version = 1\n" + launch + enrolment(repeated(1, 32), "CN=y") + enrolment(repeated(1, 32), "CN=y"), 0, 0, "enrolment[1].ak", "twice"},
		{"enrolled name", "version = 1\n" + launch + enrolment("00", "CN=y"), 0, 0, "enrolment[0].ak", "want 34"},
		{"enrolment without a time", "version = 1\n" + launch + "[[enrolment]]\nek = \"00\"\nak = \"00\"\n", 0, 0, "enrolment[0]", "enrolled"},
		{"any age and an age", "version = 1\nfreshness = \"any\"\nmax_anchor_age = \"1m\"\n" + launch, 3, 1, "max_anchor_age", "any"},
		{"log", "version = 1\nlog = \"maybe\"\n" + launch, 2, 1, "log", "not one of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := ParsePolicy([]byte(c.text))
			if err == nil {
				t.Fatalf("accepted: %+v", p)
			}
			var e *PolicyError
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			found := strings.Contains(err.Error(), c.message) && strings.Contains(err.Error(), c.key)
			if c.line > 0 && e.Line != c.line || c.column > 0 && e.Column != c.column || !found {
				t.Errorf("got %q at %d:%d of %q,\nwant %q at %d:%d of %q", err, e.Line, e.Column, e.Key, c.message, c.line, c.column, c.key)
			}
		})
	}
}

// TestPolicyErrorsAreAllTold: the author of a policy sees every fault at once, in order.
func TestPolicyErrorsAreAllTold(t *testing.T) {
	_, err := ParsePolicy([]byte("version = 1\nvmpl = [9]\nlog = \"x\"\nbinding = \"y\"\n"))
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "policy line 2,") || !strings.HasPrefix(lines[2], "policy line 4,") {
		t.Errorf("got %q", lines)
	}
}

// TestPolicyDocumentation: every example of docs/policy.md and docs/verify.md is a policy, and every key
// that the parser knows is described there.
func TestPolicyDocumentation(t *testing.T) {
	text, err := os.ReadFile("../docs/policy.md")
	verifyText, err2 := os.ReadFile("../docs/verify.md")
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	examples := 0
	for i, block := range strings.Split(string(text)+string(verifyText), "```toml\n") {
		if i == 0 {
			continue
		}
		example, _, ok := strings.Cut(block, "```")
		if !ok {
			t.Fatal("a block does not end")
		}
		examples++
		if _, err := ParsePolicy([]byte(example)); err != nil {
			t.Errorf("example %d: %v", i, err)
		}
	}
	if examples < 3 {
		t.Errorf("%d examples", examples)
	}
	for _, key := range policyKeys() {
		if !strings.Contains(string(text), "`"+key+"`") {
			t.Errorf("key %q is not described", key)
		}
	}
}
