// SPDX-License-Identifier: Apache-2.0

package replay

import "github.com/cvm-agentd/agentd/evidence"

// Agent is one agent that wrote to the log.
type Agent struct {
	Record        uint64          `json:"record"`        // number of its first event
	Version       string          `json:"version"`       // version that it states
	Digest        evidence.Digest `json:"digest"`        // SHA-256 of the executable
	Configuration evidence.Digest `json:"configuration"` // digest of the configuration in force
}

// App is one application with everything that it was since boot.
type App struct {
	Name     string       `json:"name"`
	Current  int          `json:"current"`  // index in Versions of the last measurement
	Versions []AppVersion `json:"versions"` // each once, in the order of their first event
}

// AppVersion is an application as it was measured.
type AppVersion struct {
	Record      uint64          `json:"record"`      // number of its first event
	Unit        string          `json:"unit"`        // systemd unit
	User        string          `json:"user"`        // user that the unit runs as
	Digest      evidence.Digest `json:"digest"`      // digest of the manifest
	Declaration evidence.Digest `json:"declaration"` // digest of the file that declares it
}

// Unmeasured is a declared application that could not be measured.
type Unmeasured struct {
	Record uint64 `json:"record"`
	App    string `json:"app"`
	Reason string `json:"reason"`
}

// Gap is a reason for a gap that the agent recorded.
type Gap struct {
	Record uint64 `json:"record"`
	Reason string `json:"reason"`
}
