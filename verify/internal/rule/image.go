// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// ImageRules are rules about the ID block and the host data of the launch.
type ImageRules struct {
	quiet
	Image Image `toml:"image,omitempty"`
}

// Image is [image].
type Image struct {
	MinGuestSVN      int64    `toml:"min_guest_svn,omitempty" value:"range 1 4294967295" default:"any" doc:"least security version of the guest image, from 1; with a list of keys"`
	FamilyID         string   `toml:"family_id,omitempty" value:"hex 16" default:"any" doc:"16 bytes; with a list of keys"`
	ImageID          string   `toml:"image_id,omitempty" value:"hex 16" default:"any" doc:"16 bytes; with a list of keys"`
	HostData         []string `toml:"host_data,omitempty" value:"hex0 32" default:"any" doc:"32 bytes each: data that the host gave at launch, for example a digest of a configuration. Zeros are a rule here: the host gave none"`
	IDKeyDigests     []string `toml:"id_key_digests,omitempty" value:"hex 48" default:"any" doc:"48 bytes each: SHA-384 of keys that may have signed the ID block. Without one, a report shows zeros, which no list contains"`
	AuthorKeyDigests []string `toml:"author_key_digests,omitempty" value:"hex 48" default:"any" doc:"48 bytes each: SHA-384 of keys that may have signed the ID key"`
}

// imageRule is a rule about one field of a report.
type imageRule struct {
	id     check.ID
	key    string   // below [image]
	name   string   // of the field, in words
	values []string // that are acceptable
	list   bool     // the key is a list
	signed bool     // the field is in the ID block
	open   string   // if the policy does not ask; empty: not said
	have   func(*snp.Report) []byte
}

func (i *Image) rules() []imageRule {
	one := func(v string) []string {
		if v == "" {
			return nil
		}
		return []string{v}
	}
	return []imageRule{
		{"policy.family-id", "family_id", "family id", one(i.FamilyID), false, true, "", func(r *snp.Report) []byte { return r.FamilyID[:] }},
		{"policy.image-id", "image_id", "image id", one(i.ImageID), false, true, "", func(r *snp.Report) []byte { return r.ImageID[:] }},
		{"policy.host-data", "host_data", "host data", i.HostData, true, false, "What the host gave the guest at launch (host data).", func(r *snp.Report) []byte { return r.HostData[:] }},
		{"policy.id-key", "id_key_digests", "ID key", i.IDKeyDigests, true, false, "Who signed the launch (ID and author keys).", func(r *snp.Report) []byte { return r.IDKeyDigest[:] }},
		{"policy.author-key", "author_key_digests", "author key", i.AuthorKeyDigests, true, false, "", func(r *snp.Report) []byte { return r.AuthorKeyDigest[:] }},
	}
}

var imageChecks = []check.Definition{
	{ID: "policy.guest-svn", Class: check.Policy, Ground: check.OnProcessor, Checks: "the guest's security version is at or above its floor", Stops: "an old, signed guest image"},
	{ID: "policy.family-id", Class: check.Policy, Ground: check.OnProcessor, Checks: "the family id of the ID block is the one that the policy names", Stops: "another family of images by the same signer"},
	{ID: "policy.image-id", Class: check.Policy, Ground: check.OnProcessor, Checks: "the image id of the ID block is the one that the policy names", Stops: "another image by the same signer"},
	{ID: "policy.host-data", Class: check.Policy, Ground: check.OnProcessor, Checks: "the host data is one that the policy lists", Stops: "a guest launched with another configuration"},
	{ID: "policy.id-key", Class: check.Policy, Ground: check.OnProcessor, Checks: "the launch was signed by an ID key that the policy lists", Stops: "a launch without a signature of the owner"},
	{ID: "policy.author-key", Class: check.Policy, Ground: check.OnProcessor, Checks: "the ID key was signed by an author key that the policy lists", Stops: "an ID key that no author vouches for"},
}

// conflicts refuses rules about an ID block of any signer: the host may hand one to the
// firmware with family, image and security version of its choice, under a key that it
// made (SEV-SNP Firmware ABI Specification, section "SNP_LAUNCH_FINISH").
func (r *ImageRules) conflicts(_ *Policy, f *faults) {
	if len(r.Image.IDKeyDigests)+len(r.Image.AuthorKeyDigests) > 0 {
		return
	}
	asked := map[string]bool{"min_guest_svn": r.Image.MinGuestSVN > 0}
	for _, x := range r.Image.rules() {
		asked[x.key] = x.signed && x.values != nil
	}
	for key, asked := range asked {
		f.failIf(asked, "image."+key, "it is in the ID block, which the host can sign with a key of its own: image.id_key_digests or image.author_key_digests must be given too")
	}
}

func (r *ImageRules) explain(_ *Policy, w *Words) {
	w.demandIf(r.Image.MinGuestSVN > 0, "The security version of the guest image is %d or later.", r.Image.MinGuestSVN)
	for _, x := range r.Image.rules() {
		switch {
		case x.values != nil && x.list:
			w.demand("The %s is %s.", x.name, oneOf(len(x.values), "value"))
		case x.values != nil:
			w.demand("The %s of the image is %s.", x.name, x.values[0])
		case x.open != "":
			w.open("%s", x.open)
		}
	}
}

func (*ImageRules) draft(g *Golden, d *Draft) {
	r := g.SNP.Report
	var lines []string
	signed := !check.Zero(r.IDKeyDigest[:]) || !check.Zero(r.AuthorKeyDigest[:]) // else the ID block proves nothing, see conflicts
	if r.GuestSVN > 0 && signed {
		lines = append(lines, fmt.Sprintf("min_guest_svn = %d", r.GuestSVN))
	}
	for _, x := range new(Image).rules() {
		switch b := x.have(r); {
		case check.Zero(b), x.signed && !signed:
		case x.list:
			lines = append(lines, fmt.Sprintf("%s = [%s]", x.key, hexOf(b)))
		default:
			lines = append(lines, fmt.Sprintf("%s = %s", x.key, hexOf(b)))
		}
	}
	if len(lines) == 0 {
		d.tables.offer("The guest's owner signed nothing at launch, and the host added nothing: no [image].", "")
		return
	}
	d.tables.offer("What the guest's owner signed, and what the host added, at launch. Zeros mean nothing.", "[image]\n%s\n", strings.Join(lines, "\n"))
}

func (r *ImageRules) judgeSNP(_ *Policy, m *sevsnp.Report, f *check.Findings) {
	if least := r.Image.MinGuestSVN; !f.SkipIf(least == 0, "policy.guest-svn", "the policy names no security version") {
		f.Decide("policy.guest-svn", int64(m.GuestSVN) >= least, fmt.Sprintf("at least %d", least), fmt.Sprint(m.GuestSVN), "the guest image is too old")
	}
	for _, x := range r.Image.rules() {
		found := hex.EncodeToString(x.have(m.Report))
		ok := slices.Contains(x.values, found)
		switch {
		case x.values == nil:
			f.Skip(x.id, "the policy names no %s", x.name)
		case x.list:
			f.Decide(x.id, ok, oneOf(len(x.values), "value"), found, "the %s is not one that the policy lists", x.name)
		default:
			f.Decide(x.id, ok, x.values[0], found, "the %s does not match the policy", x.name)
		}
	}
}
