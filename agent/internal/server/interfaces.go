// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
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
	// ReplaceAK makes a new AK in the place of a stored one that this TPM does not load.
	ReplaceAK(ctx context.Context) (api.Replaced, error)
}

// An Owner is whose keys are asked for: an app, as unit and uid of the caller say.
type Owner struct {
	App  string
	Unit string
	UID  uint32
}

// Keys keeps the secrets of apps. Errors are those of package sealing. Who calls
// overwrites the secrets that it is handed.
type Keys interface {
	// Await waits until it is known which unit is whose app: before, nobody is anybody.
	Await(ctx context.Context) error
	// Usable says from memory whether keys are to be had at the moment.
	Usable() api.Finding

	Derive(ctx context.Context, o Owner, r api.DeriveRequest) (api.Derived, error)
	Seal(ctx context.Context, o Owner, r api.SealRequest) error
	Unseal(ctx context.Context, o Owner, r api.UnsealRequest) ([]byte, error)
	Discard(ctx context.Context, o Owner, name string) error
	// Plan is the contract of what o would seal under that name now.
	Plan(ctx context.Context, o Owner, name string) (api.Contract, error)
}

// A Store is the sealed blobs of the machine, for who administrates. It gives out no secret.
type Store interface {
	Store(ctx context.Context) (api.Store, error)
	// Contract is that of the root of app, or of its secret of that name.
	Contract(ctx context.Context, app, name string) (api.Contract, error)
	Rewrap(ctx context.Context) (api.Rewritten, error)
	Rotate(ctx context.Context, app string) (version uint32, err error)
	Retire(ctx context.Context, app string, version uint32) error
	// Recover overwrites the identities.
	Recover(ctx context.Context, identities []byte) (api.Rewritten, error)
	ChangeRecipients(ctx context.Context, r api.RecipientsRequest) (api.Rewritten, error)
	AcceptRollback(ctx context.Context) (api.Store, error)
	ChangeDigests(ctx context.Context, r api.DigestRequest) (api.Contract, error)
	Probe(ctx context.Context) (api.Probed, error)
}
