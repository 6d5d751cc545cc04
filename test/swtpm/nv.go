// SPDX-License-Identifier: Apache-2.0

package swtpm

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// FillNV takes all NV memory of a TPM, with indexes from first on. TPMs keep some back for
// counters, which it takes last.
func FillNV(tb testing.TB, t transport.TPM, first tpm2.TPMHandle) {
	tb.Helper()
	index := first
	take := func(size uint16, kind tpm2.TPMNT) {
		for ; ; index++ {
			_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: size,
				Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NT: kind},
			})}.Execute(t)
			if errors.Is(err, tpm2.TPMRCNVSpace) {
				return
			}
			if err != nil {
				tb.Fatal(err)
			}
		}
	}
	for size := uint16(2048); size > 0; size /= 2 {
		take(size, tpm2.TPMNTOrdinary)
	}
	take(8, tpm2.TPMNTCounter)
}
