// SPDX-License-Identifier: Apache-2.0

package ear

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// DetailsType is the member "type" of the claim of our own. Members may be added under the same type.
const DetailsType = "agentd/ear/1"

// details is the claim of our own, ear.agentd. Byte strings are hexadecimal. What is said of callers,
// applications and keys rests on the parties in Bases.
type details struct {
	Type    string           `json:"type"`               // DetailsType
	Verdict verify.Verdict   `json:"verdict"`            // pass or fail
	Class   string           `json:"class,omitzero"`     // why it was refused, in words; absent if it was accepted
	Failed  []verify.CheckID `json:"failed,omitempty"`   // checks that failed, then those that were required and could not be made
	Basis   verify.Basis     `json:"basis,omitzero"`     // weakest word that the verdict rests on
	Bases   *bases           `json:"bases,omitzero"`     // on whose word each part rests
	Binding verify.Binding   `json:"binding,omitzero"`   // what ties the vTPM to the report
	Fresh   verify.Freshness `json:"freshness,omitzero"` // what the report was made for

	Platform    evidence.ReportKind `json:"platform,omitzero"`    // kind of the report
	Product     string              `json:"product,omitzero"`     // line of processors
	Measurement string              `json:"measurement,omitzero"` // launch measurement
	Label       string              `json:"label,omitzero"`       // of this measurement in the policy
	Covers      verify.Cover        `json:"covers,omitzero"`      // what the measurement was computed over, by the policy
	TestRoot    bool                `json:"testRoot,omitzero"`    // the root vouches for no hardware
	ChipID      string              `json:"chipID,omitzero"`      // only if asked for
	ReportID    string              `json:"reportID,omitzero"`    // name of this boot, only if asked for

	AKName   string          `json:"akName,omitzero"`   // name of the attestation key, only if asked for
	AKOrigin verify.AKOrigin `json:"akOrigin,omitzero"` // how the verifier knows that key

	Unit      string     `json:"unit,omitzero"`            // systemd unit of the caller
	UID       *uint32    `json:"uid,omitzero"`             // of the caller
	App       string     `json:"app,omitzero"`             // application of the caller
	AppDigest string     `json:"appDigest,omitzero"`       // digest of its last measurement, if the log has one
	Container *container `json:"container,omitzero"`       // that the caller is in
	PublicKey string     `json:"publicKeySHA256,omitzero"` // SHA-256 of the key that the caller named
	KeyProof  bool       `json:"keyProof,omitzero"`        // the caller proved that it has that key

	Apps map[string]string `json:"apps,omitempty"` // digests of the last measurements of the policy's applications, by name
}

// bases is [verify.ClaimBases] of what the details contain.
type bases struct {
	Machine   verify.Basis `json:"machine"`
	Log       verify.Basis `json:"log,omitzero"`
	Caller    verify.Basis `json:"caller,omitzero"`
	PublicKey verify.Basis `json:"publicKey,omitzero"`
}

// container is the container of a caller.
type container struct {
	Engine string `json:"engine"`
	Root   string `json:"root"`           // digest of its root file system
	Image  string `json:"image,omitzero"` // digest of the image's configuration
}

// accepted says what accepted evidence contains. Machine adds what tells this machine from others.
func (d *details) accepted(p *verify.Policy, a *verify.Appraisal, c *verify.Claims, machine bool) {
	m, s := &c.Machine, &c.Statement
	d.Basis, d.Binding, d.Fresh = a.Basis, a.Binding, a.Freshness
	d.Bases = &bases{c.Basis.Machine, c.Basis.Log, c.Basis.Caller, c.Basis.PublicKey}
	d.Platform, d.Measurement, d.Label, d.Covers, d.TestRoot = m.Platform, identifier(m.Measurement), m.Label, m.Covers, m.TestRoot
	if m.SNP != nil {
		d.Product = m.Product
		if machine {
			d.ChipID, d.ReportID = identifier(m.ChipID), identifier(m.ReportID)
		}
	}
	if machine {
		d.AKName = identifier(c.AKName)
	}
	d.AKOrigin = a.AKOrigin
	if s.Caller.Method != "" { // otherwise uid 0 is nothing that the agent said
		d.Unit, d.UID, d.App = s.Caller.Unit, &s.Caller.UID, s.Caller.App
	}
	if x := s.Caller.Container; x != nil && !x.Root.IsZero() {
		d.Container = &container{Engine: x.Engine, Root: x.Root.String()}
		if x.Image != nil {
			d.Container.Image = identifier(x.Image.String())
		}
	}
	if len(s.PublicKey) > 0 {
		sum := sha256.Sum256(s.PublicKey)
		d.PublicKey, d.KeyProof = hex.EncodeToString(sum[:]), passed(a, "statement.key-proof")
	}
	d.measured(p, c)
}

// identifier returns a hexadecimal identifier, and nothing for one of zeros alone: a reader would take
// what names nothing for a name, and two machines without one for the same.
func identifier(s string) string {
	if strings.Trim(s, "0") == "" {
		return ""
	}
	return s
}

// measured adds the digests of the caller's application and of those that the policy lists. Others in
// the log are not the business of the token's readers.
func (d *details) measured(p *verify.Policy, c *verify.Claims) {
	if c.Log == nil {
		return
	}
	listed := make(map[string]bool, len(p.Apps))
	for i := range p.Apps {
		listed[p.Apps[i].Name] = true
	}
	for i := range c.Log.Apps {
		app := &c.Log.Apps[i]
		if app.Current >= len(app.Versions) {
			continue
		}
		digest := identifier(app.Versions[app.Current].Digest.String())
		if digest == "" {
			continue
		}
		if app.Name == d.App {
			d.AppDigest = digest
		}
		if listed[app.Name] {
			if d.Apps == nil {
				d.Apps = make(map[string]string)
			}
			d.Apps[app.Name] = digest
		}
	}
}

// refused says why evidence was refused, and nothing of what it claims.
func (d *details) refused(a *verify.Appraisal) {
	d.Class = a.Class.String()
	for _, c := range a.Failed() {
		d.Failed = append(d.Failed, c.ID)
	}
}

// subject returns sub: the application of the caller, or its unit, or its user. Refused evidence has
// none. The word before the colon keeps an application from having the name of a unit.
func (d *details) subject() string {
	switch {
	case d.Verdict != verify.Pass:
		return "refused:"
	case d.App != "":
		return "app:" + d.App
	case d.Unit != "":
		return "unit:" + d.Unit
	case d.UID != nil:
		return fmt.Sprintf("uid:%d", *d.UID)
	}
	return "machine:"
}
