// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/evidence"
)

// labelBoot separates the quotes that are asked for to learn the counters from those
// in evidence: nobody can pass off one for the other.
const labelBoot = "agentd/boot/1"

// Boot is what tells one boot of a TPM from another: its counters as one attestation
// key shows them. For a key of the owner hierarchy the TPM adds a constant of the key
// to both, for privacy, so they compare only with those of the same key, and never
// with TPM2_ReadClock.
type Boot struct {
	AK           Name   // the key that they belong to
	ResetCount   uint32 // TPM resets: boots
	RestartCount uint32 // TPM restarts and resumes since the reset
	Clock        uint64 // ms by the clock of the TPM
	Safe         bool   // the clock never showed a later time; false for a while after a power cut
}

// Same reports whether b and o are of one boot of one TPM, by the same key.
func (b Boot) Same(o Boot) bool {
	return b.AK.Equal(o.AK) && b.ResetCount == o.ResetCount && b.RestartCount == o.RestartCount
}

// Boot asks the TPM for its counters with a quote over no PCR. The answer is
// authenticated by the session and carries fresh random data, so that an earlier one
// cannot be played again.
func (a *AK) Boot(t transport.TPM) (Boot, error) {
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return Boot{}, fmt.Errorf("read the TPM's boot counters: %w", err)
	}
	data := evidence.Sum256(labelBoot, nonce)
	attest, _, err := a.quote(t, data[:], tpm2.TPMLPCRSelection{})
	if err != nil {
		return Boot{}, fmt.Errorf("read the TPM's boot counters: %w", err)
	}
	quote, err := ParseQuote(attest, data[:])
	if err != nil {
		return Boot{}, fmt.Errorf("read the TPM's boot counters: %w", err)
	}
	info := quote.ClockInfo
	return Boot{
		AK: a.Name(), ResetCount: info.ResetCount, RestartCount: info.RestartCount,
		Clock: info.Clock, Safe: bool(info.Safe),
	}, nil
}

// ErrQuote: the TPM answered with something else than the quote it was asked for.
var ErrQuote = errors.New("the TPM's quote is not what it was asked for")

// ParseQuote decodes the TPMS_ATTEST of a quote over data as qualifying data. go-tpm
// passes over a wrong magic and over bytes behind the structure, so both are looked at.
func ParseQuote(attest, data []byte) (*tpm2.TPMSAttest, error) {
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](attest)
	if err != nil {
		return nil, fmt.Errorf("%w: parse TPMS_ATTEST of %d bytes: %w", ErrQuote, len(attest), err)
	}
	switch {
	case a.Magic.Check() != nil:
		return nil, fmt.Errorf("%w: TPMS_ATTEST begins with 0x%08x, want TPM_GENERATED_VALUE", ErrQuote, uint32(a.Magic))
	case a.Type != tpm2.TPMSTAttestQuote:
		return nil, fmt.Errorf("%w: TPMS_ATTEST of type 0x%04x, want a quote", ErrQuote, uint16(a.Type))
	case !bytes.Equal(tpm2.Marshal(*a), attest):
		return nil, fmt.Errorf("%w: TPMS_ATTEST of %d bytes is not the encoding of what it holds", ErrQuote, len(attest))
	case !bytes.Equal(a.ExtraData.Buffer, data):
		return nil, fmt.Errorf("%w: TPMS_ATTEST answers another request", ErrQuote)
	}
	return a, nil
}
