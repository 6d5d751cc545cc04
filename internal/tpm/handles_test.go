// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// leftBehind returns the proxy of a TPM in which another program left a transient object.
func leftBehind(t *testing.T) *swtpm.Proxy {
	t.Helper()
	s := swtpm.Start(t)
	if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(s); err != nil {
		t.Fatal(err)
	}
	return s.Listen()
}

// A handle of another kind among those that are to be flushed is not flushed: a TPM that
// lists a persistent key or a session there does not make the agent end it.
func TestHandlesOfAnotherKind(t *testing.T) {
	p := leftBehind(t)
	p.Inject(func(command []byte) swtpm.Fault {
		if swtpm.CommandCode(command) != tpm2.TPMCCGetCapability {
			return swtpm.Fault{}
		}
		return swtpm.Fault{Rewrite: func(rsp []byte) []byte {
			binary.BigEndian.PutUint32(rsp[len(rsp)-4:], 0x81000001)
			return rsp
		}}
	})
	_, err := tpm.Open(t.Context(), p.Address(), quick)
	if err == nil || !strings.Contains(err.Error(), "handles of another kind") || !strings.Contains(err.Error(), "0x81000001") {
		t.Errorf("got %v, want it to name the handle", err)
	}
	for _, c := range p.Commands() {
		if c == tpm2.TPMCCFlushContext {
			t.Error("it was flushed")
		}
	}
}

// An object that is gone when it is to be flushed is as good as flushed.
func TestHandleGoneByItself(t *testing.T) {
	p := leftBehind(t)
	flushed := false
	p.Inject(func(command []byte) swtpm.Fault {
		if swtpm.CommandCode(command) != tpm2.TPMCCFlushContext {
			return swtpm.Fault{}
		}
		flushed = true
		return swtpm.Fault{Code: tpm2.TPMRCHandle}
	})
	d, err := tpm.Open(t.Context(), p.Address(), quick)
	if err != nil || !flushed {
		t.Fatalf("%v, flushed %v", err, flushed)
	}
	d.Close()
}
