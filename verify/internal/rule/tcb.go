// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TCBRules are rules about the security versions of the firmware.
type TCBRules struct {
	quiet
	TCB map[string]TCB `toml:"tcb,omitempty"` // by product
}

// TCB is [tcb.PRODUCT]: floors of the components. A set of floors names every component
// of the product: fmc on Turin alone, bootloader, tee, snp, microcode.
type TCB struct {
	Reported  map[string]int `toml:"reported,omitempty" default:"any" doc:"floors of the version that the signing key was derived for: firmware with published holes is refused"`
	Committed map[string]int `toml:"committed,omitempty" default:"any" doc:"floors of the version below which the host cannot go back"`
	Launch    map[string]int `toml:"launch,omitempty" default:"any" doc:"floors of the version at launch of the guest"`
}

// tcbFloors are the floors of one version.
type tcbFloors struct {
	id    check.ID
	name  string
	floor map[string]int
	have  func(*snp.Report) snp.TCB
}

func (t TCB) floors() []tcbFloors {
	return []tcbFloors{
		{"policy.tcb-reported", "reported", t.Reported, func(r *snp.Report) snp.TCB { return r.ReportedTCB }},
		{"policy.tcb-committed", "committed", t.Committed, func(r *snp.Report) snp.TCB { return r.CommittedTCB }},
		{"policy.tcb-launch", "launch", t.Launch, func(r *snp.Report) snp.TCB { return r.LaunchTCB }},
	}
}

var tcbChecks = []check.Definition{
	{ID: "policy.tcb-reported", Class: check.Policy, Ground: check.OnProcessor, Checks: "every component of the reported TCB is at or above its floor", Stops: "firmware with published holes"},
	{ID: "policy.tcb-committed", Class: check.Policy, Ground: check.OnProcessor, Checks: "every component of the committed TCB is at or above its floor", Stops: "firmware that the host can still roll back"},
	{ID: "policy.tcb-launch", Class: check.Policy, Ground: check.OnProcessor, Checks: "every component of the TCB at launch is at or above its floor", Stops: "a guest that was launched under firmware with published holes"},
}

// line returns the product with a name in lower case, ProductUnknown if there is none.
func line(product string) snp.Product {
	for _, p := range snp.Products() {
		if strings.ToLower(p.String()) == product {
			return p
		}
	}
	return snp.ProductUnknown
}

// components returns the names of the levels that a product's TCB has, in its order.
func components(product string) (names []string) {
	levels, _, _ := snp.TCB(0).Components(line(product)) // none of an unknown product
	for _, l := range levels {
		names = append(names, string(l.Component))
	}
	return names
}

func (r *TCBRules) values(f *faults) {
	for product, t := range r.TCB {
		key := "tcb." + product
		all := components(product)
		if all == nil {
			f.fail(key, "%q is not one of %s", product, strings.Join(knownProducts(), ", "))
			continue
		}
		none := true
		for _, v := range t.floors() {
			if v.floor != nil {
				none = false
				checkFloors(f, key+"."+v.name, product, v.floor, all)
			}
		}
		f.failIf(none, key, "no floor is given: want reported, committed or launch")
	}
}

func checkFloors(f *faults, key, product string, floors map[string]int, all []string) {
	demands := false
	for name, n := range floors {
		f.failIf(!slices.Contains(all, name), key+"."+name, "%s has no such component: want %s", product, strings.Join(all, ", "))
		f.number(key+"."+name, int64(n), 0, 255)
		demands = demands || n != 0
	}
	for _, name := range all {
		if _, ok := floors[name]; !ok {
			f.fail(key, "the floor of %s is missing: every component must be given, 0 if none is wanted", name)
			demands = true
		}
	}
	f.failIf(!demands, key, "every floor is 0, which demands nothing: leave it out if any version is acceptable")
}

func (r *TCBRules) conflicts(p *Policy, f *faults) {
	for product := range r.TCB {
		f.failIf(!slices.Contains(p.products(), product), "tcb."+product, "products does not list %q, so this floor would never be looked at", product)
	}
}

func (r *TCBRules) explain(p *Policy, w *Words) {
	for _, product := range p.products() {
		t, ok := r.TCB[product]
		if !ok {
			w.open("The firmware versions of %s: [tcb.%s] sets floors. Old firmware has published holes.", product, product)
			continue
		}
		for _, v := range t.floors() {
			if v.floor == nil {
				w.open("The %s firmware versions of %s.", v.name, product)
				continue
			}
			var parts []string
			for _, c := range components(product) {
				parts = append(parts, fmt.Sprintf("%s %d", c, v.floor[c]))
			}
			w.demand("On %s, the %s firmware is at least %s.", product, v.name, strings.Join(parts, ", "))
		}
	}
}

// draft sets the floors to what was found: older firmware is refused, newer accepted.
func (*TCBRules) draft(g *Golden, d *Draft) {
	if line(g.product()) == snp.ProductUnknown {
		return
	}
	head := ""
	if g.product() == "milan" { // products lists it only when its author has decided for it
		head = "# "
	}
	var floors []string
	for _, v := range (TCB{}).floors() {
		levels, _, err := v.have(g.SNP.Report).Components(line(g.product()))
		if err != nil || !slices.ContainsFunc(levels, func(l snp.Level) bool { return l.Value != 0 }) {
			continue
		}
		var parts []string
		for _, l := range levels {
			parts = append(parts, fmt.Sprintf("%s = %d", l.Component, l.Value))
		}
		floors = append(floors, fmt.Sprintf("%s%s = { %s }", head, v.name, strings.Join(parts, ", ")))
	}
	if len(floors) == 0 {
		d.tables.offer("DANGER: the firmware states no version at all: no floors.", "")
		return
	}
	d.tables.offer("Firmware below these versions is refused. They are those of the machine: AMD's security bulletins say what they ought to be.", "%s[tcb.%s]\n%s\n", head, g.product(), strings.Join(floors, "\n"))
}

func (r *TCBRules) judgeSNP(_ *Policy, m *sevsnp.Report, f *check.Findings) {
	if m.Product == "" {
		return
	}
	for _, v := range r.TCB[m.Product].floors() {
		if v.floor == nil {
			f.Skip(v.id, "the policy has no floor for the %s TCB of %s", v.name, m.Product)
			continue
		}
		var levels []snp.Level
		for _, c := range components(m.Product) {
			levels = append(levels, snp.Level{Component: snp.Component(c), Value: uint8(v.floor[c])})
		}
		f.DecideError(v.id, v.have(m.Report).AtLeast(line(m.Product), levels))
	}
}
