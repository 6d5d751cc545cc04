// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
)

// sockets are where the agent is to be found; empty means the usual places.
type sockets struct {
	client, admin string
}

func (s *sockets) clientSocket() *client.Client { return &client.Client{Socket: s.client} }
func (s *sockets) adminSocket() *client.Admin   { return &client.Admin{Socket: s.admin} }

// memoryTime is how long the agent has for what it answers from memory. It takes less
// than a millisecond, and longer only on a machine that hangs, or where something else
// listens at the socket.
const memoryTime = 30 * time.Second

// errHangs is returned where the socket was connected and no answer came.
var errHangs = fmt.Errorf("no answer within %v", memoryTime)

// soon asks what the agent answers from memory.
func soon[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, memoryTime, errHangs)
	defer cancel()
	answer, err := ask(ctx)
	if err != nil && context.Cause(ctx) == errHangs {
		err = fmt.Errorf("%w: %w", errHangs, err)
	}
	return answer, err
}

// unavailable are the problems that stand for an agent or device that cannot do what
// was asked, now or ever on this machine.
var unavailable = map[api.Code]bool{
	api.CodeBusy: true, api.CodeConnections: true, api.CodeShuttingDown: true, api.CodeDesynchronised: true,
	api.CodePCRMismatch: true, api.CodeLogFull: true, api.CodeTPM: true, api.CodeTPMTimeout: true, api.CodeAKUnusable: true,
	api.CodePlatformAbsent: true, api.CodePlatformBusy: true, api.CodePlatformTimeout: true,
	api.CodePlatformKeyWiped: true, api.CodePlatformVMPL: true, api.CodePlatformRefused: true,
	api.CodePlatformMalformed: true, api.CodeTimeout: true, api.CodeUnavailable: true, api.CodeThrottled: true,
	api.CodeRootUnavailable: true, api.CodeInterrupted: true, api.CodeBadDerivedKey: true, api.CodeNoRecovery: true,
}

// notPermitted are the problems that lie in who asks.
var notPermitted = map[api.Code]bool{
	api.CodeNotPermitted: true, api.CodePeerGone: true, api.CodePeerUnknown: true, api.CodeNoSystemUnit: true, api.CodeNoApp: true,
	api.CodeOtherApp: true, api.CodeOtherUser: true, api.CodeDigestNotAuthorised: true,
}

// sealed are the problems of a blob or store that does not open.
var sealed = map[api.Code]bool{
	api.CodeOtherChip: true, api.CodeOtherMeasurement: true, api.CodeGuestPolicyChanged: true, api.CodeOtherVMPL: true, api.CodeTCBBelow: true,
	api.CodeWrongKey: true, api.CodeTPMCleared: true, api.CodeOtherTPM: true, api.CodeTPMSecretMissing: true, api.CodeTPMSecretDamaged: true,
	api.CodeNoUsableSlot: true, api.CodeWrongIdentity: true, api.CodeTruncated: true, api.CodeDamaged: true, api.CodeMalformedBlob: true,
	api.CodeUnknownVersion: true, api.CodeAltered: true, api.CodeRenamed: true, api.CodeMissing: true, api.CodeOldGeneration: true,
	api.CodeRolledBack: true, api.CodeCounterBehind: true, api.CodeCounterLost: true, api.CodeManifestLost: true, api.CodeOtherAssociatedData: true,
}

// recovering is what to do about a machine that is not the one that sealed.
const recovering = "root can use the recovery identity: `agentctl key recover --identity FILE`; nothing was deleted"

// hints say what to do about a problem.
var hints = map[api.Code]string{
	api.CodeDesynchronised:   "reboot the machine; `agentctl status` says what does not fit",
	api.CodePCRMismatch:      "find out what else extends the PCR, then reboot the machine",
	api.CodeLogFull:          "reboot the machine; an application that changes all the time should be declared with fewer files",
	api.CodePlatformAbsent:   "is this an SEV-SNP guest with the sev-guest driver? `agentctl doctor` looks for it",
	api.CodePlatformKeyWiped: "reboot the machine",
	api.CodePlatformBusy:     "try again in a few seconds, or ask with --anchored",
	api.CodePlatformTimeout:  "try again, or ask with --anchored",
	api.CodeNoSuchApp:        "`agentctl app list` shows those that are declared; after a change run `agentctl app reload`",
	api.CodeNotPermitted:     "run it as root, on the admin socket (--admin)",
	api.CodeTPM:              "`agentctl doctor` looks for the TPM",
	api.CodeUnavailable:      "`agentctl status` says what is missing",

	api.CodeAKUnusable: "bring the TPM or the file back, or have root accept a new key: `agentctl key replace-ak` keeps the old one; what was sealed is then for `agentctl key recover`",

	api.CodeNoSystemUnit:        "start it as a systemd system unit: `agentctl self` says who the caller is",
	api.CodeNoApp:               "declare the application with this unit and user: `agentctl self` says who the caller is",
	api.CodeDigestNotAuthorised: "root can authorize the digest: `agentctl key authorize --app NAME --digest DIGEST`",
	api.CodeNoRecovery:          "set recovery_recipients in [keys] of the configuration, or acknowledge the loss there",
	api.CodeOtherChip:           recovering,
	api.CodeOtherMeasurement:    recovering,
	api.CodeGuestPolicyChanged:  recovering,
	api.CodeOtherVMPL:           recovering,
	api.CodeTCBBelow:            recovering,
	api.CodeWrongKey:            recovering,
	api.CodeTPMCleared:          recovering,
	api.CodeOtherTPM:            recovering,
	api.CodeTPMSecretMissing:    recovering,
	api.CodeTPMSecretDamaged:    recovering,
	api.CodeManifestLost:        "put the manifest back, or have root salvage the rest: `agentctl key recover`",
	api.CodeRolledBack:          "find out who put the older state back; root can accept it: `agentctl key accept-rollback`",
	api.CodeCounterBehind:       "find out who put the TPM's older state back; root can accept it: `agentctl key accept-rollback`",
	api.CodeCounterLost:         "find out who removed the counter; root can accept it: `agentctl key accept-rollback`",
}

// failed turns an error of the agent, or of the way to it, into an exit.
func failed(err error) *exitError {
	var p *api.Problem
	if errors.As(err, &p) {
		x := &exitError{code: exitMisuse, err: err, hint: hints[p.Code]}
		switch {
		case notPermitted[p.Code]:
			x.code = exitNotPermitted
		case unavailable[p.Code]:
			x.code = exitUnavailable
		case sealed[p.Code]:
			x.code = exitSealed
		}
		return x
	}
	switch {
	case errors.Is(err, errHangs):
		return (&exitError{code: exitUnavailable, err: err}).withHint("it runs and hangs: `journalctl -u agentd` may say why, `systemctl restart agentd` ends it")
	case errors.Is(err, fs.ErrPermission):
		return (&exitError{code: exitNotPermitted, err: err}).withHint("the client socket is for the group agentd-clients, the admin socket for root")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return (&exitError{code: exitUnavailable, err: err}).withHint("`systemctl status agentd` tells whether it runs")
	}
	return &exitError{code: exitUnavailable, err: err}
}
