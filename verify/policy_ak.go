// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// akOrigins in rising order of strength.
var akOrigins = []AKOrigin{AKNone, AKEnrolled, AKCertified}

func (o AKOrigin) rank() int { return slices.Index(akOrigins, o) }

// ekChecks are those of the certificate in an enrolment.
var ekChecks = []CheckID{PolicyEKKey, PolicyEKUsage, PolicyEKChain, PolicyEKValidity}

// policyAK holds the attestation key against what the policy knows of it. A key that
// is in neither list is refused where there is one, whatever origin is asked for.
func (a *appraiser) policyAK() {
	known := len(a.p.aks) + len(a.p.enrolments)
	switch {
	case known == 0:
		a.Skip(PolicyAK, "the policy names no AK")
		a.Skip(PolicyAKOrigin, "the policy does not ask where the AK comes from")
		a.skipEK("the policy holds no enrolment")
		return
	case a.material == MaterialReport:
		a.Decide(PolicyAK, false, "an AK", "none", "the policy names the AK, and a bare report comes with none")
		a.Skip(PolicyAKOrigin, "there is no AK")
		a.skipEK("there is no AK")
		return
	case a.ak == nil:
		return
	}
	record := a.p.enrolment(a.ak.Name)
	a.Decide(PolicyAK, record != nil || contains(a.p.aks, a.ak.Name), fmt.Sprintf("one of %d known names", known), short(a.ak.Name), "the attestation key is not one that the policy names")
	a.policyEK(record)
	origin := a.origin()
	switch {
	case a.p.akOrigin == AKNone:
		a.Skip(PolicyAKOrigin, "the policy does not ask where the AK comes from")
	case origin == AKNone:
		a.Block(PolicyAKOrigin, "see %s", PolicyAK)
	case slices.ContainsFunc(ekChecks, func(id CheckID) bool { return a.Verdict(id) == Fail }):
		a.Block(PolicyAKOrigin, "the certificate of its TPM does not hold, see %s and the checks behind it", PolicyEKKey)
	default:
		a.Decide(PolicyAKOrigin, origin.rank() >= a.p.akOrigin.rank(), string(a.p.akOrigin), string(origin),
			"the attestation key is known as %q, and the policy asks for %q", origin, a.p.akOrigin)
	}
}

func (a *appraiser) skipEK(why string) {
	for _, id := range ekChecks {
		a.Skip(id, why)
	}
}

// policyEK checks the certificate of the TPM that the attestation key was enrolled with.
// Whoever could write a record beside a certificate that was not looked at here could
// have any TPM pass for a certified one.
func (a *appraiser) policyEK(record *enrolmentRule) {
	switch {
	case len(a.p.ekRoots) == 0:
		a.skipEK("the policy names no root of certificates for TPMs (ek_roots)")
		return
	case record == nil && contains(a.p.aks, a.ak.Name):
		a.skipEK("the AK is known by its name alone")
		return
	case record == nil:
		for _, id := range ekChecks {
			a.Block(id, "see %s", PolicyAK)
		}
		return
	case record.certificate == nil:
		a.skipEK("the AK's enrolment holds no certificate of its TPM")
		return
	}
	c := record.certificate
	a.decideEK(PolicyEKKey, "the endorsement key "+short(record.EK), c.CheckKey(record.EK))
	a.decideEK(PolicyEKUsage, "that of an endorsement key", c.CheckUsage())
	chain, err := a.ekChain(record)
	a.decideEK(PolicyEKChain, "a way to "+subjects(a.p.ekRoots), err)
	a.decideEK(PolicyEKValidity, "valid at the time of appraisal", c.CheckValidity(chain, a.now))
}

func (a *appraiser) decideEK(id CheckID, want string, err error) {
	found := ""
	if err != nil {
		found = err.Error()
	}
	a.Decide(id, err == nil, want, found, "the certificate of the TPM that the AK was enrolled with: %s", found)
}

// subjects names certificates for people.
func subjects(list []*x509.Certificate) string {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = fmt.Sprintf("%q", c.Subject)
	}
	return strings.Join(names, " or ")
}

// origin tells how the attestation key is known, as far as it was checked.
func (a *appraiser) origin() AKOrigin {
	switch {
	case a.ak == nil || !a.Passed(PolicyAK):
		return AKNone
	case !slices.ContainsFunc(ekChecks, func(id CheckID) bool { return !a.Passed(id) }):
		return AKCertified
	}
	return AKEnrolled
}
