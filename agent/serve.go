// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/enrol"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/agent/internal/systemd"
	"github.com/cvm-agentd/agentd/agent/internal/vault"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// evidencer makes evidence as soon as the attester is up, and tells the owner of the
// attestation key how that key does.
type evidencer struct {
	supervisor *startup.Supervisor
	attester   *startup.Part[*attest.Attester]
	enroller   *enrol.Enroller
}

// Attest makes evidence.
func (e evidencer) Attest(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([][]byte, error) {
	a, err := e.attester.Wait(ctx)
	if err != nil {
		return nil, err
	}
	b, err := a.Attest(ctx, r, c)
	return b, e.enroller.Note(err)
}

// Ready returns why Attest would fail now, nil if it would not, by what was found last. All that
// says whether the agent can make evidence asks this: status, its line for systemd, doctor.
func (e evidencer) Ready() error {
	a, up := e.attester.Now()
	if !up {
		return e.supervisor.Missing()
	}
	return e.enroller.Note(a.Ready())
}

// Look has the devices asked, so that Ready tells how they do now.
func (e evidencer) Look(ctx context.Context) {
	if a, up := e.attester.Now(); up {
		a.Look(ctx)
	}
}

// logReader reads the measurement log as soon as the ledger is up.
type logReader struct{ ledger *startup.Part[*ledger.Ledger] }

// Log returns the measurement log from record start on.
func (r logReader) Log(ctx context.Context, start uint64) (evidence.Log, error) {
	l, err := r.ledger.Wait(ctx)
	if err != nil {
		return evidence.Log{}, err
	}
	v := l.View()
	if start > v.Head.Count {
		refusal := problem.New(api.CodeStartBeyondLog, fmt.Sprintf("record %d was asked for, the log has %d", start, v.Head.Count))
		refusal.Where = api.QueryStart
		return evidence.Log{}, refusal
	}
	return v.Log(start)
}

// Bytes returns the length of the whole log.
func (r logReader) Bytes() int64 {
	if l, up := r.ledger.Now(); up {
		return l.State().Bytes
	}
	return 0
}

// errorCodes are the codes of errors that the server does not know itself.
var errorCodes = []server.ErrorCode{
	{Err: ledger.ErrDesynchronised, Code: api.CodeDesynchronised}, // whatever failed besides
	{Err: ledger.ErrFull, Code: api.CodeLogFull},
	{Err: durable.ErrNoRoom, Code: api.CodeDiskFull, Retry: 5 * time.Second},
	{Err: durable.ErrReadOnly, Code: api.CodeDiskReadOnly, Retry: 5 * time.Second},
	{Err: durable.ErrResources, Code: api.CodeResources, Retry: time.Second},
	{Err: durable.ErrFailed, Code: api.CodeDiskFailed, Retry: 5 * time.Second},
	{Err: tpmkeys.ErrLater, Code: api.CodeLaterVersion},
	{Err: enrol.ErrUnusable, Code: api.CodeAKUnusable},
	{Err: tpmkeys.ErrOtherTPM, Code: api.CodeAKUnusable},
	{Err: tpmkeys.ErrDamaged, Code: api.CodeAKUnusable},
	{Err: tpmkeys.ErrParent, Code: api.CodeAKUnusable},
	{Err: tpm.ErrRefuses, Code: api.CodeTPMRefuses},
	{Err: tpm.ErrCrowded, Code: api.CodeTPM, Retry: 5 * time.Second},
	{Err: vault.ErrEphemeral, Code: api.CodeNoUsableSlot},
	{Err: vault.ErrClosed, Code: api.CodeUnavailable},
	{Err: vault.ErrNoDerivation, Code: api.CodeNoUsableSlot},
	{Err: attest.ErrIMANotQuoted, Code: api.CodeIMANotQuoted},
	{Err: attest.ErrIMAUnavailable, Code: api.CodeIMAUnavailable},
	{Err: attest.ErrIMATooLong, Code: api.CodeIMATooLong},
	{Err: attest.ErrIMAStart, Code: api.CodeIMAStart},
	{Err: apps.ErrConfig, Code: api.CodeBadDeclaration},
	{Err: tpm.ErrTimedOut, Code: api.CodeTPMTimeout, Retry: 5 * time.Second},
	{Err: tpm.ErrDegraded, Code: api.CodeTPM, Retry: 5 * time.Second},
	{Err: tpm.ErrLockout, Code: api.CodeTPM},
	{Err: enrol.ErrNoTPM, Code: api.CodeTPM, Retry: 5 * time.Second},
	{Err: startup.ErrNotUp, Code: api.CodeUnavailable, Retry: 5 * time.Second}, // for a reason that has no code
}

// Permissions of the sockets.
const (
	clientMode = 0o660
	adminMode  = 0o600 // and of the socket for credentials
)

// listeners are the sockets of the agent.
type listeners struct {
	client, admin *server.Listener
	credentials   *server.Listener // nil if systemd passed the other sockets and not this one
	gate          *server.Listener // likewise
}

// listen takes the sockets that systemd passed, and makes those that it did not. The packaged
// service can make no socket: if it got the others, it does without the others.
func listen(c config.Sockets, passed systemd.Passed) (l listeners, err error) {
	group := -1
	if passed.Client == nil {
		if group, err = config.LookupGroup(c.ClientGroup); err != nil {
			return l, err
		}
	}
	partly := passed.Client != nil && passed.Admin != nil
	for _, x := range []struct {
		to     **server.Listener
		passed *os.File
		path   string
		mode   os.FileMode
		group  int
	}{
		{&l.client, passed.Client, c.Client, clientMode, group},
		{&l.admin, passed.Admin, c.Admin, adminMode, -1},
		{&l.credentials, passed.Credentials, c.CredentialsPath(), adminMode, -1},
		{&l.gate, passed.Gate, c.GatePath(), adminMode, -1},
	} {
		switch {
		case err != nil:
			if x.passed != nil {
				x.passed.Close()
			}
		case partly && x.passed == nil: // of a unit that is not started
		default:
			*x.to, err = listenOne(x.passed, x.path, x.mode, x.group)
		}
	}
	if err != nil {
		l.close()
	}
	return l, err
}

func listenOne(passed *os.File, path string, mode os.FileMode, group int) (*server.Listener, error) {
	if passed != nil {
		return server.Inherit(passed, path, mode)
	}
	return server.Listen(path, mode, group)
}

func (l listeners) close() {
	for _, x := range []*server.Listener{l.client, l.admin, l.credentials, l.gate} {
		if x != nil {
			x.Close()
		}
	}
}
