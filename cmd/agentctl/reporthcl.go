// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// drawRuntime shows what a paravisor says of its vTPM, and returns what the report data must be if
// the report was made over that; ok is false if the blob cannot be read.
func drawRuntime(top *node, e *evidence.Evidence) (want [64]byte, ok bool) {
	h, err := tpmwire.ParseHCLOfSNP(e.Report.Bytes)
	if err != nil {
		top.add("the paravisor's blob around the report cannot be read: %v", err)
		return want, false
	}
	n := top.add("runtime data of %d bytes: what a paravisor says of its vTPM, if the launch measurement is that of a paravisor", len(h.Runtime))
	if key, err := h.AttestationKey(); err != nil {
		n.add("attestation key cannot be read: %v", err)
	} else {
		which := "NOT the one below"
		if sameModulus(e.AK, key) {
			which = "the one below"
		}
		n.add("attestation key with the modulus %s, %s", short(key.RSA.N.Bytes()), which)
	}
	says := "NOT the commitment to this evidence"
	if data := e.ReportData(); string(h.UserData) == string(data[:]) {
		says = "the commitment to this evidence"
	}
	n.add("user data %s, %s", short(h.UserData), says)
	return h.ReportData(), true
}

// sameModulus reports whether a TPMT_PUBLIC is of this RSA key.
func sameModulus(encoded []byte, key *tpmwire.Key) bool {
	public, err := tpmwire.ParsePublic(encoded)
	if err != nil {
		return false
	}
	k, err := tpmwire.SigningKey(public, encoded)
	return err == nil && k.RSA != nil && k.RSA.Equal(key.RSA)
}
