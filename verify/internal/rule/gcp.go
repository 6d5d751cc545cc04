// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// GCPRules are rules about the machine of Google Cloud that the certificate of the attestation
// key names. Google runs the vTPM there, and certifies its keys.
type GCPRules struct {
	quiet
	GCP GCP `toml:"gcp,omitempty"`

	roots, issuers []*x509.Certificate // in a compiled policy that asks for a machine
}

// GCP is [gcp].
type GCP struct {
	Projects  []string `toml:"projects,omitempty" value:"name" default:"any" doc:"projects that the machine may belong to: ids such as |my-project|, or numbers, as strings. This or |instances| must be given: everybody can rent a machine with such a certificate"`
	Instances []string `toml:"instances,omitempty" value:"name" default:"any" doc:"ids of machines, which Google chooses: decimal numbers, as strings"`
	Zones     []string `toml:"zones,omitempty" value:"name" default:"any" doc:"zones such as |europe-west4-a|"`
	Names     []string `toml:"names,omitempty" value:"name" default:"any" doc:"names of machines, which the owner of the project chooses"`
	Roots     string   `toml:"roots,multiline,omitempty" default:"Google's" doc:"certificates of authorities in place of Google's, as PEM: 1 to 8. For tests: a party that has such a root can name any machine"`
}

// gcpChecks are those of the certificate, then those of the machine that it names.
var gcpChecks = []check.Definition{
	{ID: "policy.gcp-certificate", Class: check.Policy, Ground: check.OnVerifier, Checks: "if the policy asks for a machine of Google Cloud, the evidence or the verifier has a certificate of an attestation key that names one", Stops: "a vTPM that no authority certified"},
	{ID: "policy.gcp-key", Class: check.Policy, Ground: check.OnVerifier, Checks: "that certificate is of the very AK that signed the quote", Stops: "the certificate of another machine's AK, which any program can get"},
	{ID: "policy.gcp-usage", Class: check.Policy, Ground: check.OnVerifier, Checks: "that certificate is one for a key that signs, and does nothing else", Stops: "a certificate that the authority issued for something else"},
	{ID: "policy.gcp-chain", Class: check.Policy, Ground: check.OnVerifier, Checks: "that certificate leads to Google's root, or to a root that the policy names", Stops: "a machine that its owner certified himself"},
	{ID: "policy.gcp-validity", Class: check.Policy, Ground: check.OnVerifier, Checks: "every certificate on that way is valid at the time of appraisal", Stops: "use of an authority's keys beyond their time"},
	{ID: "policy.gcp-instance", Class: check.Policy, Ground: check.OnVerifier, Checks: "that certificate was issued for production, and names its machine in a form that can be read", Stops: "a certificate of Google's test systems, or one that two parsers read differently"},
	{ID: "policy.gcp-project", Class: check.Policy, Ground: check.OnVerifier, Checks: "the machine that the certificate names belongs to a project that the policy lists", Stops: "a machine of Google Cloud that the attacker rented"},
	{ID: "policy.gcp-zone", Class: check.Policy, Ground: check.OnVerifier, Checks: "the machine that the certificate names is in a zone that the policy lists", Stops: "a machine in another place"},
	{ID: "policy.gcp-machine", Class: check.Policy, Ground: check.OnVerifier, Checks: "the machine that the certificate names has an id and a name that the policy lists", Stops: "another machine of the same project"},
}

func (g *GCP) asked() bool { return len(g.Projects)+len(g.Instances) > 0 }

func (r *GCPRules) values(f *faults) {
	for i, id := range r.GCP.Instances {
		if n, err := strconv.ParseUint(id, 10, 64); err != nil || strconv.FormatUint(n, 10) != id {
			f.fail(fmt.Sprintf("gcp.instances[%d]", i), "%q is not the id of a machine: want a decimal number, as \"gcloud compute instances describe\" prints it", id)
		}
	}
	if f.given("gcp.roots", r.GCP.Roots != "") {
		checkRoots(f, "gcp.roots", r.GCP.Roots)
	}
}

func (r *GCPRules) conflicts(_ *Policy, f *faults) {
	g := &r.GCP
	for key, given := range map[string]bool{"zones": g.Zones != nil, "names": g.Names != nil, "roots": g.Roots != ""} {
		f.failIf(given && !g.asked(), "gcp."+key, "everybody can rent a machine there: gcp.projects or gcp.instances must be given too")
	}
}

func (r *GCPRules) compile() (err error) {
	if !r.GCP.asked() {
		return nil
	}
	if r.GCP.Roots != "" {
		r.roots, err = parseRoots(r.GCP.Roots)
		return err
	}
	root, issuer, err := keys.GoogleRoot()
	r.roots, r.issuers = []*x509.Certificate{root}, []*x509.Certificate{issuer}
	return err
}

func (r *GCPRules) explain(_ *Policy, w *Words) {
	g := &r.GCP
	if !g.asked() {
		return
	}
	w.demandIf(g.Projects != nil, "A certificate of the attestation key names a machine of Google Cloud, of %s: %s.", oneOf(len(g.Projects), "project"), listed(g.Projects))
	w.demandIf(g.Instances != nil, "A certificate of the attestation key names a machine of Google Cloud that is %s.", oneOf(len(g.Instances), "machine"))
	w.demandIf(g.Zones != nil, "That machine is in %s: %s.", oneOf(len(g.Zones), "zone"), listed(g.Zones))
	w.demandIf(g.Names != nil, "That machine has %s, which its owner chose: %s.", oneOf(len(g.Names), "name"), listed(g.Names))
	w.open("Whether the vTPM that this certificate names is that of the machine of the report: root of one listed machine can use the vTPM of another one that it has.")
	w.open("Whether Google withdrew the certificate: no revocation list of Google is looked at.")
	if roots, err := parseRoots(g.Roots); err == nil {
		w.danger("gcp.roots replaces Google's root by %s: a party that has that key can name any machine.", subjects(roots))
	}
}

func (r *GCPRules) draft(g *Golden, d *Draft) {
	root, issuer, err := keys.GoogleRoot()
	if err != nil || g.AK == nil {
		return
	}
	found := (&GCPRules{roots: []*x509.Certificate{root}, issuers: []*x509.Certificate{issuer}}).find(g.Subject)
	if found == nil || found.faults() > 0 {
		return
	}
	d.tables.offer("Google Cloud certified the AK for this machine. To accept only machines of its project, or only this one:",
		"# [gcp]\n# projects = [%s]\n# instances = [\"%s\"]\n", quoted(found.machine.Project), found.machine.ID)
}

// gcpFound is a certificate, and what the checks of it come to.
type gcpFound struct {
	key, usage, chain, validity, instance error
	machine                               *keys.GoogleInstance // nil if it names none that can be read
}

func (x *gcpFound) faults() (n int) {
	for _, err := range []error{x.key, x.usage, x.chain, x.validity, x.instance} {
		if err != nil {
			n++
		}
	}
	return n
}

// find returns the certificate with the fewest faults, nil if there is none. Otherwise an
// attacker could add an expired one of the same key to make verification fail.
func (r *GCPRules) find(s *Subject) (best *gcpFound) {
	ders := slices.Clone(s.Certificates)
	for _, c := range r.issuers {
		ders = append(ders, c.Raw)
	}
	all := keys.GoogleAKCertificates(ders)
	key := signing(s)
	if i := slices.IndexFunc(all, func(c *keys.AKCertificate) bool { return c.CheckKey(key) == nil }); i >= 0 {
		all = slices.DeleteFunc(all, func(c *keys.AKCertificate) bool { return c.CheckKey(key) != nil })
	} else if len(all) > 0 {
		all = all[:1] // it is refused, whatever else it says
	}
	for _, c := range all {
		x := &gcpFound{key: c.CheckKey(key), usage: c.CheckUsage()}
		var chain []*x509.Certificate
		chain, x.chain = s.Chain(c.Encoded(), c, r.roots)
		x.validity = c.CheckValidity(chain, s.Time)
		x.machine, x.instance = c.Instance()
		if best == nil || x.faults() < best.faults() {
			best = x
		}
	}
	return best
}

// signing returns the public half of the attestation key.
func signing(s *Subject) crypto.PublicKey {
	if s.AK.RSA != nil {
		return s.AK.RSA
	}
	return s.AK.ECC
}

func (r *GCPRules) judge(_ *Policy, s *Subject, f *check.Findings) {
	switch {
	case !r.GCP.asked():
		f.SkipAll(gcpChecks, "the policy does not ask for a machine of Google Cloud")
		return
	case !s.Material.Quote:
		f.SkipAll(gcpChecks, "there is no AK")
		f.Decide(gcpChecks[0].ID, false, "a certificate of the AK", "none", "the policy asks for the certificate of the AK, and a bare report comes with none")
		return
	case s.AK == nil:
		return
	}
	x := r.find(s)
	if !f.Decide(gcpChecks[0].ID, x != nil, "a certificate that names a machine of Google Cloud", "none",
		"neither the evidence nor the verifier has a certificate of an attestation key that names a machine of Google Cloud: set tpm.ak of the agent to \"gcp-ecc\" or \"gcp-rsa\"") || x == nil {
		return
	}
	decide := func(i int, want string, err error) {
		found := ""
		if err != nil {
			found = err.Error()
		}
		f.Decide(gcpChecks[i].ID, err == nil, want, found, "the certificate of the attestation key: %s", found)
	}
	decide(1, "the AK", x.key)
	decide(2, "digitalSignature", x.usage)
	decide(3, "a way to "+subjects(r.roots), x.chain)
	decide(4, "valid at the time of appraisal", x.validity)
	decide(5, "a machine of production", x.instance)
	if x.machine != nil {
		r.judgeMachine(x.machine, f)
	}
	if s.OnGoogle != nil && x.faults() == 0 {
		s.OnGoogle(x.machine)
	}
}

// judgeMachine compares the machine with the lists of the policy.
func (r *GCPRules) judgeMachine(m *keys.GoogleInstance, f *check.Findings) {
	g := &r.GCP
	if !f.SkipIf(g.Projects == nil, "policy.gcp-project", "the policy lists no projects") {
		f.Decide("policy.gcp-project", slices.Contains(g.Projects, m.Project) || slices.Contains(g.Projects, m.ProjectNumber), "one of "+listed(g.Projects),
			fmt.Sprintf("%q, number %s", m.Project, m.ProjectNumber), "the machine belongs to the project %q, which the policy does not list", m.Project)
	}
	if !f.SkipIf(g.Zones == nil, "policy.gcp-zone", "the policy lists no zones") {
		f.Decide("policy.gcp-zone", slices.Contains(g.Zones, m.Zone), "one of "+listed(g.Zones), strconv.Quote(m.Zone), "the machine is in the zone %q, which the policy does not list", m.Zone)
	}
	if f.SkipIf(g.Instances == nil && g.Names == nil, "policy.gcp-machine", "the policy lists no single machines") {
		return
	}
	ok := (g.Instances == nil || slices.Contains(g.Instances, m.ID)) && (g.Names == nil || slices.Contains(g.Names, m.Name))
	f.Decide("policy.gcp-machine", ok, strings.TrimSpace(fmt.Sprintf("one of %d ids and %d names", len(g.Instances), len(g.Names))), fmt.Sprintf("%s, %q", m.ID, m.Name),
		"the machine is %s with the name %q, which the policy does not list", m.ID, m.Name)
}

// certifiedByGoogle reports whether the AK's own certificate and what it names passed every check.
func certifiedByGoogle(f *check.Findings) bool {
	return f.Passed("policy.gcp-key") && f.Met(gcpChecks...)
}

// refusedGCP returns the first check of the certificate that failed.
func refusedGCP(f *check.Findings) check.ID {
	for _, d := range gcpChecks {
		if f.Verdict(d.ID) == check.Fail {
			return d.ID
		}
	}
	return ""
}
