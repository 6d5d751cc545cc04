// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// sealingCodes are the codes of package sealing. All but one are called the same.
var sealingCodes = map[sealing.Code]api.Code{
	sealing.OtherChip:           api.CodeOtherChip,
	sealing.OtherMeasurement:    api.CodeOtherMeasurement,
	sealing.GuestPolicyChanged:  api.CodeGuestPolicyChanged,
	sealing.OtherVMPL:           api.CodeOtherVMPL,
	sealing.TCBBelow:            api.CodeTCBBelow,
	sealing.WrongKey:            api.CodeWrongKey,
	sealing.TPMCleared:          api.CodeTPMCleared,
	sealing.OtherTPM:            api.CodeOtherTPM,
	sealing.TPMSecretMissing:    api.CodeTPMSecretMissing,
	sealing.TPMSecretDamaged:    api.CodeTPMSecretDamaged,
	sealing.NoUsableSlot:        api.CodeNoUsableSlot,
	sealing.WrongIdentity:       api.CodeWrongIdentity,
	sealing.RootUnavailable:     api.CodeRootUnavailable,
	sealing.BadDerivedKey:       api.CodeBadDerivedKey,
	sealing.Truncated:           api.CodeTruncated,
	sealing.Damaged:             api.CodeDamaged,
	sealing.Malformed:           api.CodeMalformedBlob,
	sealing.UnknownVersion:      api.CodeUnknownVersion,
	sealing.Altered:             api.CodeAltered,
	sealing.Renamed:             api.CodeRenamed,
	sealing.Missing:             api.CodeMissing,
	sealing.OtherApp:            api.CodeOtherApp,
	sealing.OtherUser:           api.CodeOtherUser,
	sealing.DigestNotAuthorised: api.CodeDigestNotAuthorised,
	sealing.OtherAssociatedData: api.CodeOtherAssociatedData,
	sealing.NotFound:            api.CodeNotFound,
	sealing.QuotaExceeded:       api.CodeQuotaExceeded,
	sealing.InvalidRequest:      api.CodeInvalidValue,
	sealing.OldGeneration:       api.CodeOldGeneration,
	sealing.RolledBack:          api.CodeRolledBack,
	sealing.CounterBehind:       api.CodeCounterBehind,
	sealing.CounterLost:         api.CodeCounterLost,
	sealing.ManifestLost:        api.CodeManifestLost,
	sealing.NoRecovery:          api.CodeNoRecovery,
	sealing.NothingToAdmit:      api.CodeNothingToDo,
	sealing.Interrupted:         api.CodeInterrupted,
}

// SealingCode is the code that answers an error of package sealing, "" for others.
func SealingCode(err error) api.Code { return sealingCodes[sealing.CodeOf(err)] }

// sealingProblem is what the caller is told of a refusal of package sealing, nil for
// other errors. Texts of that package never hold secret bytes.
func sealingProblem(err error) *api.Problem {
	var e *sealing.Error
	if !errors.As(err, &e) {
		return nil
	}
	code, ok := sealingCodes[e.Code]
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
	p := api.NewProblem(code, detail)
	if code == api.CodeRootUnavailable || code == api.CodeInterrupted {
		p.After(5 * time.Second)
	}
	return p
}
