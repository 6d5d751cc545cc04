// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/api"
)

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
	Recovery bool     // whether the recovery identity opens what does not open otherwise
	Note     string   // remark for people
}

// String returns the outcome in one line.
func (o Outcome) String() string {
	s := "opens"
	switch {
	case !o.Opens && o.Recovery:
		s = fmt.Sprintf("refused (%s); the recovery identity opens it", o.Code)
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
	ChangeMeasurement: {snp: true, code: api.CodeOtherMeasurement, note: "opens again with what was launched before"},
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
