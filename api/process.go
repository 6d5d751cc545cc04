// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// Process is the answer of GET /v1/process: who a process of this machine is to the agent. All of it
// is of one process, which had not ended when the answer was made.
type Process struct {
	PID        uint32               `json:"pid"`                 // number of the process
	Started    uint64               `json:"started"`             // when it started: CLOCK_BOOTTIME in milliseconds
	UID        uint32               `json:"uid"`                 // effective uid, seen from the agent's user namespace
	GID        uint32               `json:"gid"`                 // effective gid
	Unit       string               `json:"unit,omitzero"`       // systemd system unit; absent if the process runs in none
	UnitReason string               `json:"unitReason,omitzero"` // why it runs in no unit
	App        string               `json:"app,omitzero"`        // declared app with this unit and user, or of this container
	Container  *evidence.Container  `json:"container,omitzero"`  // measured container that the process is in
	Executable *evidence.Executable `json:"executable,omitzero"` // an observation, never proof
	Measured   Finding              `json:"measured"`            // whether the log vouches for the app as its files are now
	SinceStart Finding              `json:"sinceStart"`          // whether it has done so since before the first process of its unit started: measured before, covered and unchanged since
	Digest     *evidence.Digest     `json:"digest,omitzero"`     // of what the log has of the app now: its manifest, or the root file system of the container; absent unless it is measured
	Covered    *Covered             `json:"covered,omitzero"`    // interval of coverage of the app; absent if none is open
}
