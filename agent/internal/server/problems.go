// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/sealing"
)

// An ErrorCode says which code answers an error.
type ErrorCode struct {
	Err   error // matched with errors.Is
	Code  api.Code
	Retry time.Duration // after which the same request may succeed; 0: waiting does not help, or that is unknown
}

// errorCodes is the table from error to code. The first row that matches counts, so the
// narrower reason is first.
var errorCodes = []ErrorCode{
	{caller.ErrGone, api.CodePeerGone, 0},
	{caller.ErrUnknown, api.CodePeerUnknown, 0},
	{turn.ErrBusy, api.CodeBusy, time.Second},

	{ledger.ErrDesynchronised, api.CodeDesynchronised, 0},
	{ledger.ErrFull, api.CodeLogFull, 0},
	{attest.ErrRequest, api.CodeInvalidValue, 0},
	{attest.ErrKeyProof, api.CodeBadKeyProof, 0},
	{attest.ErrLogStart, api.CodeStartBeyondLog, 0},
	{attest.ErrOverloaded, api.CodeBusy, time.Second},
	{attest.ErrStopping, api.CodeShuttingDown, time.Second},
	{attest.ErrPCRMismatch, api.CodePCRMismatch, 0},
	{attest.ErrBadQuote, api.CodeTPM, 0},
	{attest.ErrTPM, api.CodeTPM, 5 * time.Second},
	{attest.ErrUnrecorded, api.CodeUnavailable, 0},
	{attest.ErrUntried, api.CodeUnavailable, time.Second},

	{platform.ErrAbsent, api.CodePlatformAbsent, 0},
	{platform.ErrDenied, api.CodePlatformAbsent, 0},
	{platform.ErrNotYet, api.CodeUnavailable, time.Second},
	{platform.ErrBusy, api.CodePlatformBusy, 5 * time.Second},
	{platform.ErrTimedOut, api.CodePlatformTimeout, 5 * time.Second},
	{platform.ErrKeyWiped, api.CodePlatformKeyWiped, 0},
	{platform.ErrVMPL, api.CodePlatformVMPL, 0},
	{platform.ErrFirmware, api.CodePlatformRefused, 0},
	{platform.ErrStale, api.CodePlatformStale, 5 * time.Second},
	{platform.ErrOtherKey, api.CodePlatformOtherKey, 0},
	{platform.ErrMalformed, api.CodePlatformMalformed, 0},

	{apps.ErrUnknownApp, api.CodeNoSuchApp, 0},
	{apps.ErrNotOwner, api.CodeNoApp, 0},
	{keys.ErrCredential, api.CodeActivation, 0},

	{context.DeadlineExceeded, api.CodeTimeout, 0},
	{context.Canceled, api.CodeShuttingDown, time.Second}, // the peer that went away reads no answer

	{ledger.ErrTPM, api.CodeTPM, 5 * time.Second}, // after the rows above: the end of a caller's context is not the TPM's fault
}

// problem returns what the caller is told of err.
func (s *Server) problem(err error) *api.Problem {
	if p := Explain(err, s.Errors); p != nil {
		return p
	}
	s.Logger.Error("request failed with an error that has no code", "error", err)
	return problem.New(api.CodeInternal, "the log of the agent has the reason")
}

// Explain returns what a caller is told of err, nil for an error that no table has. Rows of
// first come before those of this package.
func Explain(err error, first []ErrorCode) *api.Problem {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p
	}
	if p := sealingProblem(err); p != nil {
		return p
	}
	if durable.Short(err) && !errors.Is(err, ledger.ErrDesynchronised) {
		return problem.After(problem.New(api.CodeResources, err.Error()), time.Second)
	}
	for _, table := range [][]ErrorCode{first, errorCodes} {
		for _, row := range table {
			if errors.Is(err, row.Err) {
				p := problem.New(row.Code, err.Error())
				if row.Retry > 0 {
					problem.After(p, row.Retry)
				}
				return p
			}
		}
	}
	if p := appProblem(err); p != nil {
		return p
	}
	// A response code of a TPM (TPM 2.0 Part 2, section 6.6) that no row of a table matches.
	if _, ok := errors.AsType[tpm2.TPMRC](err); ok {
		return problem.After(problem.New(api.CodeTPM, err.Error()), 5*time.Second)
	}
	return nil
}

// sealingProblem returns what the caller is told of a refusal of package sealing, nil for
// other errors. Texts of that package never contain secret bytes.
func sealingProblem(err error) *api.Problem {
	e, ok := errors.AsType[*sealing.Error](err)
	if !ok {
		return nil
	}
	detail := e.Detail
	if e.Field != "" {
		detail = e.Field + ": " + detail
	}
	if e.Err != nil {
		detail += ": " + e.Err.Error()
	}
	p := problem.New(e.Code, detail)
	if e.Code == api.CodeRootUnavailable || e.Code == api.CodeInterrupted {
		problem.After(p, 5*time.Second)
	}
	return p
}

// appProblem returns the problem of a typed error of an app's files and declaration, nil
// for other errors.
func appProblem(err error) *api.Problem {
	var (
		rate        *apps.RateError
		file        *manifest.FileError
		changed     *manifest.ChangedError
		hung        *manifest.HungError
		declaration *declaration.Error
	)
	switch {
	case errors.As(err, &rate):
		return problem.After(problem.New(api.CodeThrottled, err.Error()), rate.Retry)
	case errors.As(err, &changed):
		return problem.After(problem.New(api.CodeMeasureFailed, err.Error()), time.Second)
	case errors.As(err, &file), errors.As(err, &hung):
		return problem.New(api.CodeMeasureFailed, err.Error())
	case errors.As(err, &declaration):
		return problem.New(api.CodeBadDeclaration, err.Error())
	}
	return nil
}
