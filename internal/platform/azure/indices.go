// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
)

// NV indices of the paravisor.
const (
	nvReport   tpm2.TPMHandle = 0x01400001
	nvUserData tpm2.TPMHandle = 0x01400002
)

// piece is how many bytes of an index one command reads: what vTPMs of all kinds allow.
const piece = 512

// An index is one NV index as its TPM describes it.
type index struct {
	area *tpm2.TPMSNVPublic
	name tpm2.TPM2BName
}

// find returns an index, nil if there is none. The name is computed, so that a command fails if
// the index becomes another one meanwhile.
func find(t transport.TPM, h tpm2.TPMHandle) (*index, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: h}.Execute(t)
	if tpmkeys.Absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at NV index 0x%08x: %w", uint32(h), err)
	}
	area, err := rsp.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: NV index 0x%08x: %w", platform.ErrMalformed, uint32(h), err)
	}
	name, err := tpm2.NVName(area)
	if err != nil || area.NVIndex != h {
		return nil, fmt.Errorf("%w: the description of NV index 0x%08x is that of another (%v)", platform.ErrMalformed, uint32(h), err)
	}
	return &index{area: area, name: *name}, nil
}

// handle returns the index for a command.
func (i *index) handle() tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: i.area.NVIndex, Name: i.name}
}

// by returns what authorizes a command: the owner if the index lets it, or the index itself, which
// has an empty authorization value.
func (i *index) by(owner bool, a tpmkeys.Auths) tpm2.AuthHandle {
	if owner {
		return a.Owned()
	}
	return tpm2.AuthHandle{Handle: i.area.NVIndex, Name: i.name, Auth: tpm2.PasswordAuth(nil)}
}

// refuse refuses an index that is not what the paravisor's interface says.
func (i *index) refuse(format string, args ...any) error {
	return fmt.Errorf("%w: NV index 0x%08x %s", platform.ErrMalformed, uint32(i.area.NVIndex), fmt.Sprintf(format, args...))
}

// findReport returns the index of the report.
func findReport(t transport.TPM) (*index, error) {
	i, err := find(t, nvReport)
	if err != nil {
		return nil, err
	}
	if i == nil {
		return nil, fmt.Errorf("%w: the vTPM has no NV index 0x%08x", platform.ErrAbsent, uint32(nvReport))
	}
	if not := i.unlike(); not != "" {
		return nil, i.refuse("%s", not)
	}
	return i, nil
}

// unlike returns in what an index differs from what the paravisor's interface says of the report,
// empty if in nothing.
func (i *index) unlike() string {
	n, a := int(i.area.DataSize), i.area.Attributes
	switch {
	case n < tpmwire.MinHCL || n > tpmwire.MaxHCL:
		return fmt.Sprintf("has %d bytes, want %d to %d", n, tpmwire.MinHCL, tpmwire.MaxHCL)
	case a.NT != tpm2.TPMNTOrdinary:
		return fmt.Sprintf("is of type %d, want ordinary data", a.NT)
	case !a.OwnerRead && (!a.AuthRead || !a.NoDA): // a wrong authorization of such an index counts towards a lockout
		return "can be read by neither the owner nor, without the risk of a lockout, its own authorization"
	}
	return ""
}

// readReport reads the index of the report.
func readReport(t transport.TPM, a tpmkeys.Auths) ([]byte, error) {
	i, err := findReport(t)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, i.area.DataSize)
	for len(out) < int(i.area.DataSize) {
		b, err := i.read(t, a, len(out), min(piece, int(i.area.DataSize)-len(out)))
		switch {
		case errors.Is(err, tpm2.TPMRCNVUninitialized):
			return nil, i.refuse("was never written")
		case err != nil:
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

// read reads n bytes from an offset.
func (i *index) read(t transport.TPM, a tpmkeys.Auths, at, n int) ([]byte, error) {
	rsp, err := tpm2.NVRead{AuthHandle: i.by(i.area.Attributes.OwnerRead, a), NVIndex: i.handle(), Size: uint16(n), Offset: uint16(at)}.Execute(t)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read NV index 0x%08x: %w", uint32(i.area.NVIndex), a.OwnerError(err))
	case len(rsp.Data.Buffer) != n:
		return nil, i.refuse("gives %d bytes, want %d", len(rsp.Data.Buffer), n)
	}
	return rsp.Data.Buffer, nil
}

// userDataAttributes are those of the index that the guest defines: the owner writes and reads
// it, as other programs that use the paravisor expect.
var userDataAttributes = tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthWrite: true, AuthRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary}

// writeUserData writes what the next report is to contain, and defines the index if it is absent.
func writeUserData(t transport.TPM, a tpmkeys.Auths, data [64]byte) error {
	i, err := find(t, nvUserData)
	if err == nil && i == nil {
		if err = defineUserData(t, a); err == nil {
			i, err = find(t, nvUserData)
		}
	}
	if err != nil {
		return err
	}
	if i == nil {
		return fmt.Errorf("%w: NV index 0x%08x is absent after it was defined", platform.ErrMalformed, uint32(nvUserData))
	}
	at := i.area.Attributes
	const remedy = "find out which program made it; `tpm2_nvundefine -C o 0x01400002` removes it"
	switch {
	case int(i.area.DataSize) != len(data):
		return i.refuse("has %d bytes, want %d: %s", i.area.DataSize, len(data), remedy)
	case at.NT != tpm2.TPMNTOrdinary:
		return i.refuse("is of type %d, want ordinary data: %s", at.NT, remedy)
	case !at.OwnerWrite && !at.AuthWrite, at.WriteLocked:
		return i.refuse("cannot be written: %s", remedy)
	}
	_, err = tpm2.NVWrite{AuthHandle: i.by(at.OwnerWrite, a), NVIndex: i.handle(), Data: tpm2.TPM2BMaxNVBuffer{Buffer: data[:]}}.Execute(t)
	if err != nil {
		return fmt.Errorf("write NV index 0x%08x: %w", uint32(nvUserData), a.OwnerError(err))
	}
	return nil
}

func defineUserData(t transport.TPM, a tpmkeys.Auths) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: a.Owned(),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: nvUserData, NameAlg: tpm2.TPMAlgSHA256, Attributes: userDataAttributes, DataSize: tpmwire.HCLUserData}),
	}.Execute(t)
	if err != nil && !errors.Is(err, tpm2.TPMRCNVDefined) {
		return fmt.Errorf("define NV index 0x%08x: %w", uint32(nvUserData), a.OwnerError(err))
	}
	return nil
}

// keptKey returns the attestation key that the vTPM keeps, which the runtime data have to name.
func keptKey(t transport.TPM) (*tpmwire.Key, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: tpmkeys.AzureAK}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("read the attestation key at 0x%08x: %w", uint32(tpmkeys.AzureAK), err)
	}
	p, err := keys.ParsePublic(rsp.OutPublic.Bytes())
	var k *tpmwire.Key
	if err == nil {
		area := p.Area()
		k, err = tpmwire.SigningKey(&area, p.Bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the attestation key at 0x%08x: %w", platform.ErrOtherKey, uint32(tpmkeys.AzureAK), err)
	}
	return k, nil
}
