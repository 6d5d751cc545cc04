// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/enrol"
	"github.com/cvm-agentd/agentd/agent/internal/events"
	"github.com/cvm-agentd/agentd/agent/internal/identity"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/reports"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/agent/internal/vault"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/tpm"
)

// failing is an agent whose one attempt to bring its parts up ends with err.
func failing(t *testing.T, err error) *Source {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	agent, e := identity.New("test", nil)
	if e != nil {
		t.Fatal(e)
	}
	s := startup.New(log)
	device, list, l := startup.NewPart[*tpm.Device](s), startup.NewPart[*apps.Apps](s), startup.NewPart[*ledger.Ledger](s)
	platform := &reports.Watched{}
	ctx, cancel := context.WithCancel(t.Context())
	s.Run(ctx, []startup.Step{{What: "all", Do: func(context.Context) error { cancel(); return err }}})
	return &Source{
		Evidence: never{err}, Explain: func(err error) *api.Problem { return &api.Problem{Code: "a-code", Detail: err.Error()} },
		Agent: agent, Supervisor: s, Device: device, Ledger: l, Attester: startup.NewPart[*attest.Attester](s), Platform: platform,
		Enroller: enrol.New(enrol.Config{Supervisor: s, State: startup.NewPart[*durable.Dir](s), Device: device, Log: log}),
		Apps:     &apps.Service{Apps: list, Ledger: l, Agent: agent, Staple: platform.Staple, Log: log},
		Events:   events.New(events.Config{Apps: list, Ledger: l, Log: log}),
		Vault:    vault.New(vault.Config{Supervisor: s, Device: device, Apps: list, Platform: platform, Log: log}),
	}
}

// never is an agent that cannot make evidence.
type never struct{ err error }

func (n never) Ready() error       { return n.err }
func (never) Look(context.Context) {}

// TestTPMIsNotBlamed: a step before the TPM that fails says nothing of the TPM, whatever the
// fault is, and what the TPM refuses has its code. Joined errors are one line.
func TestTPMIsNotBlamed(t *testing.T) {
	for _, errno := range []error{syscall.EROFS, syscall.ENOSPC, syscall.EIO, syscall.EACCES, errors.Join(syscall.EROFS, syscall.EIO)} {
		s := failing(t, fmt.Errorf("open state folder /var/lib/agentd: %w", errno)).Status()
		if s.TPM.State != api.StateUnknown || !strings.Contains(s.TPM.Reason, "state folder") || s.TPM.Code != "" {
			t.Errorf("%v: %+v", errno, s.TPM)
		}
		for _, reason := range []string{s.TPM.Reason, s.Ledger.Reason, s.Keys.Reason} {
			if strings.Contains(reason, "\n") {
				t.Errorf("%v: %q", errno, reason)
			}
		}
	}
	refuses := &tpm.StateError{Kind: tpm.ErrRefuses, Cause: "no ECC", Todo: "give it another"}
	if s := failing(t, fmt.Errorf("%w: %w", enrol.ErrNoTPM, refuses)).Status(); s.TPM.Code != api.CodeTPMRefuses || !strings.Contains(s.TPM.Reason, "give it another") {
		t.Errorf("%+v", s.TPM)
	}
}

// TestAKStatus: a stored key that does not load has a code and a sentence of its own,
// for the TPM and for keys, and is not called a TPM that does not work.
func TestAKStatus(t *testing.T) {
	s := failing(t, enrol.ErrUnusable).Status()
	if s.TPM.State != api.StateDegraded || s.TPM.Code != api.CodeAKUnusable || s.TPM.Reason != enrol.ErrUnusable.Error() || s.Keys.Code != api.CodeAKUnusable || s.Keys.Reason == "" {
		t.Errorf("%+v", s)
	}
	if e := failing(t, enrol.ErrUnusable).Status().Evidence; e.Ready || e.Code != "a-code" || e.Reason != enrol.ErrUnusable.Error() {
		t.Errorf("evidence %+v", e)
	}
	without := failing(t, enrol.ErrNoTPM)
	if s := without.Status(); s.TPM.Code != "" || s.Keys.Code != "" || s.TPM.Reason != enrol.ErrNoTPM.Error() {
		t.Errorf("%+v", s)
	}
	// Without state folder and TPM there is nothing to replace, and the error says why.
	if _, err := without.Enroller.ReplaceAK(t.Context()); !errors.Is(err, startup.ErrNotUp) || !errors.Is(err, enrol.ErrNoTPM) {
		t.Errorf("replaced: %v", err)
	}
}
