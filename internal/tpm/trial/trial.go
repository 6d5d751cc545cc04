// SPDX-License-Identifier: Apache-2.0

// Package trial tries what the agent needs of a TPM, and says for each thing what was found
// and what to do. It leaves the TPM as it was: keys and sessions that it makes are flushed, and
// it defines no index.
package trial

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// Finding is the result of one trial.
type Finding struct {
	Name string // a stable word: "answers", "ecc", "lockout", "owner", "endorsement", "storage-key", "session", "slots", "nv"
	OK   bool
	Text string // what was found
	Todo string // what to do; empty if nothing is wrong
}

// A Device runs sequences of TPM commands, one sequence at a time, until ctx ends.
type Device interface {
	Do(ctx context.Context, f func(transport.TPM) error) error
}

// Bits of TPMA_PERMANENT (TPM 2.0 Part 2, section 8.6).
const (
	ownerAuthSet       = 1 << 0
	endorsementAuthSet = 1 << 1
	inLockout          = 1 << 9
)

// Run makes all trials. Auths are the values of the configuration. A trial that fails does not
// keep the later ones from being made, unless the TPM does not answer at all.
func Run(ctx context.Context, d Device, auths tpmkeys.Auths) []Finding {
	r := runner{ctx: ctx, device: d}
	var state uint32
	if !r.try("answers", "the TPM answers", func(t transport.TPM) (err error) {
		state, err = property(t, tpm2.TPMPTPermanent)
		return err
	}) {
		return r.found
	}
	r.try("ecc", "the TPM has the curve NIST P-256", tpmkeys.CheckECC)
	r.lockout(state)
	r.hierarchy("owner", state&ownerAuthSet != 0, auths.Owner, tpm2.TPMRHOwner)
	r.hierarchy("endorsement", state&endorsementAuthSet != 0, auths.Endorsement, tpm2.TPMRHEndorsement)
	r.try("storage-key", "keys can be made under the storage root key", func(t transport.TPM) error { return tpmkeys.TryParent(t, auths) })
	r.try("session", "the TPM has room for a session", func(t transport.TPM) error {
		_, end, err := tpm2.HMACSession(t, tpm2.TPMAlgSHA256, tpmkeys.SessionNonce)
		if err != nil {
			return err
		}
		return end()
	})
	r.try("slots", "the TPM has free slots for keys", slots)
	r.try("nv", "the TPM's NV memory has room for a counter", counters)
	return r.found
}

type runner struct {
	ctx    context.Context
	device Device
	found  []Finding
}

// try makes one trial in a turn of its own, and reports whether it succeeded.
func (r *runner) try(name, good string, f func(transport.TPM) error) bool {
	err := r.device.Do(r.ctx, f)
	if err == nil {
		r.found = append(r.found, Finding{Name: name, OK: true, Text: good})
		return true
	}
	r.found = append(r.found, bad(name, err))
	return false
}

// bad returns the finding of an error, with what to do apart if the error has it.
func bad(name string, err error) Finding {
	if s, ok := errors.AsType[*tpm.StateError](err); ok {
		text := s.Cause
		if s.Err != nil {
			text = fmt.Sprintf("%s (%v)", s.Cause, s.Err)
		}
		return Finding{Name: name, Text: text, Todo: s.Todo}
	}
	if a, ok := errors.AsType[*tpmkeys.AuthError](err); ok {
		text, todo := a.Words()
		return Finding{Name: name, Text: text, Todo: todo}
	}
	return Finding{Name: name, Text: err.Error(), Todo: "`journalctl -u agentd -p warning` and `dmesg` may say more of the TPM"}
}

func (r *runner) lockout(state uint32) {
	if state&inLockout == 0 {
		r.found = append(r.found, Finding{Name: "lockout", OK: true, Text: "the TPM counts no attack"})
		return
	}
	r.found = append(r.found, Finding{Name: "lockout", Text: "the TPM is in dictionary attack lockout: a program gave wrong authorization values",
		Todo: "find the program; wait for the TPM's recovery time, or run `tpm2_dictionarylockout --clear-lockout`"})
}

// hierarchy tries the authorization of a hierarchy in a policy session, which makes no key.
// Hierarchies other than that of lockout count no attacks (TPM 2.0 Part 1, section 19.8.2).
func (r *runner) hierarchy(name string, set bool, given []byte, handle tpm2.TPMHandle) {
	good := fmt.Sprintf("the %s authorization is not set", name)
	switch {
	case set && len(given) > 0:
		good = fmt.Sprintf("the %s authorization of the configuration is that of the TPM", name)
	case !set && len(given) > 0:
		r.found = append(r.found, Finding{Name: name, Text: fmt.Sprintf("tpm.%s_auth_file gives a value, and the TPM has none set", name),
			Todo: fmt.Sprintf("remove tpm.%[1]s_auth_file, or set the value in the TPM: `tpm2_changeauth -c %[1]s file:FILE`", name)})
		return
	}
	r.try(name, good, func(t transport.TPM) error {
		return tpmkeys.TryHierarchy(t, name, tpm2.AuthHandle{Handle: handle, Auth: tpm2.PasswordAuth(given)}, given)
	})
}

// neededSlots is how many keys are in the TPM at once: the attestation key stays loaded, and a
// parent and its child come and go.
const neededSlots = 2

func slots(t transport.TPM) error {
	free, err := property(t, tpm2.TPMPTHRTransientAvail)
	if err != nil {
		return err
	}
	if free < neededSlots {
		return &tpm.StateError{Kind: tpm.ErrCrowded, Cause: fmt.Sprintf("the TPM has %d free slots for keys, and the agent needs %d", free, neededSlots), Todo: tpm.TodoObjects}
	}
	return nil
}

func counters(t transport.TPM) error {
	free, err := property(t, tpm2.TPMPTNVCountersAvail)
	if err != nil {
		return err
	}
	if free == 0 {
		return &tpm.StateError{Kind: tpm.ErrRefuses, Cause: "the TPM's NV memory has no room for a counter, so that sealing cannot detect a rollback and makes no store", Todo: tpm.TodoNV}
	}
	return nil
}

// property reads one property of the TPM (TPM 2.0 Part 2, section 6.13).
func property(t transport.TPM, p tpm2.TPMPT) (uint32, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(p), PropertyCount: 1}.Execute(t)
	if err != nil {
		return 0, fmt.Errorf("read property 0x%x of the TPM: %w", uint32(p), err)
	}
	l, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return 0, fmt.Errorf("read property 0x%x of the TPM: %w", uint32(p), err)
	}
	if len(l.TPMProperty) != 1 || l.TPMProperty[0].Property != p {
		return 0, fmt.Errorf("read property 0x%x of the TPM: it does not have it", uint32(p))
	}
	return l.TPMProperty[0].Value, nil
}
