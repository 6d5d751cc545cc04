// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/sealing"
)

// Status says how far an upgrade is, in words too.
func (s Service) Status(ctx context.Context) (api.UpgradeStatus, error) {
	x, err := s.Store(ctx)
	if err != nil {
		return api.UpgradeStatus{}, err
	}
	u, err := x.UpgradeState(ctx)
	if err != nil {
		return api.UpgradeStatus{}, err
	}
	out := api.UpgradeStatus{State: stateOf(u), ReleaseKey: u.ReleaseKey, Unproven: u.Unproven, Number: u.Number, Code: sealing.CodeOf(u.Err)}
	out.Request = u.Accepted
	if u.Prepared != nil {
		out.Preparing, out.Expires = u.Prepared.Number, u.Prepared.Expires
	}
	if len(u.Answered) > 0 {
		out.Request = u.Answered
	}
	out.Text = words(out, u.StoreKey != "")
	return out, nil
}

func stateOf(u store.UpgradeState) api.UpgradeState {
	switch {
	case u.Return:
		return api.UpgradeReplaced
	case len(u.Answered) > 0:
		return api.UpgradeAnswered
	case u.Prepared != nil:
		return api.UpgradePrepared
	case u.Past:
		return api.UpgradeAccepted
	case u.Asked:
		return api.UpgradeAsked
	}
	return api.UpgradeNone
}

// words says what a state means, and what to do next. Open says whether the store opens.
func words(u api.UpgradeStatus, open bool) string {
	switch u.State {
	case api.UpgradeReplaced:
		return "the store in this folder does not open here, and there is one of before an upgrade: " +
			"if this is the old image and the successor is given up, `agentctl key upgrade-abort` goes back, and what the successor stored is lost"
	case api.UpgradeAnswered:
		return fmt.Sprintf("the store was handed over to release %d: apps still get their keys here, and nothing is changed until `agentctl key upgrade-abort`", u.Preparing)
	case api.UpgradePrepared:
		return fmt.Sprintf("release %d may take the store over until %s: give the successor the offer, `agentctl key upgrade-request OFFER`", u.Preparing, moment(u.Expires))
	case api.UpgradeAccepted:
		return fmt.Sprintf("this store came over with release %d: the old image can still go back in this folder, until `agentctl key upgrade-finish`", u.Number)
	case api.UpgradeAsked:
		return "this agent asked for the store of another image: `agentctl key upgrade-accept --store-key KEY ANSWER` takes it over"
	}
	switch {
	case u.Code != "" && open:
		return "the record of upgrades does not open, so it is not known whether the store was handed over, and nothing is changed: " +
			"`agentctl key upgrade-abort` makes it anew; then pin the release key again"
	case u.Code != "":
		return "the store does not open, and nothing of an upgrade is here"
	case u.ReleaseKey == "":
		return "no upgrade is under way, and no release key is pinned: `agentctl key pin-release-key FILE`"
	case u.Unproven:
		return "no upgrade is under way; the release key came from a recovery that could not tell who wrote it: pin it again, `agentctl key pin-release-key FILE`"
	}
	return "no upgrade is under way; a release key is pinned"
}

// ofFirmware is said of a policy that names images by their firmware alone.
const ofFirmware = ". A measurement that covers the firmware alone does not tell which system it boots: unless the policy pins PCRs, a system of the host under this firmware can have the roots too, if root answers its request"

// before is the contract of an upgrade that is prepared. Firmware says that a measurement covers the
// firmware alone.
func before(p api.PreparedUpgrade, firmware bool) []api.UpgradeSentence {
	whose := ""
	if firmware {
		whose = ofFirmware
	}
	return []api.UpgradeSentence{
		{About: "goes over", Text: fmt.Sprintf("%s: the roots of apps with all versions and required digests, what apps stored, credentials that root provisioned, the keys of volumes, the store key, recovery recipients and the release key. So every derived secret and every signing key stays the same", text.Count(p.Entries, "blob"))},
		{About: "stays behind", Text: fmt.Sprintf("what does not open here (%s); the attestation key and its enrolment, the measurement log, the TPM's counter and secret", text.Count(len(p.Left), "blob"))},
		{About: "who may have it", Text: fmt.Sprintf("one guest whose evidence meets the policy of release %d, with one of %d launch measurements, on any chip that the policy accepts. Root of such a guest can read the roots", p.Number, len(p.Measurements)) + whose},
		{About: "until when", Text: fmt.Sprintf("%s by the clock of this machine, which its host can set. What the host cannot change: the preparation serves one successor", moment(p.Expires))},
		{About: "once answered", Text: "nothing is changed here any more; apps still get their keys"},
		{About: "rollback", Text: "`agentctl key upgrade-abort` ends it at any time. If the successor uses this very folder, the old image can go back until root finishes the upgrade there. A volume whose key was rotated there is then opened by its recovery key alone"},
	}
}

// after is the contract of an upgrade that was accepted.
func after(u api.UpgradeStatus) []api.UpgradeSentence {
	out := []api.UpgradeSentence{
		{About: "seals", Text: "everything is sealed to this image, this chip and this TPM; derived secrets and signing keys are those of before"},
		{About: "store key", Text: "the same as before: what root kept for a recovery still fits"},
		{About: "predecessor", Text: "it still has the roots, if it still runs or its disk and TPM still exist. If it should not have them: rotate the roots of apps here, and rotate the store key"},
	}
	if u.State == api.UpgradeAccepted {
		return append(out, api.UpgradeSentence{About: "rollback", Text: "the old image goes back in this folder with `agentctl key upgrade-abort`, and so can an attacker who launches it. `agentctl key upgrade-finish` ends that"})
	}
	return append(out, api.UpgradeSentence{About: "rollback", Text: "`agentctl key upgrade-abort` on the old machine; what is stored here then stays here"})
}
