// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// TestPolicyWithNothingInIt: a list or a table that contains nothing would be ignored, and
// zeros would accept everything without an identity. Each is an error at its line.
func TestPolicyWithNothingInIt(t *testing.T) {
	for _, c := range []struct {
		name, root, tables string
		line               int
		key, message       string
	}{
		{"pcr", "pcr = []", "", 2, "pcr", "is empty"},
		{"app", "app = []", "", 2, "app", "is empty"},
		{"enrolment", "enrolment = []", "", 2, "enrolment", "is empty"},
		{"start value", "start_value = []", "", 2, "start_value", "is empty"},
		{"tcb inline", "tcb = {}", "", 2, "tcb", "is empty"},
		{"tcb", "", "[tcb]", 9, "tcb", "is empty"},
		{"caller", "", "[caller]", 9, "caller", "is empty"},
		{"agent", "", "[agent]", 9, "agent", "is empty"},
		{"gate", "", "[gate]", 9, "gate", "is empty"},
		{"a gate of no application", "", app("a", "", "1") + "\n[gate]\ndigests = [\"" + repeated(1, 32) + "\"]", 15, "gate.digests", "one must ask for it"},
		{"mitigations", "", "[mitigations]", 9, "mitigations", "is empty"},
		{"guest policy", "", "[guest_policy]", 9, "guest_policy", "is empty"},
		{"image", "image = {}", "", 2, "image", "is empty"},
		{"platform", "", "[platform]\n# nothing", 9, "platform", "is empty"},
		{"one floor of two", "", "[tcb.genoa]\nreported = {}\n" + strings.TrimPrefix(floors("committed", ""), "[tcb.genoa]\n"), 10, "tcb.genoa.reported", "missing"},
		{"zero chip", `chips = ["` + repeated(0, 64) + `"]`, "", 2, "chips[0]", "zero"},
		{"zero chip of Turin", `chips = ["` + repeated(1, 8) + `", "` + repeated(0, 8) + `"]`, "", 2, "chips[1]", "zero"},
		{"zero chip denied", `denied_chips = ["` + repeated(0, 64) + `"]`, "", 2, "denied_chips[0]", "zero"},
		{"zero measurement denied", `denied_measurements = ["` + repeated(0, 48) + `"]`, "", 2, "denied_measurements[0]", "zero"},
		{"zero measurement", "", "[[launch]]\nmeasurement = \"" + repeated(0, 48) + "\"\nkind = \"plain\"\ncovers = \"firmware\"", 10, "launch[1].measurement", "zero"},
		{"no ID key", "", "[image]\nid_key_digests = [\"" + repeated(0, 48) + "\"]", 10, "image.id_key_digests[0]", "zero"},
		{"no author key", "", "[image]\nauthor_key_digests = [\"" + repeated(0, 48) + "\"]", 10, "image.author_key_digests[0]", "zero"},
		{"denied chips that a VLEK hides", anyVLEK + "\ndenied_chips = [\"" + repeated(1, 64) + "\"]", "", 4, "denied_chips", "vlek"},
		{"chips that a VLEK hides", anyVLEK + "\nchips = [\"" + repeated(1, 64) + "\"]", "", 4, "chips", "vlek"},
		{"VLEK of any cloud", "signers = [\"vcek\", \"vlek\"]", "", 2, "signers", "vlek_csps"},
		{"clouds without VLEK", "vlek_csps = [\"test cloud 1\"]", "", 2, "vlek_csps", "vlek"},
		{"more keys than any table has", "", "[tcb]\n" + manyKeys(), 266, "tcb.p256", "more than 256"},
		{"ABI of nothing", "", "[guest_policy]\nmin_abi = \"0.0\"", 10, "guest_policy.min_abi", "demands nothing"},
		{"ABI in another spelling", "", "[guest_policy]\nmin_abi = \"01.55\"", 10, "guest_policy.min_abi", "form"},
		{"mitigations at launch of nothing", "", "[mitigations]\nlaunch = 0\ncurrent = 1", 10, "mitigations.launch", "demands nothing"},
		{"mitigations of nothing", "", "[mitigations]\ncurrent = 0", 10, "mitigations.current", "demands nothing"},
		{"security version of nothing", "", signedImage + "min_guest_svn = 0", 11, "image.min_guest_svn", "demands nothing"},
		{"floors of nothing", "", "[tcb.genoa]\nreported = { bootloader = 0, tee = 0, snp = 0, microcode = 0 }\n" + strings.TrimPrefix(floors("committed", ""), "[tcb.genoa]\n"), 10, "tcb.genoa.reported", "every floor is 0"},
		{"zero start value", "", strings.ReplaceAll(startValueTable, "01", "00"), 12, "start_value[0].value", "accepted anyway"},
		{"start value twice", "", startValueTable + startValueTable, 16, "start_value[1].value", "twice"},
		{"no digest of an application", "", "[[app]]\nname = \"a\"\ndigests = [\"" + repeated(0, 32) + "\"]", 11, "app[0].digests[0]", "zero"},
		{"further users without the user", "", app("a", "users = [\"b\"]", "1"), 12, "app[0].users", "app.user must be given too"},
		{"a dynamic user without the user", "", app("a", "dynamic_user = true", "1"), 12, "app[0].dynamic_user", "app.user, which must be given too"},
		{"the first dynamic uid of any unit", "", "[caller]\nuid = 61184", 10, "caller.uid", "caller.unit must be given too"},
		{"the last dynamic uid of any unit", "", "[caller]\nuid = 65519", 10, "caller.uid", "caller.unit must be given too"},
		{"no digest of an agent", "", "[agent]\ndigests = [\"" + repeated(0, 32) + "\"]", 10, "agent.digests[0]", "zero"},
		{"no digest of a gate", "", app("a", "exec = \"gated\"", "1") + "\n[gate]\ndigests = [\"" + repeated(0, 32) + "\"]", 15, "gate.digests[0]", "zero"},
		{"no digest of a caller", "", "[caller]\nunit = \"u\"\nexecutables = [\"" + repeated(0, 32) + "\"]", 11, "caller.executables[0]", "zero"},
		{"no family", "", signedImage + "family_id = \"" + repeated(0, 16) + "\"", 11, "image.family_id", "zero"},
		{"no image", "", signedImage + "image_id = \"" + repeated(0, 16) + "\"", 11, "image.image_id", "zero"},
		{"family signed by any key", "", "[image]\nfamily_id = \"" + repeated(1, 16) + "\"", 10, "image.family_id", "a key of its own"},
		{"image signed by any key", "", "[image]\nimage_id = \"" + repeated(1, 16) + "\"", 10, "image.image_id", "a key of its own"},
		{"security version signed by any key", "", "[image]\nmin_guest_svn = 1", 10, "image.min_guest_svn", "a key of its own"},
		{"key of no algorithm", `ak_names = ["0004` + repeated(1, 32) + `"]`, "", 2, "ak_names[0]", "no key is named so"},
		{"key of another algorithm", `ak_names = ["000c` + repeated(1, 32) + `"]`, "", 2, "ak_names[0]", "no key is named so"},
		{"chip of Turin denied without Turin", "products = [\"genoa\"]\ndenied_chips = [\"" + repeated(1, 8) + "\"]", "", 3, "denied_chips[0]", "turin"},
		{"chip of Turin without Turin", "products = [\"genoa\"]\nchips = [\"" + repeated(1, 8) + repeated(0, 56) + "\"]", "", 3, "chips[0]", "turin"},
		{"chip of another line denied on Turin", "products = [\"turin\"]\ndenied_chips = [\"" + repeated(1, 64) + "\"]", "", 3, "denied_chips[0]", "8 bytes"},
		{"chip twice", `chips = ["` + repeated(1, 8) + `", "` + repeated(1, 8) + repeated(0, 56) + `"]`, "", 2, "chips[1]", "twice"},
		{"chip listed and denied", "chips = [\"" + repeated(1, 64) + "\"]\ndenied_chips = [\"" + repeated(1, 64) + "\"]", "", 2, "chips[0]", "denied_chips"},
		{"chip of Turin listed and denied", "chips = [\"" + repeated(1, 8) + repeated(0, 56) + "\"]\ndenied_chips = [\"" + repeated(1, 8) + "\"]", "", 2, "chips[0]", "denied_chips"},
		{"root of TPMs twice", "ek_roots = " + pemText(tpmRoot.cert, tpmRoot.cert), certified(tpmRoot.certify('e', nil)), 2, "ek_roots", "twice"},
		{"gcp", "gcp = {}", "", 2, "gcp", "is empty"},
		{"any machine of Google in a zone", "", "[gcp]\nzones = [\"a\"]", 10, "gcp.zones", "everybody can rent"},
		{"any machine of Google with a name", "", "[gcp]\nnames = [\"a\"]", 10, "gcp.names", "everybody can rent"},
		{"machine of Google by no number", "", "[gcp]\ninstances = [\"0x12\"]", 10, "gcp.instances[0]", "decimal"},
		{"machine of Google in another spelling", "", "[gcp]\ninstances = [\"012\"]", 10, "gcp.instances[0]", "decimal"},
		{"roots that are none", "", "[gcp]\nprojects = [\"a\"]\nroots = \"x\"", 11, "gcp.roots", "PEM"},
		{"ima", "", "[ima]", 9, "ima", "is empty"},
		{"files of IMA", "ima_files = []", "", 2, "ima_files", "is empty"},
		{"files of nothing", "", "[[ima_files]]\npath = \"/x\"", 9, "ima_files[0]", "want digests"},
		{"files at no path", "", imaPolicy + "path = \"\"", 11, "ima_files[0].path", "is empty"},
		{"files with no digest", "", "[[ima_files]]\ndigests = []", 10, "ima_files[0].digests", "is empty"},
		{"any file anywhere", "", "[[ima_files]]\nany_digest = true", 10, "ima_files[0].any_digest", "accepts everything"},
		{"any file and some", "", imaPolicy + "path = \"/x\"\nany_digest = true", 12, "ima_files[0].any_digest", "give one of the two"},
		{"one digest twice", "", "[[ima_files]]\ndigests = [\"sha256:" + repeated(1, 32) + "\", \"sha256:" + repeated(1, 32) + "\"]", 10, "ima_files[0].digests[1]", "twice"},
		{"one path twice", "", "[[ima_files]]\npath = \"/x\"\nany_digest = true\n[[ima_files]]\npath = \"/x\"\nany_digest = true", 13, "ima_files[1].path", "twice"},
		{"digest of SHA-1", "", "[[ima_files]]\ndigests = [\"sha1:" + repeated(1, 20) + "\"]", 10, "ima_files[0].digests[0]", "Collisions"},
		{"digest without a name", "", "[[ima_files]]\ndigests = [\"" + repeated(1, 32) + "\"]", 10, "ima_files[0].digests[0]", "does not begin"},
		{"digest of another size", "", "[[ima_files]]\ndigests = [\"sha256:" + repeated(1, 31) + "\"]", 10, "ima_files[0].digests[0]", "31 bytes"},
		{"no reference", "", "[[ima_files]]\nreference = \"" + repeated(0, 32) + "\"", 10, "ima_files[0].reference", "zero"},
		{"a long pattern", "", "[[ima_files]]\npath = \"/" + strings.Repeat("x", 256) + "*\"\nany_digest = true", 10, "ima_files[0].path", "at most 256"},
		{"more patterns than each entry can be compared with", "", manyPatterns(), 778, "ima_files[256].path", "more than 256"},
		{"keys that are none", "", "[ima]\nkeys = \"x\"", 10, "ima.keys", "PEM"},
		{"nothing is listed", "", "[ima]\nlist = \"required\"", 9, "ima", "every evidence would be refused"},
		{"a list, and the rest is allowed", "", imaPolicy + "[ima]\nunlisted = \"allow\"", 12, "ima.unlisted", "would mean nothing"},
		{"event", "event = []", "", 2, "event", "is empty"},
		{"an event of no domain", "", "[[event]]\ndemand = \"absent\"", 9, "event[0]", "domain is missing"},
		{"an event in an empty domain", "", eventTable("", "absent", ""), 10, "event[0].domain", "size 0"},
		{"an event of the agent", "", eventTable("agentd/app", "absent", ""), 10, "event[0].domain", "the agent's own"},
		{"an event without a demand", "", "[[event]]\ndomain = \"a\"", 9, "event[0]", "demand is missing"},
		{"an event of any application", "", eventTable("a", "present", ""), 9, "event[0].app", "must name the one that is trusted"},
		{"others of no application", "", eventTable("a", "absent", "others = \"refuse\""), 12, "event[0].others", "no others"},
		{"any last event", "", eventTable("a", "last", "app = \"b\""), 9, "event[0]", "lists neither"},
		{"no event, and no others", "", eventTable("a", "absent", "app = \"b\"\nothers = \"refuse\""), 13, "event[0].others", "of no application"},
		{"no content", "", eventTable("a", "absent", "contents = []"), 12, "event[0].contents", "the list is empty"},
		{"an empty content", "", eventTable("a", "absent", "contents = [\"\"]"), 12, "event[0].contents[0]", "0 bytes"},
		{"a long content", "", eventTable("a", "absent", "contents = [\""+strings.Repeat("x", 1025)+"\"]"), 12, "event[0].contents[0]", "1025 bytes"},
		{"a content twice", "", eventTable("a", "absent", "contents = [\"x\", \"x\"]"), 12, "event[0].contents[1]", "twice"},
		{"a short digest", "", eventTable("a", "absent", "digests = [\"00\"]"), 12, "event[0].digests[0]", "1 bytes"},
		{"events without a log", "log = \"optional\"", eventTable("a", "absent", ""), 2, "log", "event depends on the log"},
		{"a quoted key", `"pcr[0]" = 1`, "", 2, "pcr[0]", "unknown key"},
		{"a table below a value", "version.x = 1", "", 2, "version.x", "unknown key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParsePolicy([]byte(makePolicy(c.root, c.tables)))
			var e *PolicyError
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if e.Line != c.line || e.Key != c.key || !strings.Contains(e.Message, c.message) {
				t.Errorf("got %v, want %q at line %d of %q", err, c.message, c.line, c.key)
			}
		})
	}
}

// eventTable is an [[event]] of any application.
func eventTable(domain, demand, extra string) string {
	return fmt.Sprintf("[[event]]\ndomain = %q\ndemand = %q\n%s\n", domain, demand, extra)
}

// TestPolicyThatNothingMeets: rules that contradict each other are errors at the rule.
func TestPolicyThatNothingMeets(t *testing.T) {
	for _, c := range []struct{ name, root, key, tables string }{
		{"another VMPL", "log = \"optional\"\nvmpl = [1, 2]", "vmpl", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			launch := strings.Replace(makePolicy("binding = \"paravisor\"\n"+c.root, c.tables), `"plain"`, `"paravisor"`, 1)
			_, err := ParsePolicy([]byte(launch))
			var e *PolicyError
			if !errors.As(err, &e) || e.Key != c.key || !strings.Contains(e.Message, "every evidence would be refused") {
				t.Errorf("got %v, want an error of %q", err, c.key)
			}
		})
	}
}

func manyPatterns() string {
	var b strings.Builder
	for i := range 257 {
		fmt.Fprintf(&b, "[[ima_files]]\npath = \"/%d*\"\nany_digest = true\n", i)
	}
	return b.String()
}

func manyKeys() string {
	var b strings.Builder
	for i := range 257 {
		fmt.Fprintf(&b, "p%d = {}\n", i)
	}
	return b.String()
}

// TestZeroHostDataIsARule: unlike an identity, host data of zeros is a state that
// a policy may want: the host gave none.
func TestZeroHostDataIsARule(t *testing.T) {
	mustPolicy(t, makePolicy("", "[image]\nhost_data = [\""+repeated(0, 32)+"\"]"))
}

// TestLargePolicy: a list of a hundred thousand values is read. What that takes is in
// proportion to its length; when it was not, this took ten minutes.
func TestLargePolicy(t *testing.T) {
	var b bytes.Buffer
	n := 0
	for b.Len() < MaxPolicy/4 {
		fmt.Fprintf(&b, "\"%x\",\n", n)
		n++
	}
	p := mustPolicy(t, makePolicy("", "[agent]\nversions = ["+b.String()+"]"))
	if len(p.Agent.Versions) != n {
		t.Errorf("%d of %d", len(p.Agent.Versions), n)
	}
	if _, err := ParsePolicy([]byte(makePolicy("", "[agent]\nversions = ["+b.String()+"\"0\"]"))); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("got %v", err)
	}
}

// TestPolicyOfManyTables: rules beyond any number of keys of one table, and unknown keys
// in each of them, which are refused at the first.
func TestPolicyOfManyTables(t *testing.T) {
	var b strings.Builder
	const n = 10000
	for i := range n {
		fmt.Fprintf(&b, "[[launch]]\nmeasurement = \"%096x\"\nkind = \"plain\"\ncovers = \"firmware\"\n", i+1)
	}
	if p := mustPolicy(t, makePolicy("", b.String())); len(p.Launches) != n+1 {
		t.Errorf("%d launches", len(p.Launches))
	}
	for _, key := range []string{"kin", `"kind[0]"`} {
		_, err := ParsePolicy([]byte(makePolicy("", strings.ReplaceAll(b.String(), "kind", key))))
		var e *PolicyError
		if !errors.As(err, &e) || e.Key != "launch[1]."+strings.Trim(key, `"`) {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

// TestDraftWithoutImage: a machine whose owner signed nothing gives a policy all the same.
func TestDraftWithoutImage(t *testing.T) {
	r := evidencetest.New()
	body(func(b []byte) {
		clear(b[evidencetest.AtGuestSVN : evidencetest.AtGuestSVN+4])
		for at, n := range map[int]int{evidencetest.AtFamilyID: 16, evidencetest.AtImageID: 16, evidencetest.AtHostData: 32, evidencetest.AtIDKey: 48, evidencetest.AtAuthorKey: 48} {
			clear(b[at : at+n])
		}
	})(t, r)
	text, a, err := draftOf(t, DraftPolicy, r.Encode(t))
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	if strings.Contains(string(text), "\n[image]") {
		t.Errorf("an empty table is in %s", text)
	}
	mustPolicy(t, string(text))
}
