// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"context"
	"errors"
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

// weakest is the weakest slot of the machine: whoever has what that one needs opens
// the blob, however strong the others are. A recovery slot counts only where it is alone:
// it rests on no machine, and is named apart.
func weakest(slots []Slot) (w SlotKind) {
	for _, s := range slots {
		if s.Kind != SlotRecovery {
			w = max(w, s.Kind)
		}
	}
	if w == 0 && len(slots) > 0 {
		return SlotRecovery
	}
	return w
}

// contract is what h says.
func (h *Header) contract() Contract {
	c := Contract{Kind: h.Kind, App: h.App, Name: h.Name, Generation: h.Generation, Digests: h.Digests,
		Weakest: weakest(h.Slots), Recipients: h.recipients(), LossAcknowledged: h.LossAcknowledged,
		Machine: h.Machine, TPMSecret: h.TPMSecret}
	for _, s := range h.Slots {
		c.Slots = append(c.Slots, s.Kind)
	}
	return c
}

// Contract is what a blob that was only parsed claims.
func (b *Blob) Contract() Contract { return b.Claimed.contract() }

// Contract is that of the root of an app, or of its secret of that name. The blob is
// opened to authenticate it; nothing of what is inside is returned. Where it does not
// open, the file's claim comes beside the error.
func (s *Store) Contract(ctx context.Context, app, name string) (Contract, error) {
	if err := s.begin(ctx); err != nil {
		return Contract{}, err
	}
	defer s.end()
	key := entryKey{app: app, kind: KindAppRoot, name: name}
	if name != "" {
		key.kind = KindSecret
	}
	if s.locked != nil {
		c, err := s.claim(key)
		return c, errors.Join(s.locked, err)
	}
	e := s.manifest.find(key)
	if e == nil {
		return Contract{}, &Error{Code: NotFound, Detail: fmt.Sprintf("there is no %s %q of app %q", key.kind, name, app)}
	}
	b, err := s.readBlob(e.id)
	if err != nil {
		return Contract{}, err
	}
	c := b.Contract()
	c.Counted = len(s.manifest.counter) > 0
	_, payload, err := s.openEntry(ctx, *e)
	if err != nil {
		return c, err
	}
	payload.Wipe()
	c.Authenticated = true
	return c, nil
}

// claim finds what a file claims, in a store whose manifest does not open.
func (s *Store) claim(key entryKey) (Contract, error) {
	names, err := s.config.Files.List()
	if err != nil {
		return Contract{}, err
	}
	var best *Blob
	for _, n := range names {
		if !isBlobFile(n) {
			continue
		}
		raw, err := s.config.Files.Read(n, MaxBlob)
		if err != nil {
			continue
		}
		b, err := ParseBlob(raw)
		if err != nil || entryOf(&b.Claimed, 0).key != key {
			continue
		}
		if best == nil || b.Claimed.Generation > best.Claimed.Generation {
			best = b
		}
	}
	if best == nil {
		return Contract{}, &Error{Code: NotFound, Detail: fmt.Sprintf("no file claims to be the %s %q of app %q", key.kind, key.name, key.app)}
	}
	return best.Contract(), nil
}

// Plan is the contract of what the app would seal under that name now.
func (s *Store) Plan(ctx context.Context, app App, name string) (Contract, error) {
	if err := s.ready(ctx); err != nil {
		return Contract{}, err
	}
	defer s.end()
	c := s.header.contract()
	c.Planned, c.Kind, c.App, c.Name, c.Generation = true, KindSecret, app, name, s.manifest.number+1
	c.Counted = len(s.manifest.counter) > 0
	if name == "" {
		c.Kind = KindAppRoot
	}
	if kind := s.roots.kind(); kind.snp() {
		now := *s.roots.reading
		c.Machine = &now
	}
	return c, nil
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
