// SPDX-License-Identifier: Apache-2.0

// Package platform is the interface to the confidential-computing platform that the agent
// runs on, with the errors that all platforms share. Each platform is a package below.
package platform

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// A Reporter makes attestation reports.
type Reporter interface {
	// Kind returns the format of the reports. It determines how a verifier finds the 64
	// bytes in one: a platform that wraps them (as a paravisor does, which signs a hash of
	// a structure that contains them) makes the whole structure the bytes of its report.
	Kind() evidence.ReportKind

	// Report asks for a report over data. It waits its turn in one queue, spaced as the
	// platform demands, until ctx ends, and calls data when the turn has come.
	Report(ctx context.Context, data Data) (Report, error)
}

// Data returns the report data, as late as possible: a host may let a request through only
// every few seconds, and what a report is over should not be older than it need be. Nothing
// is asked for if it returns an error, which the caller of Report gets. Other requests wait
// meanwhile. A Data must not ask the same platform for anything.
type Data func(ctx context.Context) ([64]byte, error)

// Fixed returns report data that is known already.
func Fixed(data [64]byte) Data {
	return func(context.Context) ([64]byte, error) { return data, nil }
}

// A Platform is an open report device. Its methods may be called by many goroutines.
type Platform interface {
	Reporter
	// Keys returns the keys that the platform derives, nil if it derives none.
	Keys() Keys
	// Staple replaces the certificates, X.509 DER, that reports carry besides the host's.
	Staple(ders [][]byte) error
	// Close ends the device.
	Close() error
}

// Report is what the platform answered. All of it comes through the host and is unverified.
type Report struct {
	Bytes        []byte   // as the firmware produced it
	Certificates [][]byte // X.509 DER, from the host's table and from stapled files; nil if absent
	TableError   error    // why the host's certificates were left out; nil if they were not
}

// Errors of a platform, told apart with errors.Is. Each comes wrapped with what was
// attempted and what to do.
var (
	// ErrAbsent is returned if this machine has no such device.
	ErrAbsent = errors.New("no attestation device")
	// ErrDenied is returned if the agent may not open the device.
	ErrDenied = errors.New("not permitted to open the report device")
	// ErrBusy is returned if firmware or host throttle requests; a later one may succeed.
	ErrBusy = errors.New("report device is busy")
	// ErrTimedOut is returned if no answer came within the deadline.
	ErrTimedOut = errors.New("report device timed out")
	// ErrKeyWiped is returned if the guest's message key is gone; only a reboot brings it back.
	ErrKeyWiped = errors.New("guest message key is wiped")
	// ErrVMPL is returned if the request or the answer names another VM privilege level.
	ErrVMPL = errors.New("wrong VM privilege level")
	// ErrFirmware is returned if the firmware answered with an error status.
	ErrFirmware = errors.New("firmware refused the request")
	// ErrStale is returned if the platform hands out a report over other data again and again:
	// one of before, or one that another program asked for.
	ErrStale = errors.New("the report is not over what was asked for")
	// ErrOtherKey is returned if the structure around a report names another attestation key
	// than the TPM has.
	ErrOtherKey = errors.New("the platform vouches for another attestation key")
	// ErrMalformed is returned if the answer is not what was asked for.
	ErrMalformed = errors.New("malformed answer from the report device")
)

// Keys are the keys that a platform's firmware derives for this guest on this chip. Nothing
// but the TCB version can be chosen: the root is the chip's own key, and launch measurement,
// guest policy, TCB version and privilege level are always mixed in. Without the guest policy
// a host could launch the same image with debugging and read the key; without the TCB an
// older, broken firmware could derive it; under another root it would be a cloud's key and
// not the chip's.
type Keys interface {
	// Reading asks for what goes into a key that is derived now. It is unverified, and used
	// to explain, never to decide who gets a key: a key that was derived for other values
	// is another key.
	Reading(ctx context.Context) (sealing.Reading, error)

	// DeriveKey asks for the key under a TCB version: the committed one, or an older one to
	// open what was sealed before an upgrade. Firmware older than it cannot derive the key.
	// Zero is refused with [ErrTCBZero]. The request waits in the same queue as reports. The
	// caller wipes the key.
	DeriveKey(ctx context.Context, tcb sealing.TCB) (*secret.Secret, error)

	// Vary tries what else the keys depend on, on the machine of that reading, and returns
	// nothing if that cannot be tried. Requests are scarce on some hosts: it makes about ten.
	Vary(ctx context.Context, now sealing.Reading) ([]Finding, error)
}

// Errors of key derivation, besides those of reports.
var (
	// ErrZeroKey is returned if the firmware answered with an all-zero key, which every
	// attacker knows. Firmware was seen to do so when asked for a TCB that it does not have.
	ErrZeroKey = errors.New("derived key is all zero")
	// ErrTCBZero is returned for a request that would let any firmware derive the key.
	ErrTCBZero = errors.New("derived key request without a TCB version")
)

// TakeKey moves a key that a firmware answered into a secret, and overwrites b. It refuses an
// all-zero key with [ErrZeroKey] and another size than 32 bytes with [ErrMalformed].
func TakeKey(b []byte) (*secret.Secret, error) {
	defer clear(b)
	if len(b) != sealing.KeySize {
		return nil, fmt.Errorf("derived key of %d bytes, want %d: %w", len(b), sealing.KeySize, ErrMalformed)
	}
	k, err := secret.Take(b)
	if err != nil {
		return nil, err
	}
	if k.IsZero() {
		k.Wipe()
		return nil, ErrZeroKey
	}
	return k, nil
}

// Finding is the result of one test of a platform.
type Finding struct {
	Name string // "derives", "stable", "depends-on-tcb", "not-above-committed", and those of [Keys.Vary]
	OK   bool
	Text string
}

// Probe tests the key derivation of a platform, for a report to an administrator: that it
// works, gives the same key twice and another one under another TCB, and what else the keys
// depend on. Keys are wiped, and none is returned.
func Probe(ctx context.Context, keys Keys) ([]Finding, error) {
	now, err := keys.Reading(ctx)
	if err != nil {
		return nil, fmt.Errorf("probe the key derivation: %w", err)
	}
	out := probe(ctx, keys, now)
	if !out[0].OK {
		return out, nil
	}
	more, err := keys.Vary(ctx, now)
	if err != nil {
		return nil, fmt.Errorf("probe the key derivation: %w", err)
	}
	return append(out, more...), nil
}

// probe makes the requests that sealing itself makes.
func probe(ctx context.Context, keys Keys, now sealing.Reading) []Finding {
	first, err := keys.DeriveKey(ctx, now.TCB)
	if err != nil {
		return []Finding{{Name: "derives", Text: err.Error()}}
	}
	defer first.Wipe()
	out := []Finding{{Name: "derives", OK: true, Text: fmt.Sprintf("a key under TCB %s", now.TCB)}}
	again, err := keys.DeriveKey(ctx, now.TCB)
	if err != nil {
		return append(out, Finding{Name: "stable", Text: err.Error()})
	}
	defer again.Wipe()
	f := Finding{Name: "stable", OK: first.Equal(again), Text: "the same request twice gives the same key"}
	if !f.OK {
		f.Text = "the same request twice gives two keys: what is sealed would not open again"
	}
	out = append(out, f)
	if lower, ok := below(now.TCB); ok {
		other, err := keys.DeriveKey(ctx, lower)
		f := Finding{Name: "depends-on-tcb", Text: fmt.Sprintf("TCB %s gives another key", lower)}
		if err != nil {
			f.Text = err.Error()
		} else {
			if f.OK = !first.Equal(other); !f.OK {
				f.Text = fmt.Sprintf("TCB %s gives the same key: older firmware could derive it", lower)
			}
			other.Wipe()
		}
		out = append(out, f)
	}
	above := now.TCB
	for i := range above {
		if above[i] > 0 && above[i] < 0xff {
			above[i]++
			break
		}
	}
	if above == now.TCB {
		return out
	}
	given, err := keys.DeriveKey(ctx, above)
	f = Finding{Name: "not-above-committed", OK: err != nil, Text: fmt.Sprintf("TCB %s, above the committed one, is refused", above)}
	if err == nil {
		f.Text = fmt.Sprintf("TCB %s, above the committed one, gives a key", above)
		given.Wipe()
	}
	return append(out, f)
}

// below returns t with one component lowered by one, and false if that leaves only zeros.
func below(t sealing.TCB) (sealing.TCB, bool) {
	for i := len(t) - 1; i >= 0; i-- {
		if t[i] > 0 {
			t[i]--
			return t, t != sealing.TCB{}
		}
	}
	return t, false
}
