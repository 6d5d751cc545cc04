// SPDX-License-Identifier: Apache-2.0

package nodeserver

import (
	"fmt"

	"github.com/cvm-agentd/agentd/verify"
)

// maxSelectors is how many selectors an agent gets: SPIRE's server stores each.
const maxSelectors = 512

// selectors returns what accepted evidence says of a machine. An app is among them if it is covered now.
func selectors(a *verify.Appraisal, c *verify.Claims) (out []string, err error) {
	add := func(name, value string) {
		if value != "" {
			out = append(out, name+":"+value)
		}
	}
	add("basis", string(a.Basis))
	add("binding", string(a.Binding))
	add("ak", c.AKName)
	add("ak-origin", string(a.AKOrigin))
	add("platform", string(c.Machine.Platform))
	add("measurement", c.Machine.Measurement)
	add("label", c.Machine.Label)
	add("covers", string(c.Machine.Covers))
	if c.Machine.TestRoot {
		add("root", "test")
	}
	if s := c.Machine.SNP; s != nil {
		add("product", s.Product)
		add("signer", s.Signer)
		add("vmpl", fmt.Sprint(s.VMPL))
		add("chip", s.ChipID)
		add("cloud", s.CSPID)
	}
	if i := c.Instance; i != nil {
		add("gcp-project", i.Project)
		add("gcp-zone", i.Zone)
		add("gcp-instance", i.ID)
	}
	if c.Log == nil {
		return out, nil
	}
	if n := len(c.Log.Agents); n > 0 {
		add("agentd", c.Log.Agents[n-1].Digest.String())
	}
	for i := range c.Log.Apps {
		x := &c.Log.Apps[i]
		if x.Covered() == nil {
			continue
		}
		add("app", x.Name)
		add("app-digest", x.Name+":"+x.Versions[x.Current].Digest.String())
	}
	if len(out) > maxSelectors {
		return nil, fmt.Errorf("the evidence gives %d selectors, at most %d: the machine has too many applications", len(out), maxSelectors)
	}
	return out, nil
}
