// SPDX-License-Identifier: Apache-2.0

// Package status says how the agent does, from what its parts remember.
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"

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
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/tpm"
)

// A Source reads the status of the parts. All fields but Gate are required.
type Source struct {
	Agent      *identity.Agent
	Supervisor *startup.Supervisor
	Device     *startup.Part[*tpm.Device]
	Ledger     *startup.Part[*ledger.Ledger]
	Attester   *startup.Part[*attest.Attester]
	Platform   *reports.Watched
	Enroller   *enrol.Enroller
	Apps       *apps.Service
	Events     *events.Service
	Vault      *vault.Vault
	PCR        uint32 // that the ledger extends
	Evidence   Evidence
	Gate       func() *api.GateStatus   // may be nil
	Explain    func(error) *api.Problem // what a caller is told of an error; nil if it has no code
}

// Evidence decides whether evidence can be made.
type Evidence interface {
	// Ready returns why a request would fail now, from memory.
	Ready() error
	// Look asks the devices, for Ready.
	Look(ctx context.Context)
}

// Look asks the devices whether evidence can be made.
func (s *Source) Look(ctx context.Context) { s.Evidence.Look(ctx) }

// evidence says whether the next request gets evidence.
func (s *Source) evidence() api.EvidenceStatus {
	err := s.Evidence.Ready()
	if err == nil {
		return api.EvidenceStatus{Ready: true}
	}
	out := api.EvidenceStatus{Code: api.CodeInternal, Reason: err.Error()}
	if p := s.Explain(err); p != nil {
		out.Code, out.Reason = p.Code, cmp.Or(p.Detail, p.Title)
	}
	select {
	case <-s.Supervisor.Tried():
	default:
		out.Reason = api.ReasonStarting
	}
	return out
}

// Status returns how the agent does.
func (s *Source) Status() api.Status {
	trial := s.Supervisor.Err()
	out := api.Status{
		Version:  s.Agent.Version,
		Evidence: s.evidence(),
		Platform: s.Platform.Status(),
		Apps:     s.Apps.Counts(),
		Events:   s.Events.Status(),
		Watch:    s.Apps.Watch(),
		AgentKey: s.Agent.Public(),
		TPM:      s.tpm(trial),
		Ledger:   s.ledger(trial),
		Keys:     s.keys(trial),
	}
	if s.Gate != nil {
		out.Gate = s.Gate()
	}
	if ak, up := s.Enroller.Key(); up {
		out.AKName = evidence.Bytes(ak.Name())
	}
	if a, up := s.Attester.Now(); up {
		st := a.Stats()
		out.Batches, out.Anchor = st.Batches, st.Anchor
	}
	for _, reason := range []*string{&out.TPM.Reason, &out.Ledger.Reason, &out.Keys.Reason, &out.Platform.Reason, &out.Platform.LastError, &out.Platform.Why} {
		*reason = text.OneLine(*reason)
	}
	return out
}

// tpm returns the status of the TPM: of the key in use, of the last quote, of the last
// attempt to bring the parts up, and of the device.
func (s *Source) tpm(trial error) api.TPMStatus {
	out := api.TPMStatus{State: api.StateAbsent, Reason: api.ReasonStarting}
	device, open := s.Device.Now()
	if open {
		out = api.TPMStatus{State: api.StateOK}
		if st := device.State(); !st.Ready {
			out = api.TPMStatus{State: api.StateDegraded, Reason: st.Reason}
		}
	}
	switch {
	case errors.Is(trial, enrol.ErrUnusable):
		out = unusable(trial)
	case errors.Is(trial, enrol.ErrNoTPM):
		if out.Reason = trial.Error(); open {
			out.State = api.StateDegraded
		}
		if errors.Is(trial, tpm.ErrRefuses) {
			out.Code = api.CodeTPMRefuses
		}
	case trial != nil && !open: // an earlier step failed, which says nothing of the TPM
		out = api.TPMStatus{State: api.StateUnknown, Reason: "not looked at yet: " + trial.Error()}
	}
	if a, up := s.Attester.Now(); up {
		quote := a.Stats().QuoteError
		switch lost := s.Enroller.Lost(); {
		case lost != nil:
			out = unusable(lost)
		case quote != "" && out.State == api.StateOK:
			out = api.TPMStatus{State: api.StateDegraded, Reason: quote}
		}
	}
	return out
}

func unusable(err error) api.TPMStatus {
	return api.TPMStatus{State: api.StateDegraded, Code: api.CodeAKUnusable, Reason: err.Error()}
}

func (s *Source) ledger(trial error) api.LedgerStatus {
	out := api.LedgerStatus{PCR: s.PCR, Reason: api.ReasonStarting}
	l, open := s.Ledger.Now()
	switch {
	case open:
		v := l.View()
		out = api.LedgerStatus{
			PCR: v.Registers[0].PCR, Synchronised: v.State.Synchronised, Reason: v.State.Reason, Full: v.State.Full,
			Records: v.State.Records, Bytes: uint64(v.State.Bytes), Limit: uint64(v.State.Limit), Head: v.Head,
		}
		if len(v.Registers) > 1 {
			out.EventsPCR = v.Registers[1].PCR
		}
		out.Pending = v.State.Pending
		if out.Reason == "" {
			out.Reason = v.State.Failure
		}
		if out.Reason == "" && trial != nil {
			out.Reason = trial.Error()
		}
	case errors.Is(trial, enrol.ErrUnusable):
		out.Reason = "there is no attestation key to keep it with"
	case errors.Is(trial, enrol.ErrNoTPM):
		out.Reason = "there is no TPM to keep it in"
	case trial != nil:
		out.Reason = trial.Error()
	}
	if _, up := s.Attester.Now(); !up && out.Reason == "" {
		out.Reason = api.ReasonStarting // no list of applications before that is over
	}
	return out
}

func (s *Source) keys(trial error) api.KeyStatus {
	out := s.Vault.Status()
	if errors.Is(trial, enrol.ErrUnusable) {
		out.Code = api.CodeAKUnusable
	}
	if _, up := s.Attester.Now(); !up && trial != nil {
		out.Reason = trial.Error() // no app gets keys before the declarations are read
	}
	return out
}

// Line returns in a few words what the agent can do. Reasons are left to agentctl status:
// they can contain anything, and this must be one line.
func Line(s api.Status) string {
	switch {
	case s.Evidence.Ready:
	case s.Evidence.Reason == api.ReasonStarting:
		return "No evidence yet: the agent is starting"
	default:
		return fmt.Sprintf("No evidence: %s (%s)", s.Evidence.Code.Info().Title, s.Evidence.Code)
	}
	out := fmt.Sprintf("%d of %d applications measured, %s", s.Apps.Measured, s.Apps.Declared, text.Count(s.Ledger.Records, "record"))
	if s.Ledger.Full {
		out += ", log full"
	}
	return out
}
