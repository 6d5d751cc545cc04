// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/keys"
)

// enrolmentRule is one [[enrolment]].
type enrolmentRule struct {
	keys.Enrolment
	certificate *keys.EKCertificate // of the endorsement key, unverified; nil where there is none
}

// enrolments are the records of attestation keys that were seen to live in the TPM of
// an endorsement key. That they were is as trustworthy as the policy that holds the
// record, in which nothing is signed; whose TPM it is, the certificate shows to everybody.
func (r *policyReader) enrolments(p *Policy, in []enrolmentText) {
	text := func(v *string) string {
		if v == nil {
			return ""
		}
		return *v
	}
	seen := make(map[string]bool)
	for i, t := range in {
		key := fmt.Sprintf("enrolment[%d]", i)
		if t.EK == nil || t.AK == nil || t.Enrolled == nil {
			r.fail(key, "type, ek, ak, ek_issuer and enrolled must be given, as the record has them")
			continue
		}
		e := enrolmentRule{Enrolment: keys.Enrolment{Type: text(t.Type), EKIssuer: text(t.EKIssuer)}}
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
		e.EKCertificates = r.bundle(key+".ek_certificates", t.EKCertificates)
		if err := e.Check(); err != nil {
			r.fail(key, "%v", err)
			continue
		}
		if len(e.EKCertificates) > 0 {
			if e.certificate, err = keys.ParseEKCertificate(e.EKCertificates); err != nil {
				r.fail(key+".ek_certificates", "%v", err)
			}
		}
		if seen[string(e.AK)] {
			r.fail(key+".ak", "it is enrolled twice: a key lives in one TPM")
		}
		seen[string(e.AK)] = true
		p.enrolments = append(p.enrolments, e)
	}
}

func (r *policyReader) bundle(key string, v *string) (out keys.Bundle) {
	if v == nil {
		return nil
	}
	if err := out.UnmarshalText([]byte(*v)); err != nil {
		r.fail(key, "%v", err)
	}
	return out
}

// ekRoots are the authorities that the policy trusts to certify TPMs.
func (r *policyReader) ekRoots(v *string) []*x509.Certificate {
	var out []*x509.Certificate
	seen := make(map[string]bool)
	for i, der := range r.bundle("ek_roots", v) {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			r.fail("ek_roots", "certificate %d: %v", i, err)
		case seen[string(der)]:
			r.fail("ek_roots", "certificate %d, of %q, is listed twice", i, c.Subject)
		case !c.IsCA:
			r.fail("ek_roots", "certificate %d, of %q, is not that of an authority: it certifies nothing", i, c.Subject)
		default:
			out = append(out, c)
		}
		seen[string(der)] = true
	}
	return out
}

// checkOrigin refuses rules about the origin of the key that no evidence could meet,
// and roots that nothing would ever lead to.
func (r *policyReader) checkOrigin(p *Policy) {
	certificates := slices.ContainsFunc(p.enrolments, func(e enrolmentRule) bool { return e.certificate != nil })
	switch {
	case p.akOrigin == AKEnrolled && len(p.enrolments) == 0 && len(p.aks) == 0:
		r.fail("ak_origin", "no key is listed in ak_names or [[enrolment]], so every evidence would be refused")
	case p.akOrigin == AKCertified && len(p.ekRoots) == 0:
		r.fail("ak_origin", "ek_roots names no root that the certificate of a TPM may lead to, so every evidence would be refused")
	case p.akOrigin == AKCertified && !certificates:
		r.fail("ak_origin", "no [[enrolment]] holds ek_certificates, so every evidence would be refused")
	case len(p.ekRoots) > 0 && !certificates:
		r.fail("ek_roots", "no [[enrolment]] holds ek_certificates, so no root would ever be looked at")
	}
}

// enrolment is the record of the attestation key with this name, nil where there is none.
func (p *Policy) enrolment(name []byte) *enrolmentRule {
	for i := range p.enrolments {
		if bytes.Equal(p.enrolments[i].AK, name) {
			return &p.enrolments[i]
		}
	}
	return nil
}
