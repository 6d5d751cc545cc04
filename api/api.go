// Package api holds the types that travel over the agent's sockets, the paths they
// travel under, and the codes of its errors. It holds no server code, so that
// clients can import it. The same is described for other languages in openapi.yaml.
package api

import "github.com/cvm-agentd/agentd/evidence"

// Where the agent listens, and the variable that tells clients of another place.
const (
	Socket      = "/run/agentd/agentd.sock" // for programs on the VM
	AdminSocket = "/run/agentd/admin.sock"  // for root
	SocketEnv   = "AGENTD_SOCKET"
	AdminEnv    = "AGENTD_ADMIN_SOCKET"
)

// LogMode says how much of the measurement log goes into evidence.
type LogMode string

const (
	LogWhole LogMode = "whole" // from record 0
	LogFrom  LogMode = "from"  // from record LogStart
	LogNone  LogMode = "none"  // none: the verifier has the log from elsewhere
)

// EvidenceRequest is the body of POST /v1/evidence.
type EvidenceRequest struct {
	Nonce     evidence.Bytes     `json:"nonce"`              // 16 to 64 bytes, required
	Audience  string             `json:"audience,omitzero"`  // at most 256 bytes
	UserData  evidence.Bytes     `json:"userData,omitzero"`  // at most 4 KiB
	PublicKey evidence.Bytes     `json:"publicKey,omitzero"` // at most 8 KiB
	Freshness evidence.Freshness `json:"freshness,omitzero"` // default "fresh"
	Log       LogMode            `json:"log,omitzero"`       // default "whole"
	LogStart  uint64             `json:"logStart,omitzero"`  // with log "from": first record wanted
}
