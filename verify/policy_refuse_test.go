package verify

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// TestPolicyWithNothingInIt: a list or a table that holds nothing would be passed over,
// and so would zeros that anything without an identity shows. Each is an error at its line.
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
		{"denied chips that a VLEK hides", "signers = [\"vcek\", \"vlek\"]\ndenied_chips = [\"" + repeated(1, 64) + "\"]", "", 3, "denied_chips", "vlek"},
		{"more keys than any table has", "", "[tcb]\n" + manyKeys(), 266, "tcb.p256", "more than 256"},
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

func manyKeys() string {
	var b strings.Builder
	for i := range 257 {
		fmt.Fprintf(&b, "p%d = {}\n", i)
	}
	return b.String()
}

// TestZeroHostDataIsARule: unlike an identity, host data of zeros is a state that
// somebody may want: the host gave none.
func TestZeroHostDataIsARule(t *testing.T) {
	mustPolicy(t, makePolicy("", "[image]\nhost_data = [\""+repeated(0, 32)+"\"]"))
}

// TestPlaces: where a part of the text stands is what the parser says, at each offset.
func TestPlaces(t *testing.T) {
	for _, text := range []string{"", "\n", "a", "a\n", "\n\nab\n\ncd", "version = 1\r\n\r\nvmpl = [0]\n"} {
		l := locator{lines: lineStarts([]byte(text))}
		var p unstable.Parser
		p.Reset([]byte(text))
		for i := range len(text) + 1 {
			r := unstable.Range{Offset: uint32(i)}
			if got, want := l.place(r), p.Shape(r).Start; got != want {
				t.Errorf("%q, offset %d: %+v, want %+v", text, i, got, want)
			}
		}
	}
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
	if len(p.agent.versions) != n {
		t.Errorf("%d of %d", len(p.agent.versions), n)
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
	if p := mustPolicy(t, makePolicy("", b.String())); len(p.launches) != n+1 {
		t.Errorf("%d launches", len(p.launches))
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
	text, a, err := DraftPolicy(r.Encode(t), surveyOptions(t))
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	if strings.Contains(string(text), "\n[image]") {
		t.Errorf("an empty table is in %s", text)
	}
	mustPolicy(t, string(text))
}
