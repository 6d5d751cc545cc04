// SPDX-License-Identifier: Apache-2.0

package swtpm

import (
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Handles lists what a TPM has of some kinds, such as sessions or transient objects: at most 100 of each.
func Handles(tb testing.TB, t transport.TPM, kinds ...tpm2.TPMHT) (all []tpm2.TPMHandle) {
	tb.Helper()
	for _, kind := range kinds {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(kind) << 24, PropertyCount: 100}.Execute(t)
		if err != nil {
			tb.Fatal(err)
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, list.Handle...)
	}
	return all
}

// Flush frees what is loaded of some kinds.
func Flush(tb testing.TB, t transport.TPM, kinds ...tpm2.TPMHT) {
	tb.Helper()
	for _, h := range Handles(tb, t, kinds...) {
		if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(t); err != nil {
			tb.Fatal(err)
		}
	}
}
