package verify

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/keys"
)

// enrolments are the records of attestation keys that were seen to live in the TPM of
// an endorsement key. They are as trustworthy as the policy that holds them: nothing of
// them is signed, and the certificate of the endorsement key was checked when the key
// was enrolled.
func (r *policyReader) enrolments(p *Policy, in []enrolmentText) {
	text := func(v *string) string {
		if v == nil {
			return ""
		}
		return *v
	}
	for i, t := range in {
		key := fmt.Sprintf("enrolment[%d]", i)
		if t.EK == nil || t.AK == nil || t.Enrolled == nil {
			r.fail(key, "type, ek, ak, ek_issuer and enrolled must be given, as the record has them")
			continue
		}
		e := keys.Enrolment{Type: text(t.Type), EKIssuer: text(t.EKIssuer)}
		for _, n := range []struct {
			key, text string
			to        *keys.Name
		}{{key + ".ek", *t.EK, &e.EK}, {key + ".ak", *t.AK, &e.AK}} {
			if err := n.to.UnmarshalText([]byte(n.text)); err != nil {
				r.fail(n.key, "%v", err)
			}
		}
		var err error
		if e.Enrolled, err = time.Parse(time.RFC3339, *t.Enrolled); err != nil {
			r.fail(key+".enrolled", `%q is not a time of the form "2026-01-31T12:00:00Z"`, *t.Enrolled)
			continue
		}
		if err := e.Check(); err != nil {
			r.fail(key, "%v", err)
			continue
		}
		if slices.ContainsFunc(p.enrolments, func(o keys.Enrolment) bool { return bytes.Equal(o.AK, e.AK) }) {
			r.fail(key+".ak", "it is enrolled twice: a key lives in one TPM")
		}
		p.enrolments = append(p.enrolments, e)
	}
}

// checkOrigin refuses rules about the origin of the key that no evidence could meet.
func (r *policyReader) checkOrigin(p *Policy) {
	certified := slices.ContainsFunc(p.enrolments, p.certified)
	switch {
	case p.akOrigin == AKEnrolled && len(p.enrolments) == 0 && len(p.aks) == 0:
		r.fail("ak_origin", "no key is listed in ak_names or [[enrolment]], so every evidence would be refused")
	case p.akOrigin == AKCertified && !certified:
		r.fail("ak_origin", "no [[enrolment]] has an ek_issuer that ek_issuers lists, so every evidence would be refused")
	case len(p.ekIssuers) > 0 && !certified:
		r.fail("ek_issuers", "no [[enrolment]] has such an issuer, so this list would never be looked at")
	}
}

// certified reports whether the TPM of an enrolment was certified by an issuer that
// the policy trusts.
func (p *Policy) certified(e keys.Enrolment) bool {
	return e.EKIssuer != keys.NoIssuer && slices.Contains(p.ekIssuers, e.EKIssuer)
}

// origin tells how the policy knows the attestation key with this name.
func (p *Policy) origin(name []byte) AKOrigin {
	if len(name) == 0 {
		return AKNone
	}
	out := AKNone
	if contains(p.aks, name) {
		out = AKEnrolled
	}
	for _, e := range p.enrolments {
		if bytes.Equal(e.AK, name) {
			out = AKEnrolled
			if p.certified(e) {
				return AKCertified
			}
		}
	}
	return out
}

// akOrigins in rising order of strength.
var akOrigins = []AKOrigin{AKNone, AKEnrolled, AKCertified}

func (o AKOrigin) rank() int { return slices.Index(akOrigins, o) }

// policyAK holds the attestation key against what the policy knows of it. A key that
// is in neither list is refused where there is one, whatever origin is asked for.
func (a *appraiser) policyAK() {
	known := len(a.p.aks) + len(a.p.enrolments)
	switch {
	case known == 0:
		a.skip(PolicyAK, "the policy names no AK")
		a.skip(PolicyAKOrigin, "the policy does not ask where the AK comes from")
		return
	case a.material == MaterialReport:
		a.decide(PolicyAK, false, "an AK", "none", "the policy names the AK, and a bare report comes with none")
		a.skip(PolicyAKOrigin, "there is no AK")
		return
	case a.ak == nil:
		return
	}
	origin := a.p.origin(a.ak.name)
	a.decide(PolicyAK, origin != AKNone, fmt.Sprintf("one of %d known names", known), short(a.ak.name), "the attestation key is not one that the policy names")
	switch {
	case a.p.akOrigin == AKNone:
		a.skip(PolicyAKOrigin, "the policy does not ask where the AK comes from")
	case origin == AKNone:
		a.block(PolicyAKOrigin, "see %s", PolicyAK)
	default:
		a.decide(PolicyAKOrigin, origin.rank() >= a.p.akOrigin.rank(), string(a.p.akOrigin), string(origin),
			"the attestation key is known as %q, and the policy asks for %q", origin, a.p.akOrigin)
	}
}
