// SPDX-License-Identifier: Apache-2.0

// Package platform is the interface to the confidential-computing platform that the agent
// runs on, with the errors that all platforms share. Each platform is a package below.
package platform

import (
	"context"
	"errors"

	"github.com/cvm-agentd/agentd/evidence"
)

// A Reporter makes attestation reports.
type Reporter interface {
	// Kind returns the format of the reports. It determines how a verifier finds the 64
	// bytes in one: a platform that wraps them (as a paravisor does, which signs a hash of
	// a structure that contains them) makes the whole structure the bytes of its report.
	Kind() evidence.ReportKind

	// Report asks for a report that contains data as its report data. It waits its turn in
	// one queue, spaced as the platform demands, until ctx ends.
	Report(ctx context.Context, data [64]byte) (Report, error)
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
	// ErrMalformed is returned if the answer is not what was asked for.
	ErrMalformed = errors.New("malformed answer from the report device")
)
