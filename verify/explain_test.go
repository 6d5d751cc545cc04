// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// anyVLEK accepts reports that a chip or the cloud of the tests signed.
const anyVLEK = "signers = [\"vcek\", \"vlek\"]\nvlek_csps = [\"test cloud 1\"]"

// explained has, for every rule, what it is called in words, and in which list.
var explained = []struct{ root, tables, part, words string }{
	{`products = ["milan"]`, "", "dangers", "milan"},
	{anyVLEK, "", "dangers", "vlek"},
	{anyVLEK, "", "demands", `the listed CSP id: "test cloud 1"`},
	{`min_report_version = 5`, "", "demands", "version 5"},
	{`chips = ["` + repeated(1, 64) + `"]`, "", "demands", "the listed chip"},
	{`chips = ["` + repeated(1, 64) + `", "` + repeated(2, 64) + `"]`, "", "demands", "one of 2 listed chips"},
	{`denied_chips = ["` + repeated(1, 64) + `"]`, "", "demands", "not the denied chip"},
	{`denied_chips = ["` + repeated(1, 64) + `", "` + repeated(2, 64) + `"]`, "", "demands", "none of 2 denied chips"},
	{`allow_masked_chip = true`, "", "dangers", "allow_masked_chip"},
	{`revocation = "required"`, "", "demands", "has a current revocation list"},
	{`revocation = "off"`, "", "dangers", "revocation is off"},
	{`vmpl = [0, 2]`, "", "dangers", "level other than 0"},
	{`unlisted_launch = "allow"`, "", "dangers", "those of an attacker"},
	{`denied_measurements = ["` + repeated(9, 48) + `"]`, "", "demands", "not the denied measurement"},
	{`allow_provisional_firmware = true`, "", "dangers", "go back"},
	{`outside_enrolments = "approved"`, "", "demands", "one of an approved enrolment apart from the policy"},
	{`outside_enrolments = "approved"`, "", "unchecked", "a party that can write to it decides"},
	{`ak_names = ["000b` + repeated(1, 32) + `"]`, "", "demands", "that the policy knows"},
	{`ak_names = ["000b` + repeated(1, 32) + `"]`, "", "unchecked", "Whether a TPM has a key of ak_names"},
	{anchoredPolicy, "", "demands", "2m0s old"},
	{`log = "optional"`, "", "dangers", "without a log"},
	{`log_pcr = 14`, "", "demands", "in PCR 14"},
	{`carried = "refuse"`, "", "demands", "counts as an interruption, whatever the agent states"},
	{"", app("billing", "declarations = [\""+repeated(1, 32)+"\"]", "1"), "demands", "only the listed declaration"},
	{"", app("billing", "declarations = [\""+repeated(1, 32)+"\", \""+repeated(2, 32)+"\"]", "1"), "demands", "only declarations of 2 that are listed"},
	{"", app("billing", "", "1"), "unchecked", "its declaration is not listed"},
	{"", app("billing", "", "1"), "demands", "from its first measurement until now"},
	{"", app("billing", "covered = \"since-start\"", "1"), "demands", "from before the caller's process started until now"},
	{"", app("billing", "covered = \"now\"", "1"), "dangers", "and may run still"},
	{"", "[[quoted]]\nbank = \"sha256\"\npcrs = [0, 4]", "demands", "PCR 0, 4 of bank sha256"},
	{"", "[agent]\nconfigurations = [\"" + repeated(1, 32) + "\"]", "demands", "the listed configuration"},
	{"", "[caller]\nmethod = \"pidfd\"", "demands", "The kernel told the agent"},
	{"", "[caller]\nunit = \"b.service\"\napp = \"b\"", "demands", "from before the caller's process started until now"},
	{"", "[caller]\nunit = \"b.service\"\napp = \"b\"", "unchecked", "no [[app]] lists its digests"},
	{`continuation = "required"`, "", "demands", "continues a state that the verifier knows"},
	{"", imaPolicy, "demands", "The list of IMA is there"},
	{"", imaPolicy, "demands", "begins with the digest of the quoted PCRs"},
	{"", imaPolicy, "demands", "is listed by [[ima_files]]"},
	{"", imaPolicy, "unchecked", "Which files the kernel measures at all"},
	{"", "[ima]\nlist = \"optional\"\nunlisted = \"allow\"", "dangers", "an attacker can leave it out"},
	{"", "[ima]\nlist = \"optional\"\nunlisted = \"allow\"", "dangers", "files of any content"},
	{"", "[ima]\nviolations = \"allow\"\nunlisted = \"allow\"", "dangers", "changed while they were used"},
	{"", "[ima]\nboot_aggregate = \"optional\"\nunlisted = \"allow\"", "unchecked", "PCRs of the boot that the kernel found"},
	{"", "[ima]\nallow_padded_sha1 = true\nunlisted = \"allow\"", "dangers", "whose collisions can be made"},
	{"", imaKeyTable, "demands", "signed by a key of ima.keys"},
	{"", "[[ima_files]]\npath = \"/var/log/**\"\nany_digest = true", "dangers", "any content is accepted"},
	{"", "[[ima_files]]\nreference = \"" + repeated(1, 32) + "\"", "demands", "is listed by [[ima_files]]"},
	{`tolerate_gaps = true`, "", "dangers", "tolerate_gaps"},
	{`tolerate_unmeasured = true`, "", "dangers", "tolerate_unmeasured"},
	{`unlisted_apps = "refuse"`, "", "demands", "does not list"},
	{"", "[guest_policy]\nallow_debug = true", "dangers", "allow_debug"},
	{"", "[guest_policy]\nallow_migration_agent = true", "dangers", "migration"},
	{"", "[guest_policy]\nallow_cxl = true", "dangers", "allow_cxl"},
	{"", "[guest_policy]\nallow_reserved_bits = true", "dangers", "reserved"},
	{"", "[guest_policy]\nallow_smt = false", "demands", "thread"},
	{"", "[guest_policy]\nrequire_single_socket = true", "demands", "one socket"},
	{"", "[guest_policy]\nrequire_aes_256_xts = true", "demands", "XTS"},
	{"", "[guest_policy]\nrequire_rapl_disabled = true", "demands", "power"},
	{"", "[guest_policy]\nrequire_ciphertext_hiding = true", "demands", "ciphertext"},
	{"", "[guest_policy]\nrequire_page_swap_disabled = true", "demands", "swap"},
	{"", "[guest_policy]\nmin_abi = \"1.55\"", "demands", "1.55"},
	{"", "[platform]\nrequire = [\"ecc\"]\nrefuse = [\"smt\"]\nunknown_bits = \"refuse\"", "demands", "no property that"},
	{"", floors("reported", ""), "demands", "reported firmware"},
	{"", "[mitigations]\ncurrent = 3", "demands", "0x3"},
	{"", "[mitigations]\nlaunch = 5", "demands", "0x5"},
	{"", signedImage + "min_guest_svn = 3", "demands", "is 3 or later"},
	{"", "[image]\nhost_data = [\"" + repeated(1, 32) + "\"]", "demands", "host data"},
	{"", "[image]\nid_key_digests = [\"" + repeated(1, 48) + "\"]", "demands", "ID key"},
	{"", "[image]\nauthor_key_digests = [\"" + repeated(1, 48) + "\"]", "demands", "author key"},
	{"", signedImage + "family_id = \"" + repeated(1, 16) + "\"", "demands", "family"},
	{"", signedImage + "image_id = \"" + repeated(1, 16) + "\"", "demands", "image id"},
	{"", "[[pcr]]\nbank = \"sha256\"\nindex = 4\nvalues = [\"" + repeated(1, 32) + "\"]", "demands", "PCR 4"},
	{"", startValueTable, "dangers", "start_value"},
	{"", app("billing", "unit = \"b.service\"\nuser = \"b\"", "1"), "demands", `"billing", as unit "b.service", as user "b"`},
	{"", app("billing", "user = \"b\"\nusers = [\"c\"]", "1"), "demands", `as no other further user than "c"`},
	{"", app("billing", "user = \"b\"\ndynamic_user = true", "1"), "demands", `as dynamic user "b"`},
	{"", app("billing", "exec = \"gated\"", "1"), "demands", "The gate guarded the application"},
	{"", app("billing", "exec = \"enforced\"", "1"), "demands", "refused to start"},
	{"", listing("gated", 1, 2), "demands", "The gate had one of 2 listed digests"},
	{"", app("billing", "exec = \"gated\"", "1"), "unchecked", "Which program was the gate"},
	{"", app("billing", "interpreter_only = \"refuse\"", "1"), "demands", "more than an interpreter"},
	{"", eventRule("present", "contents = [\"1\"]"), "demands", `The log has an event in the domain "model" with the listed content, of the application "billing"`},
	{"", eventRule("present", ""), "unchecked", `Which program said what the policy demands of the application "billing"`},
	{"", eventRule("absent", "digests = [\""+digestOf("1")+"\"]"), "demands", "The log does not have an event"},
	{"", "[[event]]\ndomain = \"model\"\ndemand = \"absent\"", "demands", "of any application"},
	{"", eventRule("last", "contents = [\"1\", \"2\"]"), "demands", `The last event of the application "billing" in the domain "model" has one of 2 listed contents`},
	{"", eventRule("present", "others = \"refuse\""), "demands", "no event of another application"},
	{"", eventRule("present", ""), "unchecked", "Whether the events of applications are true"},
	{"", eventRule("present", "contents = [\"1\"]"), "demands", `The log has an event in the domain "model" with the listed content, of the application "billing"`},
	{"", eventRule("present", ""), "unchecked", `Which program said what the policy demands of the application "billing"`},
	{"", eventRule("absent", "digests = [\""+digestOf("1")+"\"]"), "demands", "The log does not have an event"},
	{"", "[[event]]\ndomain = \"model\"\ndemand = \"absent\"", "demands", "of any application"},
	{"", eventRule("last", "contents = [\"1\", \"2\"]"), "demands", `The last event of the application "billing" in the domain "model" has one of 2 listed contents`},
	{"", eventRule("present", "others = \"refuse\""), "demands", "no event of another application"},
	{"", eventRule("present", ""), "unchecked", "Whether the events of applications are true"},
	{"", "[agent]\nversions = [\"1.0\"]", "demands", "versions 1.0"},
	{"", "[agent]\ndigests = [\"" + repeated(1, 32) + "\"]", "demands", "the listed digest"},
	{"", "[caller]\nunit = \"b.service\"", "demands", "unit"},
	{"", "[caller]\nuid = 7", "demands", "uid 7"},
	{"", "[caller]\nunit = \"b.service\"\napp = \"b\"\ncovered = true", "demands", "manifest"},
	{"", "[caller]\nkey_proof = true", "demands", "signed the request"},
	{"", "[caller]\nunit = \"b.service\"\nexecutables = [\"" + repeated(1, 32) + "\"]", "demands", "the listed executable"},
	{"", anyParavisor + "[basis]\nhistory = \"tpm\"", "demands", "rest on a TPM that the policy knows"},
	{"", anySystem + "[basis]\nhistory = \"launch\"", "demands", "The log rests on a launch"},
	{"", anySystem + "[basis]\ncaller = \"launch\"", "demands", "Caller and key rest on a launch"},
	{"", anySystem + "[basis]\nall = \"launch\"", "demands", "Nothing that is demanded here"},
	{`unlisted_containers = "refuse"`, "", "demands", "of an application that a [[container]] lists"},
	{"", ledger(), "demands", `a container of the application "ledger"`},
	{"", ledger("required = false"), "demands", "only the listed root file system"},
	{"", ledger(`images = ["` + repeated(1, 32) + `"]`), "demands", "only the listed image"},
	{"", ledger(`declarations = ["` + repeated(1, 32) + `"]`), "demands", `containers of "ledger" only the listed declaration`},
	{"", ledger(`engine = "podman"`), "demands", "run under podman"},
	{"", ledger(`args = ["x"]`), "demands", "with the listed arguments"},
	{"", ledger(), "unchecked", "Which program of its image"},
	{"", ledger("uid = 7"), "demands", "the user that is listed"},
	{"", ledger(`environment = ["PATH"]`), "demands", "no environment variables but those that are listed"},
	{"", ledger(`environment_hashes = ["` + repeated(1, 32) + `"]`), "demands", "a listed environment"},
	{"", ledger(), "unchecked", "Which values the environment"},
	{"", ledger(`capabilities = ["CAP_CHOWN"]`), "demands", "no capabilities but those that are listed"},
	{"", ledger(`seccomp = ["` + repeated(1, 32) + `"]`), "demands", "a listed seccomp filter"},
	{"", ledger(`mounts = ["/data"]`), "dangers", `at "/data" is not measured`},
	{"", ledger(`devices = ["/dev/fuse"]`, `host_namespaces = ["net"]`), "demands", "no devices and namespaces"},
	{"", ledger(), "demands", "share no namespaces with other processes"},
	{"", ledger(`shared_namespaces = ["net"]`), "dangers", `in the namespaces "net"`},
	{"", ledger("all_devices = true"), "dangers", "every device of the machine"},
	{"", ledger("read_only = true"), "demands", "cannot write to their root file system"},
	{"", ledger(), "unchecked", "after it started, and then runs"},
	{"", ledger() + "[caller]\napp = \"ledger\"\ncontainer = \"podman\"", "demands", "in a container of podman"},
	{`binding = "none"`, "", "dangers", "without any vTPM"},
	{`freshness = "any"`, "", "dangers", "any age"},
	{`firmware_log = "required"`, "", "demands", "firmware's log"},
	{trusting(tpmRoot), certified(tpmRoot.certify('e', nil)), "demands", `A certificate of its TPM leads to "CN=TPM root"`},
	{"ek_roots = " + pemText(tpmRoot.cert), certified(tpmRoot.certify('e', nil)), "demands", "If its enrolment contains a certificate"},
	{"ek_roots = " + pemText(tpmRoot.cert), certified(tpmRoot.certify('e', nil)), "unchecked", "withdrew its certificate"},
	{`binding = "svsm"`, "[[launch]]\nmeasurement = \"" + repeated(1, 48) + "\"\nkind = \"svsm\"\ncovers = \"firmware+kernel+cmdline\"", "demands", "the word of the measured SVSM"},
	{"", "[[launch]]\nmeasurement = \"" + repeated(1, 48) + "\"\nkind = \"svsm\"\ncovers = \"firmware+kernel+cmdline\"", "unchecked", "a nonce of 64 bytes"},
	{"", "[[launch]]\nmeasurement = \"" + repeated(1, 48) + "\"\nkind = \"paravisor\"\ncovers = \"firmware\"", "unchecked", "its maker does not publish the image"},
	{"", "[gcp]\nprojects = [\"my-project\", \"4711\"]", "demands", `of one of 2 listed projects: "my-project"; "4711"`},
	{"", "[gcp]\nprojects = [\"my-project\"]", "unchecked", "is that of the machine of the report"},
	{"", "[gcp]\ninstances = [\"12\"]", "demands", "a machine of Google Cloud that is the listed machine"},
	{"", "[gcp]\nprojects = [\"my-project\"]\nzones = [\"europe-west4-a\"]", "demands", `the listed zone: "europe-west4-a"`},
	{"", "[gcp]\nprojects = [\"my-project\"]\nnames = [\"web-1\"]", "demands", `which its owner chose: "web-1"`},
	{"", onGoogle(""), "dangers", "gcp.roots replaces"},
}

// oneOfMany is how a list of one is spoken of as if it were many.
var oneOfMany = regexp.MustCompile(`\bof 1 |\b1 ((listed|denied|known|required) )?[a-z]+s\b`)

// TestExplainNamesEveryRule: each rule of a policy turns up in words, and taking it out
// of the policy takes the words away.
func TestExplainNamesEveryRule(t *testing.T) {
	base := mustPolicy(t, makePolicy("", "")).Explain()
	for _, c := range explained {
		t.Run(c.part+" "+c.words, func(t *testing.T) {
			w := mustPolicy(t, makePolicy(c.root, c.tables)).Explain()
			find := func(w *PolicyWords) bool {
				list := map[string][]string{"demands": w.Demands, "dangers": w.Dangers, "unchecked": w.Unchecked}[c.part]
				for _, s := range list {
					if strings.Contains(s, c.words) {
						return true
					}
				}
				return false
			}
			if !find(w) {
				t.Errorf("%q is not among the %s: %+v", c.words, c.part, w)
			}
			if find(base) {
				t.Errorf("%q is said of a policy without the rule", c.words)
			}
			for _, s := range slices.Concat(w.Demands, w.Dangers, w.Unchecked) {
				if found := oneOfMany.FindString(s); found != "" {
					t.Errorf("says %q: %s", found, s)
				}
			}
		})
	}
}

// TestExplainIsComplete: no key of a policy was forgotten.
func TestExplainIsComplete(t *testing.T) {
	var all strings.Builder
	for _, c := range explained {
		all.WriteString(c.root + "\n" + c.tables + "\n")
	}
	always := []string{"version", "launch.measurement", "launch.kind", "launch.covers", "launch.label", "max_anchor_age", "tcb.PRODUCT.committed", "tcb.PRODUCT.launch", "app.required"}
	for _, key := range policyKeys() {
		name := key[strings.LastIndex(key, ".")+1:]
		if !strings.Contains(all.String(), name+" = ") && !slices.Contains(always, key) {
			t.Errorf("%s: add it to Explain, and to the table here", key)
		}
	}
}
