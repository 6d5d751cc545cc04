// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"fmt"
	"strings"
)

// VolumeApp begins the names of the apps whose secret is the record of an encrypted volume, with the
// key of a key slot. No declared app has such a name: theirs do not contain a colon.
const VolumeApp = "disk:"

// An Opener is a party that can open a blob, and when.
type Opener struct {
	Who  string
	When string
}

// Volume returns the name of the volume whose record this is.
func (c Contract) Volume() (name string, ok bool) { return strings.CutPrefix(c.App.Name, VolumeApp) }

// Credential returns the name under which systemd loads the secret, if root provisioned it.
func (c Contract) Credential() (name string, ok bool) {
	if c.Kind != KindSecret {
		return "", false
	}
	return strings.CutPrefix(c.Name, Provisioned)
}

// Openers returns every party that can open the blob, first those to whom the agent gives it.
func (c Contract) Openers() []Opener {
	out := append(c.given(), c.besides()...)
	for _, r := range c.Recipients {
		when := "on any machine, with the store key"
		if !c.StoreKey.IsZero() {
			when += " " + c.StoreKey.String()
		}
		out = append(out, Opener{"the identity of " + r, when})
	}
	return append(out, c.Passage...)
}

// given returns to whom the agent gives the blob.
func (c Contract) given() []Opener {
	measured := ""
	if len(c.Digests) > 0 {
		digests := make([]string, len(c.Digests))
		for i, d := range c.Digests {
			digests[i] = short(d[:])
		}
		measured = ", while the app is measured as " + strings.Join(digests, " or ")
	}
	if _, ok := c.Volume(); ok {
		return []Opener{
			{"systemd-cryptsetup in unit " + c.App.Unit, "when it starts, with the header that was recorded"},
			{"root of this guest, with agentctl disk", "with a header that was recorded"},
			{"a recovery key of the volume (agentctl disk list)", "always, on any machine: it opens the volume without this record"},
		}
	}
	if name, ok := c.Credential(); ok {
		return []Opener{{fmt.Sprintf("systemd for unit %s, as credential %s", c.App.Unit, name), "before each start, once the agent measured the app" + measured}}
	}
	if engine := c.App.engine(); engine != "" {
		return []Opener{{fmt.Sprintf("containers of %s that are app %s, as the user of their first process", engine, c.App.Name), "when they ask, if they were measured before they ran" + measured}}
	}
	return []Opener{{fmt.Sprintf("processes of unit %s with user %s", c.App.Unit, c.App.User), "when they ask" + measured}}
}

// besides returns who opens it past the agent, on a machine with the slots of the blob.
func (c Contract) besides() []Opener {
	const guest = "a guest on this chip with the same launch measurement and guest policy"
	var out []Opener
	switch c.Weakest {
	case SlotSNPTPM:
		out = append(out, Opener{guest, "with the agent's files and the TPM's secret, which the party that runs the TPM may have"})
	case SlotSNP:
		out = append(out, Opener{guest, "with the agent's files"})
	case SlotTPM:
		out = append(out, Opener{"the party that runs the TPM, and each program that can use it", "with the agent's files"})
	default:
		return nil
	}
	return append(out, Opener{"root of this guest", "always: it can read the agent's memory"})
}

// drawOpeners draws them, each with its condition below.
func (c Contract) drawOpeners(b *strings.Builder) {
	claim := ""
	if !c.Authenticated && !c.Planned {
		claim = ", if the file is right"
	}
	fmt.Fprintf(b, "\nwho can open it, and when%s:\n", claim)
	all := c.Openers()
	for i, o := range all {
		branch, below := "├─ ", "│  "
		if i == len(all)-1 {
			branch, below = "└─ ", "   "
		}
		fmt.Fprintf(b, "%s%s\n%s└─ %s\n", branch, o.Who, below, o.When)
	}
}
