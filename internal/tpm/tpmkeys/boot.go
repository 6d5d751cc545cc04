// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
)

// labelBoot separates the quotes that only read the counters from those in evidence: an
// attacker cannot use one as the other.
const labelBoot = "agentd/boot/1"

// Boot tells one boot of a TPM from another: its counters as one attestation key shows
// them. For a key of the owner hierarchy the TPM adds a constant of the key to both, for
// privacy. So they compare only with those of the same key, and never with TPM2_ReadClock.
type Boot struct {
	AK           keys.Name // key that shows the counters
	ResetCount   uint32    // TPM resets, which are boots
	RestartCount uint32    // TPM restarts and resumes since the reset
	Clock        uint64    // ms by the clock of the TPM
	Safe         bool      // whether the clock never showed a later time; false for a while after a power cut
}

// Same reports whether b and o are of one boot of one TPM, by the same key.
func (b Boot) Same(o Boot) bool {
	return b.AK.Equal(o.AK) && b.ResetCount == o.ResetCount && b.RestartCount == o.RestartCount
}

// Boot asks the TPM for its counters with a quote over no PCR. The answer is
// authenticated by the session and contains fresh random data, so that an attacker cannot
// replay an earlier one.
func (a *AK) Boot(t transport.TPM) (Boot, error) {
	nonce := make([]byte, 32)
	rand.Read(nonce) // never fails
	data := evidence.Sum256(labelBoot, nonce)
	attest, _, err := a.quote(t, data[:], tpm2.TPMLPCRSelection{})
	if err != nil {
		return Boot{}, fmt.Errorf("read the TPM's boot counters: %w", err)
	}
	quote, err := ParseQuote(attest, data[:])
	if err != nil {
		return Boot{}, fmt.Errorf("read the TPM's boot counters: %w", err)
	}
	return Boot{
		AK: a.Name(), ResetCount: quote.ResetCount, RestartCount: quote.RestartCount,
		Clock: quote.Clock, Safe: quote.Safe,
	}, nil
}

// ErrQuote means that the TPM did not answer with the quote that it was asked for.
var ErrQuote = errors.New("the TPM's quote is not what it was asked for")

// ParseQuote reads the TPMS_ATTEST of a quote that was asked for over data as qualifying
// data.
func ParseQuote(attest, data []byte) (*tpmwire.Attest, error) {
	a, err := tpmwire.ParseQuote(attest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuote, err)
	}
	if !bytes.Equal(a.ExtraData, data) {
		return nil, fmt.Errorf("%w: TPMS_ATTEST answers another request", ErrQuote)
	}
	return a, nil
}
