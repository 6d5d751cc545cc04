package server

import (
	"context"

	"github.com/cvm-agentd/agentd/agent/caller"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// An Attester makes evidence. The request was checked and has its defaults filled in.
type Attester interface {
	Attest(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([]byte, error)
}

// Log is the measurement log.
type Log interface {
	// Log is the log from record start on; start may be the number of records there
	// are. One beyond it is attest.ErrLogStart.
	Log(ctx context.Context, start uint64) (evidence.Log, error)
	// Bytes is how long the whole log is, for the budget of answers.
	Bytes() int64
}

// Apps is the declared applications, in the words of the API.
type Apps interface {
	caller.Apps
	List() []api.App
	Measure(ctx context.Context, name string) (api.App, error)
	Reload(ctx context.Context) (api.Reloaded, error)
}

// A StatusSource tells how the agent does. It must not wait for a device.
type StatusSource interface {
	Status() api.Status
}

// An Enroller shows the AK and proves that it lives beside the EK.
type Enroller interface {
	AK(ctx context.Context) (api.AK, error)
	// Activate opens a credential: the contents of TPM2B_ID_OBJECT and of
	// TPM2B_ENCRYPTED_SECRET.
	Activate(ctx context.Context, credential, secret []byte) ([]byte, error)
}
