// SPDX-License-Identifier: Apache-2.0

package imapolicy

import (
	"strings"
	"testing"
)

// Uses of a file in an ordinary file system, by an application.
var (
	executed = Use{Func: "BPRM_CHECK", Mask: "MAY_EXEC", UID: 990, FileSystem: 0xef53}
	mapped   = Use{Func: "MMAP_CHECK", Mask: "MAY_EXEC", UID: 990, FileSystem: 0xef53}
	read     = Use{Func: "FILE_CHECK", Mask: "MAY_READ", UID: 990, FileSystem: 0xef53}
)

// by returns a use by another user.
func by(u Use, uid uint32) Use { u.UID = uid; return u }

// on returns a use of a file in another file system.
func on(u Use, magic uint32) Use { u.FileSystem = magic; return u }

// owned returns a use of a file of this owner and group.
func owned(u Use, owner, group uint32) Use { u.Owner, u.Group = owner, group; return u }

// TestMeasures: the first rule whose conditions are met decides; one that is not understood leaves
// the answer open.
func TestMeasures(t *testing.T) {
	for _, c := range []struct {
		name, policy string
		use          Use
		want         Answer
	}{
		{"nothing", "", executed, No},
		{"comments", "# measure\n\n  # x\n", executed, No},
		{"everything", "measure\n", read, Yes},
		{"a program", tcb, executed, Yes},
		{"a library", tcb, mapped, Yes},
		{"by its older name", "measure func=FILE_MMAP mask=MAY_EXEC\n", mapped, Yes},
		{"a file that an application reads", tcb, read, No},
		{"a file that root reads", tcb, by(read, 0), Yes},
		{"a program in proc", tcb, on(executed, 0x9fa0), No},
		{"a program in memory", tcb, on(executed, 0x1021994), Yes},
		{"a file in memory that root reads", tcb, on(by(read, 0), 0x1021994), No},
		{"first one decides", "dont_measure fowner=5\nmeasure func=BPRM_CHECK\n", owned(executed, 5, 0), No},
		{"first one of another owner", "dont_measure fowner=5\nmeasure func=BPRM_CHECK\n", owned(executed, 6, 0), Yes},
		{"uid above", "measure uid>989\n", read, Yes},
		{"uid not above", "measure uid>990\n", read, No},
		{"uid below", "measure euid<991\n", read, Yes},
		{"group", "measure fgroup=7\n", owned(read, 0, 7), Yes},
		{"other rules", "appraise func=BPRM_CHECK\naudit func=BPRM_CHECK\nhash func=FILE_CHECK\ndont_hash fsmagic=0x1\ndont_appraise fsmagic=0x1\n", executed, No},
		{"how, not what", "measure func=BPRM_CHECK template=ima-sig pcr=10 permit_directio digest_type=verity\n", executed, Yes},
		{"a label", "measure func=BPRM_CHECK subj_type=init_t\n", executed, Unknown},
		{"a label of another use", "measure func=MMAP_CHECK subj_type=init_t\n", executed, No},
		{"a label after the decision", "measure func=BPRM_CHECK\ndont_measure obj_type=x\n", executed, Yes},
		{"a label before the decision", "dont_measure obj_type=x\nmeasure func=BPRM_CHECK\n", executed, Unknown},
		{"a word that is not a number", "measure uid=x\n", read, Unknown},
		{"a magic that is not a number", "measure fsmagic=0xx\n", read, Unknown},
		{"a word without a value", "measure something\n", read, Unknown},
	} {
		p, err := Parse([]byte(c.policy))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := p.Measures(c.use); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestParseRefuses: what is not a policy is not read as one that measures nothing.
func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"measured\n", "func=BPRM_CHECK measure\n", strings.Repeat("#", MaxPolicy+1)} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%.40q is a policy", text)
		}
	}
}

// TestOf: the command line chooses a policy.
func TestOf(t *testing.T) {
	for line, want := range map[string]string{
		"root=/dev/vda quiet":                      "",
		"root=/dev/vda ima_policy=tcb quiet":       "ima_policy=tcb",
		"ima_policy=critical_data|tcb":             "ima_policy=critical_data|tcb",
		"ima_policy=appraise_tcb ima_policy=tcb":   "ima_policy=tcb",
		"ima_policy=appraise_tcb":                  "",
		"ima_tcb":                                  "ima_tcb",
		"ima_policy=tcbx ima_hash=sha384 xima_tcb": "",
	} {
		p, word := Of(line)
		if word != want || (p.Measures(executed) == Yes) != (want != "") {
			t.Errorf("%q: %q, %d rules", line, word, len(p.rules))
		}
	}
}

// TestFragment: the policy for applications measures what each reads of its own, and no more.
func TestFragment(t *testing.T) {
	text := Fragment([]App{{Name: "billing", UIDs: []uint32{990, 0}, Owners: []uint32{0, 5}}, {Name: "again", UIDs: []uint32{990}, Owners: []uint32{5}}})
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for use, want := range map[Use]Answer{
		executed: Yes, mapped: Yes, owned(read, 0, 0): Yes, owned(read, 5, 5): Yes, owned(read, 990, 990): No,
		by(owned(read, 0, 0), 991): No, by(owned(read, 9, 0), 0): Yes,
	} {
		if got := p.Measures(use); got != want {
			t.Errorf("%+v: %v, want %v\n%s", use, got, want, text)
		}
	}
	if strings.Count(text, "uid=990 fowner=5") != 1 || strings.Count(text, "uid=0 fowner") != 0 {
		t.Errorf("a rule twice, or one that is not needed:\n%s", text)
	}
}

// FuzzParse: a policy of any bytes is read or refused, and answers every use.
func FuzzParse(f *testing.F) {
	f.Add([]byte(tcb))
	f.Add([]byte("measure uid<1 fowner>2 obj_type=x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		for _, u := range []Use{executed, mapped, read} {
			if a := p.Measures(u); a == Yes && len(p.rules) == 0 {
				t.Error("no rule measures")
			}
		}
	})
}
