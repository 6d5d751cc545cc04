// SPDX-License-Identifier: Apache-2.0

package swtpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// extendIndex is an index that is extended, as a register of a log would be.
const extendIndex tpm2.TPMHandle = 0x01800123

// extendable returns its public area, with a policy that nothing satisfies: no digest of a policy is
// known that begins so.
func extendable(attributes tpm2.TPMANV) tpm2.TPM2BNVPublic {
	attributes.NT, attributes.AuthWrite, attributes.AuthRead, attributes.NoDA, attributes.ClearSTClear = tpm2.TPMNTExtend, true, true, true, true
	return tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: extendIndex, NameAlg: tpm2.TPMAlgSHA256, Attributes: attributes, DataSize: 32,
		AuthPolicy: tpm2.TPM2BDigest{Buffer: bytes.Repeat([]byte{0xff}, 32)},
	})
}

func empty(handle tpm2.TPMHandle) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: handle, Auth: tpm2.PasswordAuth(nil)}
}

// extend sends TPM2_NV_Extend (TPM 2.0 Part 3, section 31.9) with the empty authorization of the index.
func extend(t *testing.T, to transport.TPM, data string) {
	t.Helper()
	b := binary.BigEndian.AppendUint32(nil, 0x136)
	b = binary.BigEndian.AppendUint32(b, uint32(extendIndex))
	b = binary.BigEndian.AppendUint32(b, uint32(extendIndex))
	b = append(b, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0) // one authorization: TPM_RS_PW
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
	answer, err := to.Send(append(binary.BigEndian.AppendUint32([]byte{0x80, 0x02}, uint32(len(b)+6)), b...))
	if err != nil || len(answer) < 10 || !bytes.Equal(answer[6:10], make([]byte, 4)) {
		t.Fatalf("extend: %x, %v", answer, err)
	}
}

// shown returns name and value of the index: all that TPM2_NV_Certify signs of it.
func shown(t *testing.T, to transport.TPM) (name, value []byte) {
	t.Helper()
	public, err := tpm2.NVReadPublic{NVIndex: extendIndex}.Execute(to)
	if err != nil {
		t.Fatal(err)
	}
	read, err := tpm2.NVRead{
		AuthHandle: tpm2.AuthHandle{Handle: extendIndex, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: extendIndex, Name: public.NVName}, Size: 32,
	}.Execute(to)
	if err != nil {
		t.Fatal(err)
	}
	return public.NVName.Buffer, read.Data.Buffer
}

func undefine(t *testing.T, to transport.TPM, as tpm2.TPMHandle) error {
	t.Helper()
	public, err := tpm2.NVReadPublic{NVIndex: extendIndex}.Execute(to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.NVUndefineSpace{AuthHandle: empty(as), NVIndex: tpm2.NamedHandle{Handle: extendIndex, Name: public.NVName}}.Execute(to)
	return err
}

// TestIndexIsNoRegister: why no index of the TPM takes part in a log (docs/limitations.md). The owner can
// delete one that the owner defined, and define it again: then it has the same name, and the value that
// another history leads to. One that cannot be deleted needs the authorization of the platform, which
// firmware takes away before a guest runs.
func TestIndexIsNoRegister(t *testing.T) {
	p := start(t, t.TempDir())
	to := transport.FromReadWriter(p)
	define := func(as tpm2.TPMHandle, attributes tpm2.TPMANV) error {
		_, err := tpm2.NVDefineSpace{AuthHandle: empty(as), PublicInfo: extendable(attributes)}.Execute(to)
		return err
	}
	var names, values [][]byte
	for _, history := range []string{"what happened", "what did not"} {
		if err := define(tpm2.TPMRHOwner, tpm2.TPMANV{}); err != nil {
			t.Fatal(err)
		}
		extend(t, to, history)
		name, value := shown(t, to)
		names, values = append(names, name), append(values, value)
		if err := undefine(t, to, tpm2.TPMRHOwner); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(names[0], names[1]) || bytes.Equal(values[0], values[1]) {
		t.Errorf("names %x, values %x: want one name for two histories", names, values)
	}

	lasting := tpm2.TPMANV{PolicyDelete: true}
	if err := define(tpm2.TPMRHOwner, lasting); !errors.Is(err, tpm2.TPMRCAttributes) {
		t.Errorf("the owner defines an index that only a policy deletes: %v", err)
	}
	lasting.PlatformCreate = true
	if err := define(tpm2.TPMRHPlatform, lasting); err != nil {
		t.Fatal(err)
	}
	for _, as := range []tpm2.TPMHandle{tpm2.TPMRHOwner, tpm2.TPMRHPlatform} {
		if err := undefine(t, to, as); err == nil {
			t.Fatalf("%x deletes an index that only a policy deletes", as)
		}
	}
	extend(t, to, "what happened")
	if _, value := shown(t, to); !bytes.Equal(value, values[0]) {
		t.Errorf("value %x, want %x", value, values[0])
	}

	secret := tpm2.TPM2BAuth{Buffer: []byte("random, and forgotten")}
	if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: empty(tpm2.TPMRHPlatform), NewAuth: secret}).Execute(to); err != nil {
		t.Fatal(err)
	}
	public := extendable(lasting)
	if _, err := (tpm2.NVDefineSpace{AuthHandle: empty(tpm2.TPMRHPlatform), PublicInfo: public}).Execute(to); !errors.Is(err, tpm2.TPMRCBadAuth) {
		t.Errorf("after the firmware: %v", err)
	}
}
