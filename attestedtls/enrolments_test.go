// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"crypto/sha256"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// listed returns a set with the enrolment of the AK of a machine: approved by a party, or pending if by
// names none.
func listed(t *testing.T, by string) *keys.Enrolments {
	t.Helper()
	digest := sha256.Sum256(evidencetest.New().AK.Public())
	ak := append(keys.Name{0x00, 0x0b}, digest[:]...) // nameAlg SHA-256 (TPM 2.0 library, part 1, section 14)
	l, err := keys.NewListed(&keys.Enrolment{Type: keys.EnrolmentType, EK: ak, AK: ak, EKIssuer: keys.NoIssuer, Enrolled: evidencetest.Time}, by, evidencetest.Time)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	set, err := keys.ParseEnrolments(b)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// apart is a policy that looks at enrolments apart from it.
func apart(t *testing.T) *verify.Policy {
	t.Helper()
	return policy(t, anchored+"outside_enrolments = \"approved\"\n", rules)
}

// given returns the trust of a verifier that was given a set.
func given(t *testing.T, set *keys.Enrolments) verify.Config {
	t.Helper()
	c := trust(t)
	c.Enrolments = set
	return c
}

// TestEnrolmentsApart: a verifier looks at enrolments apart from its policy, if that says so, and the
// verdict names the set.
func TestEnrolmentsApart(t *testing.T) {
	for _, c := range []struct {
		name string
		set  *keys.Enrolments
		want Code
	}{
		{"approved", listed(t, "alice"), ""},
		{"pending", listed(t, ""), CodePolicy},
		{"no set", nil, CodePolicy},
	} {
		client, s := honest(t, nil)
		client.Verifier = verifierOf(t, apart(t), func(o *VerifierOptions) { o.Config.Enrolments = c.set })
		if c.want != "" {
			t.Run(c.name, func(t *testing.T) { refusedByClient(t, c.want, client, s) })
			continue
		}
		conn, _, ours, theirs := meet(t, client, s)
		if ours != nil || theirs != nil {
			t.Fatalf("%s: %v, %v", c.name, ours, theirs)
		}
		if used := conn.Verdict().Appraisal.Enrolments; used == nil || used.Digest != c.set.Digest().String() || used.By != "alice" {
			t.Errorf("%s: the verdict names %+v", c.name, used)
		}
	}
}

// TestEnrolmentsReplaced: a set in which a machine does not count any more ends open connections to it,
// and no new one rests on what the set of before accepted.
func TestEnrolmentsReplaced(t *testing.T) {
	p := newPair(t, true, false, MaxContinue)
	p.Client.Verifier = verifierOf(t, apart(t), func(o *VerifierOptions) {
		o.Config.Enrolments, o.Continue, o.Now, o.JudgeOpen = listed(t, "alice"), MaxContinue, p.here.now, true
	})
	p.connects(t, false, false)
	p.connects(t, true, false)
	closed, err := p.Client.Verifier.Replace(apart(t), given(t, listed(t, "bob")))
	if err != nil || closed != 0 {
		t.Fatalf("another set with the machine: closed %d, %v", closed, err)
	}
	open, _ := p.connects(t, true, false)
	if used := open.Verdict().Appraisal.Enrolments; used == nil || used.By != "bob" {
		t.Errorf("the verdict names %+v", used)
	}
	closed, err = p.Client.Verifier.Replace(apart(t), given(t, listed(t, "")))
	if err != nil || closed != 3 {
		t.Errorf("a set in which the machine is pending: closed %d, %v, want 3", closed, err)
	}
	_, _, ours, theirs := meet(t, p.Client, p.Server)
	has(t, ours, CodePolicy, false)
	has(t, theirs, CodePolicy, true)
}
