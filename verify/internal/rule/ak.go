// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// AKRules are rules about the attestation key.
type AKRules struct {
	quiet
	AKNames    []string    `toml:"ak_names,omitempty" value:"hex0 34 50 66" default:"any" doc:"names of attestation keys that were enrolled: algorithm (2 bytes: |000b| SHA-256, |000c| SHA-384, |000d| SHA-512) and digest, as |agentctl show| prints them. A name tells a key apart. That the key lives in a TPM, and in which, is the knowledge of the policy's author: enrolment shows it. The appraisal then says that the AK is |enrolled|"`
	AKOrigin   AKOrigin    `toml:"ak_origin,omitempty" value:"one none enrolled certified" default:"\"none\"" doc:"|enrolled|: the AK must be listed in |ak_names| or an |[[enrolment]]|. |certified|: in an |[[enrolment]]| with a certificate of its TPM that leads to one of |ek_roots|, or certified itself for a machine of |[gcp]|"`
	EKRoots    string      `toml:"ek_roots,multiline,omitempty" default:"none" doc:"certificates of authorities that certify TPMs, as PEM: 1 to 8. If the AK's |[[enrolment]]| contains a certificate of its TPM's endorsement key, that must be for this very key and lead to one of them, with every certificate valid at the time of appraisal; the AK is then |certified|. |agentctl policy ek-roots FILE| prints this key"`
	Outside    Outside     `toml:"outside_enrolments,omitempty" value:"one none approved" default:"\"none\"" doc:"|approved|: an enrolment that the verifier is given apart from the policy (|agentctl verify --enrolments|) counts as one of the policy, if it is approved. The AK must then be in one of the two. A party that can write that list decides which machines count. |none|: such a list is not looked at"`
	Enrolments []Enrolment `toml:"enrolment,omitempty"`

	roots []*x509.Certificate // of EKRoots, in a compiled policy
}

// Enrolment is one [[enrolment]]: a keys.Enrolment in text, member for member. It records
// that an attestation key was seen to live in the TPM of an endorsement key. That it was
// is as trustworthy as the policy, in which nothing is signed; whose TPM it is, the
// certificate shows to every reader.
type Enrolment struct {
	Type           string `toml:"type" default:"required" doc:"|agentd/enrolment/2|; a record of |agentd/enrolment/1| is the same without certificates"`
	EK             string `toml:"ek" default:"required" doc:"name of the endorsement key, 34 bytes"`
	AK             string `toml:"ak" default:"required" doc:"name of the attestation key, 34 bytes"`
	EKIssuer       string `toml:"ek_issuer" default:"required" doc:"for people: subject of the root that certified the endorsement key when it was enrolled, or |none|"`
	EKCertificates string `toml:"ek_certificates,multiline,omitempty" default:"none" doc:"certificate of the endorsement key, then issuers between it and the root, as PEM: 1 to 8. Absent if no authority certified the TPM"`
	Enrolled       string `toml:"enrolled" default:"required" doc:"when, as |\"2026-01-31T12:00:00Z\"|"`
}

// AKOrigin says how the verifier knows the attestation key apart from the report.
type AKOrigin string

// Origins, in rising order of strength.
const (
	AKNone      AKOrigin = "none"      // only the report speaks for it
	AKEnrolled  AKOrigin = "enrolled"  // the policy contains its name, with or without a record, or an approved enrolment apart from it that counts
	AKCertified AKOrigin = "certified" // likewise, and the certificate of the TPM in that record leads to a root that the policy names; or the AK's own certificate does
)

// Outside says whether enrolments apart from the policy count.
type Outside string

// Values of outside_enrolments.
const (
	OutsideNone     Outside = "none"     // a list apart from the policy is not looked at
	OutsideApproved Outside = "approved" // those count that a party approved
)

var akOrigins = []AKOrigin{AKNone, AKEnrolled, AKCertified}

func (o AKOrigin) rank() int { return slices.Index(akOrigins, o) }

// ekChecks are the checks of the certificate in an enrolment.
var ekChecks = []check.ID{"policy.ek-key", "policy.ek-usage", "policy.ek-chain", "policy.ek-validity"}

var akChecks = []check.Definition{
	{ID: "policy.ak", Class: check.Policy, Ground: check.OnVerifier, Checks: "the AK is one that the policy names", Stops: "a vTPM that was not enrolled"},
	{ID: "policy.ak-origin", Class: check.Policy, Ground: check.OnVerifier, Checks: "the policy knows the AK by a record of the origin that it asks for", Stops: "a vTPM that was enrolled on trust in place of a certified TPM"},
	{ID: ekChecks[0], Class: check.Policy, Ground: check.OnVerifier, Checks: "the certificate in the AK's enrolment is of the endorsement key that the enrolment names, if the policy names roots of such certificates", Stops: "the certificate of a genuine TPM with the endorsement key of one in software"},
	{ID: ekChecks[1], Class: check.Policy, Ground: check.OnVerifier, Checks: "that certificate is one for an endorsement key", Stops: "a certificate that a maker's authority issued for something else"},
	{ID: ekChecks[2], Class: check.Policy, Ground: check.OnVerifier, Checks: "that certificate leads to a root that the policy names", Stops: "a TPM that its owner certified himself"},
	{ID: ekChecks[3], Class: check.Policy, Ground: check.OnVerifier, Checks: "every certificate on that way is valid at the time of appraisal", Stops: "use of a maker's keys beyond their time"},
}

func (r *AKRules) values(f *faults) {
	for i, n := range r.AKNames {
		// A name of a TPM object (TPM 2.0 Part 1, section 16) is the name algorithm, 2
		// bytes, and a digest of it.
		b, err := hex.DecodeString(n)
		if err != nil || len(b) < 2 {
			continue
		}
		if h, known := tpmwire.SignatureHash(binary.BigEndian.Uint16(b)); !known || h.Size() != len(b)-2 {
			f.fail(fmt.Sprintf("ak_names[%d]", i), "it begins with %x and has %d bytes, and no key is named so: want 000b and 32 bytes, 000c and 48, or 000d and 64", b[:2], len(b))
		}
	}
	if f.given("ek_roots", r.EKRoots != "") {
		checkRoots(f, "ek_roots", r.EKRoots)
	}
	for i := range r.Enrolments {
		r.Enrolments[i].check(f, fmt.Sprintf("enrolment[%d]", i))
	}
	f.twice("enrolment[%d].ak", len(r.Enrolments), func(i int) string { return r.Enrolments[i].AK })
}

// checkRoots checks the certificates of authorities that a key lists.
func checkRoots(f *faults, key, text string) {
	roots, err := parseRoots(text)
	f.failIf(err != nil, key, "%v", err)
	seen := make(map[string]bool)
	for i, c := range roots {
		switch {
		case seen[string(c.Raw)]:
			f.fail(key, "certificate %d, of %q, is listed twice", i, c.Subject)
		case !c.IsCA:
			f.fail(key, "certificate %d, of %q, is not that of an authority: it certifies nothing", i, c.Subject)
		}
		seen[string(c.Raw)] = true
	}
}

// parseRoots parses the authorities that the policy trusts to certify TPMs.
func parseRoots(text string) (roots []*x509.Certificate, err error) {
	var b keys.Bundle
	if err := b.UnmarshalText([]byte(text)); err != nil {
		return nil, err
	}
	for i, der := range b {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		roots = append(roots, c)
	}
	return roots, nil
}

func (r *AKRules) compile() (err error) {
	if r.EKRoots != "" {
		r.roots, err = parseRoots(r.EKRoots)
	}
	return err
}

// EnrolmentOf returns the rule of a record.
func EnrolmentOf(r *keys.Enrolment) Enrolment {
	certificates, _ := r.EKCertificates.MarshalText() // never fails
	return Enrolment{Type: r.Type, EK: r.EK.String(), AK: r.AK.String(), EKIssuer: r.EKIssuer, EKCertificates: string(certificates), Enrolled: r.Enrolled.UTC().Format(time.RFC3339)}
}

// EnrolledWith returns the name of the endorsement key with which an attestation key of this name was
// enrolled, in the policy or apart from it; nil if no record of it counts.
func (r *AKRules) EnrolledWith(ak []byte, outside *keys.Enrolments) []byte {
	if e, _ := r.recordOf(ak, outside); e != nil { // what is wrong with a record, policy.ak says
		return e.EK
	}
	return nil
}

// recordOf returns the record of an attestation key that counts, nil if there is none. The error says
// why one that is there does not count.
func (r *AKRules) recordOf(ak []byte, outside *keys.Enrolments) (*keys.Enrolment, error) {
	name := hex.EncodeToString(ak)
	if i := slices.IndexFunc(r.Enrolments, func(e Enrolment) bool { return e.AK == name }); i >= 0 {
		e := &r.Enrolments[i]
		return e.record(e.EKCertificates != "", func(string, error) {}), nil // the policy was checked
	}
	l, err := r.Listed(ak, outside)
	switch {
	case err != nil:
		return nil, err
	case l == nil && r.outside() && outside == nil:
		return nil, errors.New("the verifier was given no enrolments apart from the policy")
	case l == nil:
		return nil, nil
	case l.State != keys.Approved:
		return nil, errors.New("its enrolment is pending: no party has approved it")
	}
	return &l.Enrolment, nil
}

// Listed returns the enrolment of an attestation key apart from the policy, whether or not it is
// approved; nil if there is none, or if the policy does not look at such a list.
func (r *AKRules) Listed(ak []byte, outside *keys.Enrolments) (*keys.Listed, error) {
	if !r.outside() || outside == nil {
		return nil, nil
	}
	return outside.Find(ak)
}

// outside reports whether enrolments apart from the policy count.
func (r *AKRules) outside() bool { return r.Outside == OutsideApproved }

// check checks a record, and tells a member that is wrong from a record that is.
func (e *Enrolment) check(f *faults, key string) {
	if !f.given(key+".ek", e.EK != "") || !f.given(key+".ak", e.AK != "") || !f.given(key+".enrolled", e.Enrolled != "") {
		return
	}
	ok := true
	record := e.record(f.given(key+".ek_certificates", e.EKCertificates != ""), func(member string, err error) {
		f.fail(key+member, "%v", err)
		ok = false
	})
	if !utf8.ValidString(e.EKIssuer) {
		f.fail(key+".ek_issuer", "it is not UTF-8")
	} else if err := record.Check(); ok && err != nil {
		f.fail(key, "%v", err)
	}
}

// record parses an enrolment, and reports the members that are wrong.
func (e *Enrolment) record(certificates bool, wrong func(member string, err error)) *keys.Enrolment {
	r := &keys.Enrolment{Type: e.Type, EKIssuer: e.EKIssuer}
	if err := r.EK.UnmarshalText([]byte(e.EK)); err != nil {
		wrong(".ek", err)
	}
	if err := r.AK.UnmarshalText([]byte(e.AK)); err != nil {
		wrong(".ak", err)
	}
	var err error
	if r.Enrolled, err = time.Parse(time.RFC3339, e.Enrolled); err != nil {
		wrong(".enrolled", fmt.Errorf(`%q is not a time of the form "2026-01-31T12:00:00Z"`, e.Enrolled))
	}
	if certificates {
		if err := r.EKCertificates.UnmarshalText([]byte(e.EKCertificates)); err != nil {
			wrong(".ek_certificates", err)
		}
	}
	return r
}

// conflicts refuses rules about the origin of the key that no evidence could meet, and
// roots that nothing would ever lead to.
func (r *AKRules) conflicts(p *Policy, f *faults) {
	certificates := r.outside() || slices.ContainsFunc(r.Enrolments, func(e Enrolment) bool { return e.EKCertificates != "" })
	switch {
	case p.GCP.asked() && r.EKRoots == "": // the AK's own certificate gives the strongest origin
	case r.AKOrigin == AKEnrolled && !r.asked():
		f.fail("ak_origin", "no key is listed in ak_names or [[enrolment]], and no enrolment apart from the policy counts (outside_enrolments), so every evidence would be refused")
	case r.AKOrigin == AKCertified && r.EKRoots == "":
		f.fail("ak_origin", "ek_roots names no root that the certificate of a TPM may lead to, so every evidence would be refused")
	case r.AKOrigin == AKCertified && !certificates:
		f.fail("ak_origin", "no [[enrolment]] contains ek_certificates, so every evidence would be refused")
	case r.EKRoots != "" && !certificates:
		f.fail("ek_roots", "no [[enrolment]] contains ek_certificates, so no root would ever be looked at")
	}
}

// asked reports whether the attestation key must be one of those that are enrolled.
func (r *AKRules) asked() bool { return r.known() > 0 || r.outside() }

func (r *AKRules) known() int { return len(r.AKNames) + len(r.Enrolments) }

// knowsAK reports whether the policy knows the attestation key apart from the report.
func (p *Policy) knowsAK() bool { return p.AKRules.asked() || p.GCP.asked() }

func (r *AKRules) explain(p *Policy, w *Words) {
	if !r.asked() {
		w.openIf(!p.GCP.asked(), "Which vTPM it is: no attestation key is known (ak_names, [[enrolment]], outside_enrolments, [gcp]).")
		return
	}
	w.demand("The attestation key is %s.", r.wanted("key"))
	w.openIf(r.outside(), "Which machines are approved: a list apart from the policy says so, and a party that can write to it decides. The appraisal names the list by its digest.")
	w.openIf(len(r.AKNames) > 0, "Whether a TPM has a key of ak_names: that is the knowledge of the policy's author. An [[enrolment]] records that a TPM had it.")
	roots, err := parseRoots(r.EKRoots)
	if err != nil { // absent
		return
	}
	certified := r.AKOrigin == AKCertified
	w.demandIf(certified, "A certificate of its TPM leads to %s.", subjects(roots))
	w.demandIf(!certified, "If its enrolment contains a certificate of its TPM, that leads to %s.", subjects(roots))
	w.open("Whether the maker of the TPM withdrew its certificate: no revocation list of TPM makers is looked at.")
}

// subjects names certificates for people.
func subjects(list []*x509.Certificate) string {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = fmt.Sprintf("%q", c.Subject)
	}
	return strings.Join(names, " or ")
}

// wanted says which attestation keys are accepted.
func (r *AKRules) wanted(thing string) string {
	switch {
	case !r.outside():
		return oneOf(r.known(), thing)
	case r.known() == 0:
		return "one of an approved enrolment apart from the policy"
	}
	return oneOf(r.known(), thing) + ", or one of an approved enrolment apart from the policy"
}

func (*AKRules) draft(g *Golden, d *Draft) {
	if g.AK != nil {
		d.root.offer("DANGER: as long as no attestation key is listed, PCR values, log, applications and agents are accepted by the guest's word alone: a program can invent them without a TPM. \"agentctl enroll\" shows that a key lives in a TPM. To accept only this machine's, if you know that it does:", "# ak_names = [%s]", hexOf(g.AK.Name))
	}
}

// judge judges the attestation key. A key that no list contains is refused if there is
// a list, whatever origin is asked for.
func (r *AKRules) judge(p *Policy, s *Subject, f *check.Findings) {
	switch {
	case !r.asked():
		f.Skip("policy.ak", "the policy names no AK")
		skip(f, "the policy contains no enrolment", ekChecks...)
		if s.Material.Quote {
			r.judgeOrigin(f)
		} else {
			f.Skip("policy.ak-origin", "there is no AK")
		}
		return
	case !s.Material.Quote:
		f.Decide("policy.ak", false, "an AK", "none", "the policy names the AK, and a bare report comes with none")
		f.Skip("policy.ak-origin", "there is no AK")
		skip(f, "there is no AK", ekChecks...)
		return
	}
	if s.AK == nil {
		return
	}
	name := hex.EncodeToString(s.AK.Name)
	record, err := r.recordOf(s.AK.Name, s.Enrolments)
	named, why := slices.Contains(r.AKNames, name), "the attestation key is not one that the policy names"
	switch {
	case err != nil:
		why += ": " + err.Error()
	case r.outside():
		why += ", and the enrolments apart from it do not have it"
	}
	f.Decide("policy.ak", record != nil || named, r.wanted("name"), cmp.Or(name, "nothing"), "%s", why)
	r.judgeEK(record, named, s, f)
	r.judgeOrigin(f)
}

// judgeOrigin compares how the key is known with what the policy asks for.
func (r *AKRules) judgeOrigin(f *check.Findings) {
	origin, refused := Origin(f), refusedGCP(f)
	switch {
	case cmp.Or(r.AKOrigin, AKNone) == AKNone:
		f.Skip("policy.ak-origin", "the policy does not ask where the AK comes from")
	case refused != "":
		f.Block("policy.ak-origin", "the certificate of the AK was refused, see %s", refused)
	case origin == AKNone:
		f.Block("policy.ak-origin", "see policy.ak")
	case slices.ContainsFunc(ekChecks, func(id check.ID) bool { return f.Verdict(id) == check.Fail }):
		f.Block("policy.ak-origin", "the certificate of its TPM was refused, see %s and the checks after it", ekChecks[0])
	default:
		f.Decide("policy.ak-origin", origin.rank() >= r.AKOrigin.rank(), string(r.AKOrigin), string(origin),
			"the attestation key is known as %q, and the policy asks for %q", origin, r.AKOrigin)
	}
}

// refusedAK returns the check of the attestation key if that failed.
func refusedAK(f *check.Findings) check.ID {
	if f.Verdict("policy.ak") == check.Fail {
		return "policy.ak"
	}
	return refusedGCP(f)
}

func skip(f *check.Findings, why string, ids ...check.ID) {
	for _, id := range ids {
		f.Skip(id, why)
	}
}

// judgeEK judges the certificate of the TPM that the attestation key was enrolled with.
// Without it, the author of a record with a certificate could have any TPM pass for a
// certified one.
func (r *AKRules) judgeEK(record *keys.Enrolment, named bool, s *Subject, f *check.Findings) {
	switch {
	case r.EKRoots == "":
		skip(f, "the policy names no root of certificates for TPMs (ek_roots)", ekChecks...)
		return
	case record == nil && named:
		skip(f, "the AK is known by its name alone", ekChecks...)
		return
	case record == nil:
		for _, id := range ekChecks {
			f.Block(id, "see policy.ak")
		}
		return
	case len(record.EKCertificates) == 0:
		skip(f, "the AK's enrolment contains no certificate of its TPM", ekChecks...)
		return
	}
	c, err := keys.ParseEKCertificate(record.EKCertificates)
	if err != nil {
		f.DecideError(ekChecks[0], err)
		return
	}
	decide := func(i int, want string, err error) {
		found := ""
		if err != nil {
			found = err.Error()
		}
		if _, missing := errors.AsType[*keys.MissingIssuerError](err); missing {
			found += ": enrol with it (agentctl enroll challenge --ek-certificate)"
		}
		f.Decide(ekChecks[i], err == nil, want, found, "the certificate of the TPM that the AK was enrolled with: %s", found)
	}
	decide(0, "the endorsement key "+record.EK.String(), c.CheckKey(record.EK))
	decide(1, "that of an endorsement key", c.CheckUsage())
	chain, err := s.Chain(record.EKCertificates, c, r.roots)
	decide(2, "a way to "+subjects(r.roots), err)
	decide(3, "valid at the time of appraisal", c.CheckValidity(chain, s.Time))
}

// Origin returns how the attestation key is known, by the checks that passed.
func Origin(f *check.Findings) AKOrigin {
	switch {
	case certifiedByGoogle(f):
		return AKCertified
	case !f.Passed("policy.ak"):
		return AKNone
	case !slices.ContainsFunc(ekChecks, func(id check.ID) bool { return !f.Passed(id) }):
		return AKCertified
	}
	return AKEnrolled
}
