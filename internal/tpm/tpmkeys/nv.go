// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
)

// ErrNoCertificate means that the TPM has no certificate for its endorsement key. Software
// TPMs and many vTPMs have none.
var ErrNoCertificate = errors.New("the TPM has no certificate for this endorsement key")

// nvChunk is how many bytes one TPM2_NV_Read asks for: at most every TPM's
// TPM_PT_NV_BUFFER_MAX, of which 512 is the smallest known.
const nvChunk = 512

// ReadEKCertificate reads the certificate of an endorsement key of that kind from the
// NV index of convention (TCG EK Credential Profile, section 2.2.1.4): DER of at most
// evidence.MaxCertificate bytes, unverified. Padding after it is removed.
func ReadEKCertificate(t transport.TPM, kind keys.EKKind) ([]byte, error) {
	k, err := lookup(kind)
	if err != nil {
		return nil, err
	}
	b, err := readNV(t, k.index, evidence.MaxCertificate)
	if err != nil {
		return nil, fmt.Errorf("read the %s endorsement certificate at NV index 0x%08x: %w", kind, uint32(k.index), err)
	}
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(b, &outer)
	if err != nil || outer.Tag != asn1.TagSequence {
		return nil, fmt.Errorf("read the %s endorsement certificate at NV index 0x%08x: %d bytes are not a DER certificate", kind, uint32(k.index), len(b))
	}
	return bytes.Clone(b[:len(b)-len(rest)]), nil
}

// readNV reads an index that authorizes its own reads with an empty value.
func readNV(t transport.TPM, index tpm2.TPMHandle, limit int) ([]byte, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t)
	if Absent(err) {
		return nil, ErrNoCertificate
	}
	if err != nil {
		return nil, err
	}
	public, err := rsp.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	if n := int(public.DataSize); n > limit {
		return nil, fmt.Errorf("index of %d bytes, want at most %d", n, limit)
	}
	if public.NVIndex != index {
		return nil, fmt.Errorf("TPM answers for NV index 0x%08x", uint32(public.NVIndex))
	}
	out := make([]byte, 0, public.DataSize)
	for len(out) < int(public.DataSize) {
		part, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: rsp.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: rsp.NVName},
			Size:       uint16(min(nvChunk, int(public.DataSize)-len(out))),
			Offset:     uint16(len(out)),
		}.Execute(t)
		if errors.Is(err, tpm2.TPMRCNVUninitialized) {
			return nil, ErrNoCertificate
		}
		if err != nil {
			return nil, err
		}
		n := len(part.Data.Buffer)
		if n == 0 || len(out)+n > int(public.DataSize) {
			return nil, fmt.Errorf("TPM sends %d bytes at offset %d of %d", n, len(out), public.DataSize)
		}
		out = append(out, part.Data.Buffer...)
	}
	return out, nil
}
