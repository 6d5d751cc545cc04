// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
)

// Contract says what a blob opens on and what would lock it out. It holds no secret.
type Contract struct {
	Authenticated    bool // the blob was opened; otherwise all of this is the file's claim
	Planned          bool // no blob yet: what one would be sealed to now
	Kind             Kind
	App              App
	Name             string
	Generation       uint64
	Digests          []evidence.Digest // that the app must have one of; none: not required
	Slots            []SlotKind        // the strongest first
	Weakest          SlotKind          // of the machine: as strong as this the blob is; recovery where it has no other
	Recipients       []string
	LossAcknowledged bool
	Machine          *Reading // at sealing, where a slot rests on SNP
	TPMSecret        []byte   // name of the TPM's sealed object, where a slot rests on the TPM
	Counted          bool     // the store's manifest is counted by the TPM
}

// contract is what h says.
func (h *Header) Contract() Contract {
	c := Contract{Kind: h.Kind, App: h.App, Name: h.Name, Generation: h.Generation, Digests: h.Digests,
		Weakest: h.Weakest(), Recipients: h.Recipients(), LossAcknowledged: h.LossAcknowledged,
		Machine: h.Machine, TPMSecret: h.TPMSecret}
	for _, s := range h.Slots {
		c.Slots = append(c.Slots, s.Kind)
	}
	return c
}

// Text is the contract for people: what the blob opens on, each change and what comes
// of it, and who else could open it.
func (c Contract) Text() string {
	var b strings.Builder
	what := c.Kind.String()
	if c.Name != "" {
		what += fmt.Sprintf(" %q", c.Name)
	}
	fmt.Fprintf(&b, "%s of app %s (unit %s, user %s), generation %d\n", what, c.App.Name, c.App.Unit, c.App.User, c.Generation)
	switch {
	case c.Planned:
		b.WriteString("not sealed yet: this is what it would be sealed to now\n")
	case !c.Authenticated:
		b.WriteString("not opened: this is what the file claims, and a forger can write anything\n")
	}
	fmt.Fprintf(&b, "weakest slot: %s\n", c.Weakest)
	if m := c.Machine; m != nil {
		fmt.Fprintf(&b, "chip %s, launch measurement %s, guest policy 0x%x, TCB %s or above, VMPL %d\n",
			short(m.ChipID[:]), short(m.Measurement[:]), m.GuestPolicy, m.TCB, m.VMPL)
	}
	if len(c.TPMSecret) > 0 {
		fmt.Fprintf(&b, "secret in the TPM under name %s\n", short(c.TPMSecret))
	}
	for _, r := range c.Recipients {
		fmt.Fprintf(&b, "recovery: whoever has the identity of %s opens it anywhere\n", r)
	}
	if c.LossAcknowledged {
		b.WriteString("no recovery: it was accepted that a change of the hardware loses this\n")
	}
	for _, d := range c.Digests {
		fmt.Fprintf(&b, "the agent hands it out to the app measured as %s\n", d)
	}
	b.WriteString("\nwhat would come of a change:\n")
	for _, change := range Changes() {
		fmt.Fprintf(&b, "  %-18s %s\n", change, c.WhatIf(change))
	}
	fmt.Fprintf(&b, "\n%s\n", c.Limit())
	return b.String()
}

// Limit says who else could open the blob. These limits are those of the design, no
// setting lifts them.
func (c Contract) Limit() string {
	const agent = " Root in this guest can read the agent's memory. App, unit, user and digest are conditions that the agent enforces; the key itself does not know them."
	switch c.Weakest {
	case SlotSNPTPM:
		return "Who else: any guest that is launched with the same measurement and guest policy on this chip derives the same SNP key. With a cloud's own firmware and boot from disk, that is any VM booting this firmware on this chip, other tenants' too. It would need this TPM's secret as well, and whoever runs the TPM may have that: where the TPM is run by the host, it is the host." + agent
	case SlotSNP:
		return "Who else: any guest that is launched with the same measurement and guest policy on this chip derives the same key. With a cloud's own firmware and boot from disk, that is any VM booting this firmware on this chip, other tenants' too." + agent
	case SlotTPM:
		return "Who else: whoever runs the TPM, and whoever can use it and has the agent's files. Where the host runs the TPM, nothing here keeps the secret from the host. Nothing binds it to this chip or to what was launched." + agent
	}
	return "Who else: whoever has the recovery identity, and nobody without it."
}
