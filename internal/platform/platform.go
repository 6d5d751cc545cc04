// SPDX-License-Identifier: Apache-2.0

// Package platform is what the agent asks of the confidential-computing platform
// that it runs on: reports over 64 bytes of its own. Implementations live below
// the agent; this package holds the interface and the errors they share.
package platform

import (
	"context"
	"errors"

	"github.com/cvm-agentd/agentd/evidence"
)

// A Platform makes attestation reports.
type Platform interface {
	// Kind names the format of the reports.
	Kind() evidence.ReportKind

	// Report asks for a report that carries data as its report data. It waits
	// its turn in one queue, spaced as the platform demands, until ctx ends.
	Report(ctx context.Context, data [64]byte) (Report, error)
}

// Report is what the platform answered. Both parts come through the host and are unverified.
type Report struct {
	Bytes        []byte   // as the firmware produced it
	Certificates [][]byte // X.509 DER, from the host's table and from stapled files; nil where there are none
	TableError   error    // why a certificate table was passed over; nil where there was none or it was good
}

// Errors of a platform, told apart with errors.Is. Each comes wrapped with what was
// attempted and what to do.
var (
	// ErrAbsent: there is no such device on this machine.
	ErrAbsent = errors.New("no attestation device")
	// ErrBusy: the firmware or host throttles requests; a later one may succeed.
	ErrBusy = errors.New("report device is busy")
	// ErrTimedOut: no answer within the deadline.
	ErrTimedOut = errors.New("report device timed out")
	// ErrKeyWiped: the guest's message key is gone; only a reboot brings it back.
	ErrKeyWiped = errors.New("guest message key is wiped")
	// ErrVMPL: the request asked for, or the answer names, another VM privilege level.
	ErrVMPL = errors.New("wrong VM privilege level")
	// ErrFirmware: the firmware answered with an error status.
	ErrFirmware = errors.New("firmware refused the request")
	// ErrMalformed: the answer is not what was asked for.
	ErrMalformed = errors.New("malformed answer from the report device")
)
