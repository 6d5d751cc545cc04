// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/dsse"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
)

// PolicyType is the payload type of a signed policy, a DSSE envelope. It may have two parameters, in
// this order: ";number=7" and ";expires=2027-01-31T00:00:00Z". They are signed with the policy.
const PolicyType = "application/vnd.agentd.policy+toml"

// MaxPolicyNumber is the largest number of a policy.
const MaxPolicyNumber = 1<<53 - 1

// MaxSignedPolicy is how many bytes a signed policy may have.
var MaxSignedPolicy = dsse.Size(MaxPolicy)

// ErrPolicySignature is in the error of [PolicyKeys.Parse] for a policy that is not signed as it must
// be. The error says what was found.
var ErrPolicySignature = errors.New("refused: the policy is not signed as this verifier demands")

// PolicyLabel is what a signed policy says of itself besides the policy, in its payload type.
type PolicyLabel struct {
	Number  uint64    // rises with each policy; 0 if it has none
	Expires time.Time // zero if it does not expire
}

// String returns the payload type.
func (l PolicyLabel) String() string {
	s := PolicyType
	if l.Number != 0 {
		s += ";number=" + strconv.FormatUint(l.Number, 10)
	}
	if !l.Expires.IsZero() {
		s += ";expires=" + l.Expires.UTC().Format(time.RFC3339)
	}
	return s
}

// ParsePolicyLabel reads a payload type, in the one spelling that [PolicyLabel.String] writes.
func ParsePolicyLabel(payloadType string) (l PolicyLabel, err error) {
	rest, ok := strings.CutPrefix(payloadType, PolicyType)
	if !ok {
		return l, fmt.Errorf("payload type %s: want %s", text.Excerpt(payloadType), PolicyType)
	}
	for parameter := range strings.SplitSeq(strings.TrimPrefix(rest, ";"), ";") {
		name, value, _ := strings.Cut(parameter, "=")
		switch name {
		case "number":
			l.Number, err = strconv.ParseUint(value, 10, 64)
		case "expires":
			l.Expires, err = time.Parse(time.RFC3339, value)
		}
		if err != nil {
			break
		}
	}
	// Only what String writes is taken: an unknown parameter, another order or another spelling is not.
	if err != nil || l.Number > MaxPolicyNumber || l.String() != payloadType {
		return l, fmt.Errorf("payload type %s: a parameter is not spelled as it must be", text.Excerpt(payloadType))
	}
	return l, nil
}

// PolicyKeys are the keys of the parties that may say what is acceptable. The zero value accepts
// nothing.
type PolicyKeys struct {
	keys []*dsse.Key

	Threshold int    // how many of the keys must have signed; 0 is 1
	Least     uint64 // number that a policy must have at least
}

// ParsePolicyKeys reads public keys in PEM, one after the other: Ed25519, or ECDSA on P-256.
func ParsePolicyKeys(pem []byte) (*PolicyKeys, error) {
	keys, err := dsse.ParseKeys(pem)
	if err != nil {
		return nil, err
	}
	return &PolicyKeys{keys: keys}, nil
}

// SignedPolicy is a policy whose signatures were verified.
type SignedPolicy struct {
	Policy  *Policy
	Text    []byte // that was signed, byte for byte: its digest names the policy in appraisals
	Label   PolicyLabel
	Signers []string // SHA-256 of the SubjectPublicKeyInfo of each key that signed, in hexadecimal
}

// Parse returns the policy of an envelope if enough of the keys signed it as a policy, and it has not
// expired at this time. A policy without an envelope is refused with an error that is
// [ErrPolicySignature].
func (k *PolicyKeys) Parse(envelope []byte, now time.Time) (*SignedPolicy, error) {
	refuse := func(format string, args ...any) (*SignedPolicy, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrPolicySignature}, args...)...)
	}
	if !dsse.Is(envelope) {
		return refuse("found a policy without a signature, want a DSSE envelope")
	}
	u, err := dsse.Read(envelope, MaxPolicy)
	if err != nil {
		return refuse("found something else than a DSSE envelope: %w", err)
	}
	threshold := max(k.Threshold, 1)
	signers := u.Signers(k.keys)
	if len(signers) < threshold {
		return refuse("found %s, of which %d of the %s verify; want %d", text.Count(len(u.KeyIDs()), "signature"), len(signers), text.Count(len(k.keys), "key"), threshold)
	}
	label, err := ParsePolicyLabel(u.Type)
	if err != nil {
		return refuse("found another document that these keys signed: %w", err)
	}
	switch {
	case label.Number < k.Least:
		return refuse("found number %d, an older policy: want at least %d", label.Number, k.Least)
	case !label.Expires.IsZero() && !now.Before(label.Expires):
		return refuse("it expired at %s", label.Expires.Format(time.RFC3339))
	}
	p, err := rule.Parse(u.Payload)
	if err != nil {
		return nil, err
	}
	s := &SignedPolicy{Policy: p, Text: u.Payload, Label: label}
	for _, k := range signers {
		s.Signers = append(s.Signers, k.ID())
	}
	return s, nil
}
