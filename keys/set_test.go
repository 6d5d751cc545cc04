// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/keys"
)

// numbered returns an enrolment whose keys are named by a number.
func numbered(n int) *keys.Enrolment {
	name := append([]byte{0x00, 0x0b}, make([]byte, 32)...)
	binary.BigEndian.PutUint32(name[30:], uint32(n))
	return &keys.Enrolment{Type: keys.EnrolmentType, EK: name, AK: name, EKIssuer: keys.NoIssuer, Enrolled: time.Unix(1_800_000_000, 0).UTC()}
}

// lines returns a list of n enrolments, each second one approved.
func lines(tb testing.TB, n int) []byte {
	var out bytes.Buffer
	for i := range n {
		by := ""
		if i%2 == 1 {
			by = "alice"
		}
		l, err := keys.NewListed(numbered(i), by, time.Unix(1_800_000_000, 5))
		if err != nil {
			tb.Fatal(err)
		}
		b, err := l.Encode()
		if err != nil {
			tb.Fatal(err)
		}
		out.Write(b)
	}
	return out.Bytes()
}

// TestEnrolments: what was listed is found by its key, and the digest names the set, whatever the order
// and the files of its lines.
func TestEnrolments(t *testing.T) {
	list := lines(t, 4)
	set, err := keys.ParseEnrolments(list)
	if err != nil || set.Len() != 4 {
		t.Fatalf("%v, %d", err, set.Len())
	}
	for i := range 5 {
		l, err := set.Find(numbered(i).AK)
		switch {
		case err != nil || (l == nil) != (i == 4):
			t.Errorf("%d: %v, %v", i, l, err)
		case l != nil && (!l.Enrolment.AK.Equal(numbered(i).AK) || l.State == keys.Approved != (i%2 == 1) || l.By == "alice" != (i%2 == 1)):
			t.Errorf("%d: %+v", i, l)
		}
	}
	n := 0
	for l, err := range set.All() {
		if err != nil || !l.Enrolment.AK.Equal(numbered(n).AK) {
			t.Errorf("%d: %+v, %v", n, l, err)
		}
		n++
	}
	parts := bytes.SplitAfter(list, []byte("\n"))
	other, err := keys.CollectEnrolments(func(yield func(string, []byte) bool) {
		_ = yield("b", append([]byte("\n  "), parts[3]...)) && yield("a", bytes.TrimSpace(bytes.Join([][]byte{parts[1], parts[0], parts[2]}, nil)))
	})
	if err != nil || other.Digest() != set.Digest() {
		t.Errorf("%v: %s, want %s", err, other.Digest(), set.Digest())
	}
	less, err := keys.ParseEnrolments(bytes.Join(parts[:3], nil))
	if err != nil || less.Digest() == set.Digest() {
		t.Errorf("%v: another set has the same digest", err)
	}
	if empty, err := keys.ParseEnrolments(nil); err != nil || empty.Len() != 0 || empty.Digest() == less.Digest() {
		t.Errorf("%v", err)
	}
}

// TestDigestOfSet computes the digest of a set as docs/policy.md says.
func TestDigestOfSet(t *testing.T) {
	list := lines(t, 3)
	set, err := keys.ParseEnrolments(list)
	if err != nil {
		t.Fatal(err)
	}
	all := []byte("agentd/enrolments/1\x00")
	for line := range bytes.Lines(list) { // in the order of the names already
		sum := sha256.Sum256(bytes.TrimSpace(line))
		all = append(all, sum[:]...)
	}
	if want := sha256.Sum256(all); set.Digest() != want {
		t.Errorf("%s, want %x", set.Digest(), want)
	}
}

// TestEnrolmentsNameTheFile: an error of one of several texts says in which it is.
func TestEnrolmentsNameTheFile(t *testing.T) {
	list := lines(t, 1)
	_, err := keys.CollectEnrolments(func(yield func(string, []byte) bool) { _ = yield("a.json", list) && yield("b.json", list) })
	if err == nil || !strings.Contains(err.Error(), "b.json, line 1") || !strings.Contains(err.Error(), numbered(0).AK.String()) {
		t.Errorf("%v", err)
	}
}

// TestEnrolmentsRefused: one fault each, in the second line.
func TestEnrolmentsRefused(t *testing.T) {
	list := lines(t, 2)
	first, second, _ := bytes.Cut(list, []byte("\n"))
	for name, change := range map[string]func(string) string{
		"not JSON":          func(string) string { return "x" },
		"unknown member":    func(s string) string { return strings.Replace(s, `"state"`, `"more":1,"state"`, 1) },
		"unknown state":     func(s string) string { return strings.Replace(s, `"approved"`, `"good"`, 1) },
		"pending by a name": func(s string) string { return strings.Replace(s, `"approved"`, `"pending"`, 1) },
		"approved by none":  func(s string) string { return strings.Replace(s, `"by":"alice",`, "", 1) },
		"long name":         func(s string) string { return strings.Replace(s, "alice", strings.Repeat("a", keys.MaxBy+1), 1) },
		"name with control": func(s string) string { return strings.Replace(s, "alice", `a\u001b[2J`, 1) },
		"no time": func(s string) string {
			return strings.Replace(s, `"since":"`, `"since":"0001-01-01T00:00:00Z","x":"`, 1)
		},
		"zero time": func(s string) string {
			i := strings.Index(s, `"since":"`)
			return s[:i] + `"since":"0001-01-01T00:00:00Z"}`
		},
		"unknown type":  func(s string) string { return strings.Replace(s, keys.ListedType, "agentd/listed-enrolment/2", 1) },
		"record's type": func(s string) string { return strings.Replace(s, keys.EnrolmentType, "agentd/enrolment/9", 1) },
		"short key":     func(s string) string { return strings.Replace(s, `"ak":"000b00`, `"ak":"000b`, 1) },
		"too large": func(s string) string {
			return strings.Replace(s, `"ekIssuer":"none"`, `"ekIssuer":"none","ekCertificates":"`+strings.Repeat("a", keys.MaxListed)+`"`, 1)
		},
		"twice": func(string) string { return string(first) },
		"in the old form": func(s string) string {
			return strings.Replace(s, `"ekIssuer":"none"`, `"ekIssuer":"none","ekCertificates":"x"`, 1)
		},
	} {
		changed := change(string(second))
		if name == "in the old form" {
			changed = strings.Replace(changed, keys.EnrolmentType, keys.FirstEnrolmentType, 1)
		}
		_, err := keys.ParseEnrolments([]byte(string(first) + "\n" + changed))
		if err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %v", name, err)
		}
		if l, err := keys.ParseListed([]byte(changed)); err == nil && name != "twice" {
			t.Errorf("%s, by itself: %+v", name, l)
		}
	}
	for _, by := range []string{"a\nb", strings.Repeat("a", keys.MaxBy+1)} {
		if l, err := keys.NewListed(numbered(1), by, time.Now()); err == nil {
			t.Errorf("listed by %q", l.By)
		}
	}
	if l, err := keys.NewListed(numbered(1), "alice", time.Unix(1_800_000_000, 999_999_999)); err != nil || !l.Since.Equal(time.Unix(1_800_000_000, 0)) {
		t.Errorf("%+v, %v: want whole seconds", l, err)
	}
	if _, err := keys.NewListed(&keys.Enrolment{}, "alice", time.Now()); err == nil {
		t.Error("an empty record was listed")
	}
}

// TestBrokenCertificates: a list is read without its certificates, and the enrolment that is looked for
// is refused if they cannot be read.
func TestBrokenCertificates(t *testing.T) {
	list := strings.Replace(string(lines(t, 1)), `"ekIssuer":"none"`, `"ekIssuer":"none","ekCertificates":"garbage"`, 1)
	set, err := keys.ParseEnrolments([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	if l, err := set.Find(numbered(0).AK); err == nil {
		t.Errorf("found %+v", l)
	}
}

// FuzzEnrolments: a list is refused, or each enrolment of it is found and written again.
func FuzzEnrolments(f *testing.F) {
	f.Add(lines(f, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := keys.ParseEnrolments(b)
		if err != nil {
			return
		}
		for l, err := range set.All() {
			if err != nil {
				continue
			}
			again, err := l.Encode()
			if err != nil {
				t.Fatal(err)
			}
			one, err := keys.ParseEnrolments(again)
			if err != nil || one.Len() != 1 {
				t.Errorf("%v\n%s", err, again)
			}
		}
	})
}

// BenchmarkEnrolments compares a set of 100,000 with one of 1,000, to load and to find in: the second
// ratio is 1 if a look does not depend on the size. It also compares loading with a plain decoder.
func BenchmarkEnrolments(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		list := lines(b, n)
		b.Run(fmt.Sprintf("load/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(list)))
			for b.Loop() {
				if _, err := keys.ParseEnrolments(list); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("plain/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(list)))
			for b.Loop() {
				for line := range bytes.Lines(list) {
					if err := json.Unmarshal(line, new(keys.Listed)); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		set, err := keys.ParseEnrolments(list)
		if err != nil {
			b.Fatal(err)
		}
		ak := numbered(n / 2).AK
		b.Run(fmt.Sprintf("find/%d", n), func(b *testing.B) {
			for b.Loop() {
				if l, err := set.Find(ak); err != nil || l == nil {
					b.Fatal(l, err)
				}
			}
		})
	}
}
