// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
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
	Unproven         bool              // whether its content was recovered although nothing told who wrote it
	StoreKey         StoreKey          // key that signs the blob; zero if it is not known, or not signed
	Passage          []Opener          // other images that can open it by an upgrade; nil if that is not known
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

// Provisioned begins the names of secrets that root provisioned for an app. systemd gets them for
// the app's unit, under the rest of the name; the app can neither seal nor unseal under such names.
const Provisioned = "agentd/provisioned/"

// Text returns the contract for people: what the blob rests on, the outcome of each change,
// and what else could open it.
func (c Contract) Text() string {
	var b strings.Builder
	what := c.Kind.String()
	if c.Name != "" {
		what += fmt.Sprintf(" %q", c.Name)
	}
	fmt.Fprintf(&b, "%s of app %s (%s), generation %d\n", what, c.App.Name, c.App.runsAs(), c.Generation)
	switch {
	case c.Planned:
		b.WriteString("not sealed yet: this is what it would be sealed to now\n")
	case !c.Authenticated:
		b.WriteString("not opened: this is what the file claims, and an attacker can write anything\n")
	}
	if name, ok := c.Volume(); ok {
		fmt.Fprintf(&b, "record of volume %s, with the key of the agent's key slot: the agent hands that to systemd-cryptsetup alone, and to root, for a recorded header\n", name)
	}
	if name, ok := c.Credential(); ok {
		fmt.Fprintf(&b, "provisioned by root: the agent hands it to systemd alone, as the credential %s of unit %s, after it measured the app\n", name, c.App.Unit)
	}
	if c.Unproven {
		b.WriteString("recovered although nothing told who wrote it: an attacker may have chosen what it contains\n")
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
	if !c.StoreKey.IsZero() {
		fmt.Fprintf(&b, "signed by %s: recovery needs this key too, kept with the identity\n", c.StoreKey)
	}
	if c.LossAcknowledged {
		b.WriteString("no recovery: root accepted that a change of the hardware loses this\n")
	}
	for _, d := range c.Digests {
		fmt.Fprintf(&b, "the agent gives it to the app that was measured as %s\n", d)
	}
	c.drawOpeners(&b)
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

// A Change is a change of the machine, the app or the files.
type Change string

// Changes whose outcome a contract knows.
const (
	ChangeRestart     Change = "restart"           // the agent restarts, the machine reboots: nothing else changes
	ChangeAppUpgrade  Change = "app-upgrade"       // the app is measured with a digest that is not authorised
	ChangeAppUnit     Change = "app-unit"          // the app gets another unit
	ChangeAppUser     Change = "app-user"          // the app runs as another user
	ChangeChip        Change = "other-chip"        // stop and start on a cloud, migration, restored on another host
	ChangeMeasurement Change = "other-measurement" // another firmware; with direct boot also kernel, initrd, command line
	ChangePolicy      Change = "guest-policy"      // launched under another guest policy
	ChangeTCBRaised   Change = "tcb-raised"        // the host's firmware is updated and committed
	ChangeTCBLowered  Change = "tcb-lowered"       // the host's firmware is older than at sealing
	ChangeVMPL        Change = "other-vmpl"        // the agent runs at another VM privilege level
	ChangeTPMCleared  Change = "tpm-cleared"       // TPM2_Clear
	ChangeOtherTPM    Change = "other-tpm"         // the vTPM's state was lost or belongs to another VM
	ChangeNoTPM       Change = "no-tpm"            // the machine no longer has a TPM
	ChangeRollback    Change = "files-rolled-back" // an attacker or a snapshot puts an older state of the files back
)

// Changes returns every change, in the order for people.
func Changes() []Change {
	return []Change{ChangeRestart, ChangeAppUpgrade, ChangeAppUnit, ChangeAppUser, ChangeChip, ChangeMeasurement, ChangePolicy,
		ChangeTCBRaised, ChangeTCBLowered, ChangeVMPL, ChangeTPMCleared, ChangeOtherTPM, ChangeNoTPM, ChangeRollback}
}

// Outcome is the outcome of a change.
type Outcome struct {
	Opens    bool     // whether the blob still opens
	Code     api.Code // code of the refusal; "" if the blob opens
	Recovery bool     // whether the recovery identity, with the store key, opens what does not open otherwise
	Note     string   // remark for people
}

// String returns the outcome in one line.
func (o Outcome) String() string {
	s := "opens"
	switch {
	case !o.Opens && o.Recovery:
		s = fmt.Sprintf("refused (%s); the recovery identity opens it, with the store key", o.Code)
	case !o.Opens:
		s = fmt.Sprintf("refused (%s)", o.Code)
	}
	if o.Note != "" {
		s += "; " + o.Note
	}
	return s
}

// breaks says which slots a change ends, and with which code.
var breaks = map[Change]struct {
	snp, tpm bool
	code     api.Code
	note     string
}{
	ChangeChip:        {snp: true, code: api.CodeOtherChip, note: "opens again on the old chip"},
	ChangeMeasurement: {snp: true, code: api.CodeOtherMeasurement, note: "opens again with what was launched before; an upgrade that root prepares there takes it over (docs/upgrades.md)"},
	ChangePolicy:      {snp: true, code: api.CodeGuestPolicyChanged, note: "opens again under the old guest policy"},
	ChangeTCBLowered:  {snp: true, code: api.CodeTCBBelow, note: "opens again once the firmware is as new as before"},
	ChangeVMPL:        {snp: true, code: api.CodeOtherVMPL, note: "opens again at the old VMPL"},
	ChangeTPMCleared:  {tpm: true, code: api.CodeTPMCleared, note: "the TPM's part is lost for ever"},
	ChangeOtherTPM:    {tpm: true, code: api.CodeOtherTPM, note: "opens again with the old TPM"},
	ChangeNoTPM:       {tpm: true, code: api.CodeNoUsableSlot, note: "opens again once the TPM is back"},
}

// WhatIf returns the outcome of a change for this blob.
func (c Contract) WhatIf(change Change) Outcome {
	switch change {
	case ChangeRestart:
		return Outcome{Opens: true}
	case ChangeAppUpgrade:
		if _, ok := c.Volume(); ok {
			return Outcome{Opens: true, Note: "a volume has no program: systemd-cryptsetup is recognised as systemd's own"}
		}
		if _, ok := c.Credential(); ok && len(c.Digests) > 0 {
			return Outcome{Code: api.CodeDigestNotAuthorised, Note: "the unit does not start until root authorises the digest"}
		}
		if len(c.Digests) > 0 {
			return Outcome{Code: api.CodeDigestNotAuthorised, Note: "opens once root authorises the digest, before the upgrade or after"}
		}
		return Outcome{Opens: true, Note: "no digest is required"}
	case ChangeAppUnit:
		return Outcome{Code: api.CodeOtherApp, Note: "opens again for the old unit"}
	case ChangeAppUser:
		return Outcome{Code: api.CodeOtherUser, Note: "opens again for the old user"}
	case ChangeTCBRaised:
		if c.Machine == nil {
			return Outcome{Opens: true}
		}
		return Outcome{Opens: true, Note: "rewrap seals it to the new TCB; copies of the old file stay readable to the old firmware"}
	case ChangeRollback:
		if c.Counted {
			return Outcome{Code: api.CodeRolledBack, Note: "root can accept it; not detected if the party that runs the TPM turned its counter back too"}
		}
		return Outcome{Opens: true, Note: "and nothing detects it: no TPM counts"}
	}
	b, ok := breaks[change]
	if !ok {
		return Outcome{Note: fmt.Sprintf("unknown change %q", string(change)), Code: api.CodeInvalidValue}
	}
	if slices.ContainsFunc(c.Slots, func(k SlotKind) bool {
		return k != SlotRecovery && !(b.snp && k.SNP()) && !(b.tpm && k.TPM())
	}) {
		return Outcome{Opens: true, Note: "the blob has a slot that does not rest on that"}
	}
	if !slices.ContainsFunc(c.Slots, func(k SlotKind) bool { return k != SlotRecovery }) {
		return Outcome{Code: api.CodeNoUsableSlot, Recovery: true}
	}
	return Outcome{Code: b.code, Recovery: len(c.Recipients) > 0, Note: b.note}
}
