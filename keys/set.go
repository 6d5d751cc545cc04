// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// ListedType is the member "type" of a listed enrolment.
const ListedType = "agentd/listed-enrolment/1"

// Limits of a set of enrolments.
const (
	MaxListed = 512 << 10 // bytes of a listed enrolment
	MaxSet    = 1 << 20   // enrolments of a set
	MaxBy     = 256       // bytes of the name of a party that approves
)

// State says whether a listed enrolment counts.
type State string

// States.
const (
	Pending  State = "pending"  // the challenge was answered, and no party has said that the machine is one of ours
	Approved State = "approved" // Listed.By says that it is
)

// Listed is an enrolment in a list apart from the policy: a record, and whether it counts. In a file it
// is one line of JSON. Nothing in it is signed: it is as trustworthy as the file.
type Listed struct {
	Type      string    `json:"type"`        // ListedType
	Enrolment Enrolment `json:"enrolment"`   // the record
	State     State     `json:"state"`       // Pending or Approved
	By        string    `json:"by,omitzero"` // name of the party that approved it; empty while it is pending
	Since     time.Time `json:"since"`       // time of the last change of State, to the second
}

// NewListed returns a listed enrolment: pending, or approved if by names a party.
func NewListed(e *Enrolment, by string, now time.Time) (*Listed, error) {
	l := &Listed{Type: ListedType, Enrolment: *e, State: Pending, By: by, Since: now.UTC().Truncate(time.Second)}
	if by != "" {
		l.State = Approved
	}
	return l, errors.Join(l.check(), e.Check())
}

func (l *Listed) check() error {
	switch {
	case l.Type != ListedType:
		return fmt.Errorf("listed enrolment of type %s, want %q", text.Excerpt(l.Type), ListedType)
	case l.State != Pending && l.State != Approved:
		return fmt.Errorf("listed enrolment: state %s, want %q or %q", text.Excerpt(string(l.State)), Pending, Approved)
	case l.State == Pending && l.By != "":
		return errors.New(`listed enrolment: "by" names the party that approved it, and it is pending`)
	case l.Since.IsZero():
		return errors.New(`listed enrolment: "since" is missing`)
	case l.State == Approved:
		return text.Check(`listed enrolment: "by"`, l.By, 1, MaxBy)
	}
	return nil
}

// Encode returns l as one line of JSON, which ends in a line feed.
func (l *Listed) Encode() ([]byte, error) {
	b, err := strictjson.Encode(l)
	return append(b, '\n'), err
}

// ParseListed parses one listed enrolment, certificates included.
func ParseListed(b []byte) (*Listed, error) {
	l := new(Listed)
	if err := strictjson.Decode(b, MaxListed, l); err != nil {
		return nil, fmt.Errorf("listed enrolment: %w", err)
	}
	if err := errors.Join(l.check(), l.Enrolment.Check()); err != nil {
		return nil, err
	}
	return l, nil
}

// quick is a listed enrolment whose certificates are text. To parse those of all machines takes
// longer than everything else, and one of them is needed.
type quick struct {
	Type      string `json:"type"`
	Enrolment struct {
		Type           string    `json:"type"`
		EK             Name      `json:"ek"`
		AK             Name      `json:"ak"`
		EKIssuer       string    `json:"ekIssuer"`
		EKCertificates string    `json:"ekCertificates,omitzero"`
		Enrolled       time.Time `json:"enrolled"`
	} `json:"enrolment"`
	State State     `json:"state"`
	By    string    `json:"by,omitzero"`
	Since time.Time `json:"since"`
}

// parseQuick checks everything but the certificates, and returns the name of the attestation key.
func parseQuick(line []byte) (ak Name, err error) {
	var q quick
	if err := strictjson.Decode(line, MaxListed, &q); err != nil {
		return nil, err
	}
	e := Enrolment{Type: q.Enrolment.Type, EK: q.Enrolment.EK, AK: q.Enrolment.AK, EKIssuer: q.Enrolment.EKIssuer, Enrolled: q.Enrolment.Enrolled}
	l := Listed{Type: q.Type, State: q.State, By: q.By, Since: q.Since}
	if err := errors.Join(l.check(), e.Check()); err != nil {
		return nil, err
	}
	if e.Type == FirstEnrolmentType && q.Enrolment.EKCertificates != "" {
		return nil, fmt.Errorf("enrolment of type %q with certificates: those came with %q", e.Type, EnrolmentType)
	}
	return e.AK, nil
}

// Enrolments is a set of listed enrolments, by attestation key. It does not change: many goroutines may
// use it. It refers to the text that it was parsed from.
type Enrolments struct {
	lines  map[string][]byte // by the name of the attestation key
	digest evidence.Digest
}

// ParseEnrolments parses a list: one enrolment on each line. See [CollectEnrolments].
func ParseEnrolments(list []byte) (*Enrolments, error) {
	return CollectEnrolments(func(yield func(string, []byte) bool) { yield("", list) })
}

// CollectEnrolments parses lists in several texts, as of the files of a folder, with their names for
// errors. Two enrolments of one attestation key are an error, since it would not be clear which of them
// counts. It checks everything but the certificates, which [Enrolments.Find] parses.
func CollectEnrolments(lists iter.Seq2[string, []byte]) (*Enrolments, error) {
	s := &Enrolments{lines: make(map[string][]byte)}
	for name, list := range lists {
		number := 0
		for line := range bytes.Lines(list) {
			number++
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			where := fmt.Sprintf("line %d", number)
			if name != "" {
				where = name + ", " + where
			}
			ak, err := parseQuick(line)
			switch {
			case err != nil:
				return nil, fmt.Errorf("%s: %w", where, err)
			case s.lines[string(ak)] != nil:
				return nil, fmt.Errorf("%s: the attestation key %s has an enrolment already: remove one of the two", where, ak)
			case len(s.lines) == MaxSet:
				return nil, fmt.Errorf("%s: more than %d enrolments", where, MaxSet)
			}
			s.lines[string(ak)] = line
		}
	}
	s.digest = s.sum()
	return s, nil
}

// sum returns the digest of the set, which does not depend on order and files: SHA-256 over
// LabelEnrolments and a zero byte, then SHA-256 of each line, without white space around it, in the
// order of the names of the attestation keys.
func (s *Enrolments) sum() (d evidence.Digest) {
	h := sha256.New()
	h.Write(append([]byte(LabelEnrolments), 0))
	for _, ak := range slices.Sorted(maps.Keys(s.lines)) {
		line := sha256.Sum256(s.lines[ak])
		h.Write(line[:])
	}
	h.Sum(d[:0])
	return d
}

// LabelEnrolments is the label of the digest of a set.
const LabelEnrolments = "agentd/enrolments/1"

// Len returns how many enrolments the set has, pending ones included.
func (s *Enrolments) Len() int { return len(s.lines) }

// Digest names the set: equal digests are equal lines.
func (s *Enrolments) Digest() evidence.Digest { return s.digest }

// Find returns the enrolment of an attestation key, nil if the set has none. The error is about
// certificates in it.
func (s *Enrolments) Find(ak Name) (*Listed, error) {
	line := s.lines[string(ak)]
	if line == nil {
		return nil, nil
	}
	return ParseListed(line)
}

// All returns the enrolments in the order of the names of their attestation keys.
func (s *Enrolments) All() iter.Seq2[*Listed, error] {
	return func(yield func(*Listed, error) bool) {
		for _, ak := range slices.Sorted(maps.Keys(s.lines)) {
			if !yield(ParseListed(s.lines[ak])) {
				return
			}
		}
	}
}
