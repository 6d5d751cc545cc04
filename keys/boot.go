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
	info, err := clockInfo(attest, data[:])
	if err != nil {
		return Boot{}, fmt.Errorf("read the TPM's boot counters: %w", err)
	}
	return Boot{
		AK: a.Name(), ResetCount: info.ResetCount, RestartCount: info.RestartCount,
		Clock: info.Clock, Safe: bool(info.Safe),
	}, nil
}

// clockInfo takes the TPMS_CLOCK_INFO out of the TPMS_ATTEST of a quote over data.
func clockInfo(attest, data []byte) (*tpm2.TPMSClockInfo, error) {
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](attest)
	if err != nil {
		return nil, fmt.Errorf("parse TPMS_ATTEST of %d bytes: %w", len(attest), err)
	}
	switch {
	case a.Magic.Check() != nil:
		return nil, fmt.Errorf("TPMS_ATTEST begins with 0x%08x, want TPM_GENERATED_VALUE", uint32(a.Magic))
	case a.Type != tpm2.TPMSTAttestQuote:
		return nil, fmt.Errorf("TPMS_ATTEST of type 0x%04x, want a quote", uint16(a.Type))
	case !bytes.Equal(tpm2.Marshal(*a), attest):
		return nil, fmt.Errorf("TPMS_ATTEST of %d bytes is not the encoding of what it holds", len(attest))
	case !bytes.Equal(a.ExtraData.Buffer, data):
		return nil, errors.New("TPMS_ATTEST answers another request")
	}
	return &a.ClockInfo, nil
}
