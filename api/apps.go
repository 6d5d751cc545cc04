// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// AppState is the state of a declared app.
type AppState string

const (
	AppMeasured   AppState = "measured"   // the log has a manifest of its files as they are now
	AppUnmeasured AppState = "unmeasured" // see Reason
	AppPending    AppState = "pending"    // changed or new, not measured yet
)

// App is one declared app.
type App struct {
	Name        string           `json:"name"`                 // name of the declaration
	Unit        string           `json:"unit"`                 // systemd system unit; empty if the declaration was refused
	User        string           `json:"user,omitzero"`        // user that the unit runs as
	DynamicUser bool             `json:"dynamicUser,omitzero"` // systemd gives that user a uid at each start of the unit
	Users       []string         `json:"users,omitempty"`      // further users of the unit whose processes are the app; they have no keys
	Source      string           `json:"source,omitzero"`      // file of the declaration
	State       AppState         `json:"state"`                // whether the log has its files
	Reason      string           `json:"reason,omitzero"`      // why it is not measured
	Declaration evidence.Digest  `json:"declaration"`          // SHA-256 of the declaration
	Digest      *evidence.Digest `json:"digest,omitzero"`      // manifest digest, once measured
	Record      *uint64          `json:"record,omitzero"`      // number of its latest record in the log
	Changed     uint64           `json:"changed,omitzero"`     // when the log got this digest: milliseconds of the guest's clock since the kernel started; absent unless it is measured
	Covered     *Covered         `json:"covered,omitzero"`     // its interval of coverage; absent if none is open
	Files       uint64           `json:"files"`                // entries of the manifest
	Bytes       uint64           `json:"bytes"`                // sum of their sizes
	Interpreter string           `json:"interpreter,omitzero"` // path of the interpreter, if interpreters and libraries are all that is measured: what it runs is not covered
	Reading     *Reading         `json:"reading,omitzero"`     // the reading of its files that is under way; absent if none is
}

// Reading is how far the agent is with the files of an app.
type Reading struct {
	Since uint64 `json:"since"`         // seconds that it has taken
	Bytes uint64 `json:"bytes"`         // hashed, or known already
	Of    uint64 `json:"of"`            // bytes of the files found so far, or of the reading before if that was more
	Path  string `json:"path,omitzero"` // looked at last
	Stuck bool   `json:"stuck"`         // the file system of the path does not answer: the app is measured when it does
}

// Left estimates how many seconds the rest of the reading takes, by what it has taken so far. It
// returns false in the first seconds, if nothing was read yet, and if the reading is stuck.
func (r *Reading) Left() (seconds uint64, known bool) {
	if r.Stuck || r.Since < 3 || r.Bytes == 0 || r.Of < r.Bytes {
		return 0, false
	}
	return uint64(float64(r.Of-r.Bytes) / float64(r.Bytes) * float64(r.Since)), true
}

// Covered is an interval in which the agent saw every change of an app's files.
type Covered struct {
	Since   uint64 `json:"since"`   // when it began: milliseconds of the guest's clock since the kernel started
	Record  uint64 `json:"record"`  // number of the record that began it
	Carried uint64 `json:"carried"` // how often a restart or a gap interrupted it, and it was carried on

	EndsWithAgent string `json:"endsWithAgent,omitzero"` // why a restart of the agent would end it; absent if it would go on
}

// Apps is the answer of GET /v1/apps.
type Apps struct {
	Apps []App `json:"apps"` // in the order of their names
}

// Reloaded is the answer of POST /v1/reload. Declarations without an error are in force.
type Reloaded struct {
	Apps   AppCounts       `json:"apps"`
	Errors []ReloadProblem `json:"errors,omitempty"` // declarations that were refused

	Measuring []string `json:"measuring,omitempty"` // apps whose files are still being read, in order
}

// ReloadProblem is a declaration that was refused.
type ReloadProblem struct {
	Source string `json:"source"` // file of the declaration
	Reason string `json:"reason"` // with line and column if known
}
