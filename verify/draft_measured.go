// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// levels sets the floors to what was found: older firmware is refused, newer accepted.
func (d *draft) levels() {
	product := snp.ProductUnknown
	for _, p := range snp.Products() {
		if strings.ToLower(p.String()) == d.product {
			product = p
		}
	}
	if product == snp.ProductUnknown {
		return
	}
	head := ""
	if d.product == "milan" { // which stands in products only when somebody has decided for it
		head = "# "
	}
	var floors []string
	for _, x := range []struct {
		name string
		tcb  snp.TCB
	}{{"reported", d.report.ReportedTCB}, {"committed", d.report.CommittedTCB}, {"launch", d.report.LaunchTCB}} {
		levels, _, err := x.tcb.Components(product)
		if err != nil || !slices.ContainsFunc(levels, func(l snp.Level) bool { return l.Value != 0 }) {
			continue
		}
		var parts []string
		for _, l := range levels {
			parts = append(parts, fmt.Sprintf("%s = %d", l.Component, l.Value))
		}
		floors = append(floors, fmt.Sprintf("%s%s = { %s }", head, x.name, strings.Join(parts, ", ")))
	}
	if len(floors) == 0 {
		d.say("DANGER: the firmware states no version at all: no floors.")
		d.line("")
		return
	}
	d.say("Firmware below these versions is refused. They are those of the machine: look at AMD's security bulletins for what they ought to be.")
	d.line("%s[tcb.%s]\n%s\n", head, d.product, strings.Join(floors, "\n"))
}

func (d *draft) image() {
	r := d.report
	var rules []string
	signed := !isZero(r.IDKeyDigest[:]) || !isZero(r.AuthorKeyDigest[:]) // else the ID block says nothing, see checkImage
	if r.GuestSVN > 0 && signed {
		rules = append(rules, fmt.Sprintf("min_guest_svn = %d", r.GuestSVN))
	}
	for _, x := range []struct {
		key  string
		b    []byte
		list bool
	}{
		{"family_id", r.FamilyID[:], false}, {"image_id", r.ImageID[:], false},
		{"host_data", r.HostData[:], true},
		{"id_key_digests", r.IDKeyDigest[:], true}, {"author_key_digests", r.AuthorKeyDigest[:], true},
	} {
		switch {
		case isZero(x.b), !x.list && !signed:
		case x.list:
			rules = append(rules, fmt.Sprintf("%s = [%s]", x.key, hexOf(x.b)))
		default:
			rules = append(rules, fmt.Sprintf("%s = %s", x.key, hexOf(x.b)))
		}
	}
	if len(rules) == 0 {
		d.say("The guest's owner signed nothing at launch, and the host added nothing: no [image].")
		d.line("")
		return
	}
	d.say("What the guest's owner signed, and what the host added, at launch. Zeros stand for nothing.")
	d.line("[image]\n%s\n", strings.Join(rules, "\n"))
}

// pcrs pins nothing: a value may hold what differs from boot to boot. Those of the
// log's own PCR are explained by the log.
func (d *draft) pcrs() {
	d.say("Quoted PCRs that no log of the agent explains. Take out the # where the value is the same on every good machine and at every boot; what is not pinned is not asserted.")
	for _, b := range d.selection {
		if b.Algorithm == pcr.SHA1 {
			continue
		}
		for _, index := range b.PCRs {
			if d.log != nil && d.log.PCR == index {
				continue
			}
			d.line("# [[pcr]]\n# bank = %q\n# index = %d\n# values = [%s]", b.Algorithm, index, hexOf(d.quoted[b.Algorithm][index]))
		}
	}
	d.line("")
	for _, a := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		for _, v := range d.start[a] {
			d.say("DANGER: the PCR of the log was not zero when the log began. Find out what measured into it before the agent started; if it was an earlier log of the agent, that log is gone.")
			d.line("# [[start_value]]\n# bank = %q\n# value = %s\n", a, hexOf(v))
		}
	}
}

func (d *draft) apps() {
	if d.log == nil {
		return
	}
	for _, a := range d.log.Apps {
		if len(a.Versions) == 0 {
			continue
		}
		now := a.Versions[min(max(a.Current, 0), len(a.Versions)-1)]
		d.say("As it was measured. A build can compute the digest: \"agentctl policy reference\".")
		d.line("[[app]]")
		d.line("name = %s", quote(a.Name))
		if now.Unit != "" {
			d.line("unit = %s", quote(now.Unit))
		}
		if now.User != "" {
			d.line("user = %s", quote(now.User))
		}
		d.line("digests = [%q]", now.Digest)
		for i, v := range a.Versions {
			if i != a.Current {
				d.say("DANGER: since boot it also was something else, which this policy refuses: digest %s, record %d.", v.Digest, v.Record)
			}
		}
		d.line("")
	}
}

func (d *draft) agents() {
	if d.log == nil || len(d.log.Agents) == 0 {
		return
	}
	d.say("Agents that wrote to the log since boot.")
	d.line("[agent]")
	seen := make(map[string]bool)
	var digests []string
	for _, g := range d.log.Agents {
		if s := quote(g.Digest.String()); !seen[s] {
			seen[s] = true
			digests = append(digests, s)
		}
	}
	d.line("digests = [%s]\n", strings.Join(digests, ", "))
	d.say("The draft says nothing about who may ask for evidence: [caller] does.")
}
