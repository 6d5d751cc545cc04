// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
)

// lookAtUpgrade says how far an upgrade to another image is. Only root learns that; without the
// admin socket the line on derived keys says so. Open says whether the store opens.
func (d *doctor) lookAtUpgrade(ctx context.Context, open bool) {
	if u, err := soon(ctx, d.sockets.adminSocket().Upgrade); err == nil {
		d.sayUpgrade(u, open)
	}
}

func (d *doctor) sayUpgrade(u *api.UpgradeStatus, open bool) {
	const name = "upgrade"
	switch {
	case u.State == api.UpgradeNone && u.Code != "" && open:
		d.bad(name, "`agentctl key upgrade-abort`, then `agentctl key pin-release-key FILE`", "the record of upgrades does not open (%s): whether the store was handed over is not known, and nothing can be stored", u.Code)
	case u.State == api.UpgradeNone && u.Code != "": // the line on sealed blobs says it
	case u.State == api.UpgradeNone && u.Unproven:
		d.warn(name, "`agentctl key pin-release-key FILE`", "the release key came from a recovery that could not tell who wrote it, and is not used")
	case u.State == api.UpgradeNone && u.ReleaseKey != "":
		d.good(name, "a release key is pinned: `agentctl key upgrade-status` prints it, to compare with the publisher's")
	case u.State == api.UpgradeNone:
	case u.State == api.UpgradeAccepted:
		d.warn(name, "`agentctl key upgrade-finish`, once this image works", "the predecessor, and an attacker who launches it, can still go back in this folder")
	case u.State == api.UpgradeAnswered:
		d.warn(name, "go on at the successor, or `agentctl key upgrade-abort`", "the store was handed over to release %d: nothing can be stored here", u.Preparing)
	default:
		d.note(name, "docs/upgrades.md", "%s", u.Text)
	}
}
