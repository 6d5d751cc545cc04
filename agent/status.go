// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/ed25519"
	"errors"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// Status says how the agent does, without a word to any device.
func (d *Daemon) Status() api.Status {
	d.mu.Lock()
	p, trial, lost := d.parts, d.trial, d.lost
	d.mu.Unlock()
	s := api.Status{
		Version:  d.o.Version,
		Platform: d.platform.status(),
		Apps:     d.counts(),
		Keys:     d.keyStatus(),
		AgentKey: evidence.Bytes(d.key.Public().(ed25519.PublicKey)),
		Ledger:   api.LedgerStatus{PCR: d.o.Config.Measurement.PCR, Reason: api.ReasonStarting},
		TPM:      api.TPMStatus{State: api.StateAbsent, Reason: api.ReasonStarting},
	}
	if p.device != nil {
		s.TPM = api.TPMStatus{State: api.StateOK}
		if st := p.device.State(); !st.Ready {
			s.TPM = api.TPMStatus{State: api.StateDegraded, Reason: st.Reason}
		}
	}
	if p.ak != nil {
		s.AKName = evidence.Bytes(p.ak.Name())
	}
	switch {
	case trial == nil:
	case errors.Is(trial, errAK):
		s.TPM = api.TPMStatus{State: api.StateDegraded, Code: api.CodeAKUnusable, Reason: trial.Error()}
		s.Ledger.Reason = "there is no attestation key to keep it with"
		s.Keys.Code = api.CodeAKUnusable
	case errors.Is(trial, errNoTPM):
		if s.TPM.Reason = trial.Error(); p.device != nil {
			s.TPM.State = api.StateDegraded
		}
		if p.ledger == nil {
			s.Ledger.Reason = "there is no TPM to keep it in"
		}
	case p.ledger == nil:
		s.Ledger.Reason = trial.Error()
	}
	if p.ledger != nil {
		s.Ledger = d.ledgerStatus(p)
		if s.Ledger.Reason == "" && trial != nil {
			s.Ledger.Reason = trial.Error()
		}
	}
	if p.attester == nil && trial != nil {
		s.Keys.Reason = trial.Error() // nobody's keys without knowing who is who
	}
	if p.attester == nil && s.Ledger.Reason == "" {
		s.Ledger.Reason = api.ReasonStarting // no list of applications before that is over
	}
	if p.attester != nil {
		st := p.attester.Stats()
		switch {
		case lost != nil:
			s.TPM = api.TPMStatus{State: api.StateDegraded, Code: api.CodeAKUnusable, Reason: lost.Error()}
		case st.QuoteError != "" && s.TPM.State == api.StateOK:
			s.TPM = api.TPMStatus{State: api.StateDegraded, Reason: st.QuoteError}
		}
		s.Batches = api.BatchCounts{Fresh: st.FreshBatches, Anchored: st.AnchorBatches, Failed: st.Failed, Statements: st.Statements, Largest: st.Largest}
		if a := st.Anchor; a != nil {
			s.Anchor = &api.AnchorStatus{AgeMilliseconds: uint64(a.Age.Milliseconds()), LogHead: a.LogHead}
		}
	}
	return s
}

func (d *Daemon) ledgerStatus(p parts) api.LedgerStatus {
	v := p.ledger.View()
	s := api.LedgerStatus{
		PCR: v.PCR, Synchronised: v.State.Synchronised, Reason: v.State.Reason, Full: v.State.Full,
		Records: v.State.Records, Bytes: uint64(v.State.Bytes), Head: v.Head,
	}
	if s.Reason == "" {
		s.Reason = v.State.Failure
	}
	return s
}

func (d *Daemon) counts() api.AppCounts {
	var c api.AppCounts
	for _, a := range d.List() {
		c.Declared++
		if a.State == api.AppMeasured {
			c.Measured++
		} else {
			c.Unmeasured++
		}
	}
	return c
}
