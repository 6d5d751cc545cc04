// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// Self is the answer of GET /v1/self: who the caller is to the agent. It has what the
// statement of an evidence would say, with the reasons.
type Self struct {
	UID        uint32               `json:"uid"`                 // effective uid at connect, seen from the agent's user namespace
	GID        uint32               `json:"gid"`                 // effective gid at connect
	Unit       string               `json:"unit,omitzero"`       // systemd system unit, if there is one
	UnitReason string               `json:"unitReason,omitzero"` // why there is no unit
	App        string               `json:"app,omitzero"`        // declared app with this unit and user
	Method     evidence.Method      `json:"method"`              // how connection and process were tied
	Executable *evidence.Executable `json:"executable,omitzero"` // an observation, never proof
	Measured   Finding              `json:"measured"`            // whether the log vouches for the app
	Keys       Finding              `json:"keys"`                // whether the app may have keys
}

// Finding is a yes or no with its reason.
type Finding struct {
	Yes    bool   `json:"yes"`    // the answer
	Reason string `json:"reason"` // reason in words, for people
}
