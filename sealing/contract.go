// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
)

// Contract says what a blob rests on and what would lock it out. It contains no secret.
type Contract struct {
	Authenticated    bool // whether the blob was opened; otherwise all of this is the file's claim
	Planned          bool // whether there is no blob yet: then this is what one would be sealed to now
	Kind             Kind
	App              App
	Name             string
	Generation       uint64
	Digests          []evidence.Digest // authorised digests of the app; empty: none required
	Slots            []SlotKind        // strongest first
	Weakest          SlotKind          // weakest slot of the machine, which is as strong as the blob; recovery if it has no other
	Recipients       []string          // recovery recipients
	LossAcknowledged bool              // whether root accepted that there is no recovery
	Machine          *Reading          // machine at sealing; nil if no slot rests on SNP
	TPMSecret        []byte            // name of the TPM's sealed object, 34 bytes; nil if no slot rests on a TPM
	Counted          bool              // whether the TPM counts the writings of the store
}

// Contract returns what h claims. Counted is false, because no header says that.
func (h *Header) Contract() Contract {
	c := Contract{Kind: h.Kind, App: h.App, Name: h.Name, Generation: h.Generation, Digests: h.Digests,
		Weakest: h.Weakest(), Recipients: h.Recipients(), LossAcknowledged: h.LossAcknowledged,
		Machine: h.Machine, TPMSecret: h.TPMSecret}
	for _, s := range h.Slots {
		c.Slots = append(c.Slots, s.Kind)
	}
	return c
}

// Text returns the contract for people: what the blob rests on, the outcome of each change,
// and what else could open it.
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
		b.WriteString("not opened: this is what the file claims, and an attacker can write anything\n")
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
		fmt.Fprintf(&b, "recovery: the identity of %s opens it on any machine\n", r)
	}
	if c.LossAcknowledged {
		b.WriteString("no recovery: root accepted that a change of the hardware loses this\n")
	}
	for _, d := range c.Digests {
		fmt.Fprintf(&b, "the agent gives it to the app that was measured as %s\n", d)
	}
	b.WriteString("\noutcome of each change:\n")
	for _, change := range Changes() {
		fmt.Fprintf(&b, "  %-18s %s\n", change, c.WhatIf(change))
	}
	fmt.Fprintf(&b, "\n%s\n", c.Limit())
	return b.String()
}

// Limit says what else could open the blob. These are limits of the design, and no setting
// removes them.
func (c Contract) Limit() string {
	const agent = " Root in this guest can read the agent's memory. The agent enforces app, unit, user and digest; the key itself does not depend on them."
	switch c.Weakest {
	case SlotSNPTPM:
		return "What else opens it: any guest that is launched with the same measurement and guest policy on this chip derives the same SNP key. With a cloud's own firmware and boot from disk, that is any VM that boots this firmware on this chip, including those of other tenants. Such a guest also needs this TPM's secret. The party that runs the TPM may have that secret, and on many clouds that party is the host." + agent
	case SlotSNP:
		return "What else opens it: any guest that is launched with the same measurement and guest policy on this chip derives the same key. With a cloud's own firmware and boot from disk, that is any VM that boots this firmware on this chip, including those of other tenants." + agent
	case SlotTPM:
		return "What else opens it: the party that runs the TPM, and any program that can use the TPM and has the agent's files. If the host runs the TPM, nothing here keeps the secret from the host. Nothing binds it to this chip or to what was launched." + agent
	}
	return "What else opens it: only the recovery identity."
}
