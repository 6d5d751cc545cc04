// SPDX-License-Identifier: Apache-2.0

package paravisor

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Runtime returns runtime data with user data, that name an attestation key of this modulus. The
// keys of others of these names have the same.
func Runtime(modulus, userData []byte, others ...string) string {
	jwk := func(name string) string {
		return fmt.Sprintf(`{"kid":%q,"key_ops":["sign"],"kty":"RSA","e":"AQAB","n":%q}`, name, base64.RawURLEncoding.EncodeToString(modulus))
	}
	keys := jwk("HCLAkPub")
	for _, name := range others {
		keys += "," + jwk(name)
	}
	return fmt.Sprintf(`{"keys":[%s],"vm-configuration":{"secure-boot":true},"user-data":%q}`, keys, hex.EncodeToString(userData))
}

// ReportData returns the report data over runtime data.
func ReportData(runtime string) (data [64]byte) {
	digest := sha256.Sum256([]byte(runtime))
	copy(data[:], digest[:])
	return data
}

// Blob lays a report and runtime data out (see internal/tpmwire), without zeros after them.
func Blob(report []byte, runtime string) []byte {
	b := make([]byte, 1236, 1236+len(runtime))
	le := binary.LittleEndian
	copy(b, "HCLA")
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], uint32(1236+len(runtime)))
	le.PutUint32(b[12:], 2)
	copy(b[32:], report)
	le.PutUint32(b[1216:], uint32(20+len(runtime)))
	le.PutUint32(b[1220:], 1)
	le.PutUint32(b[1224:], 2)
	le.PutUint32(b[1228:], 1)
	le.PutUint32(b[1232:], uint32(len(runtime)))
	return append(b, runtime...)
}

// name returns the name of an index, and false if it is absent.
func (v *Paravisor) name(h tpm2.TPMHandle) (tpm2.NamedHandle, bool, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: h}.Execute(v)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return tpm2.NamedHandle{}, false, nil
	}
	if err != nil {
		return tpm2.NamedHandle{}, false, err
	}
	return tpm2.NamedHandle{Handle: h, Name: rsp.NVName}, true, nil
}

var ownerAuth = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}

// userData returns what the guest wrote, zeros if it wrote nothing.
func (v *Paravisor) userData() ([]byte, error) {
	i, there, err := v.name(UserDataIndex)
	if err != nil || !there {
		return make([]byte, 64), err
	}
	rsp, err := tpm2.NVRead{AuthHandle: ownerAuth, NVIndex: i, Size: 64}.Execute(v)
	if err != nil { // never written, or of another size
		return make([]byte, 64), nil
	}
	return rsp.Data.Buffer, nil
}

// writeUserData writes as another program of the guest does.
func (v *Paravisor) writeUserData(b []byte) error { return v.write(UserDataIndex, ownerAuth, b) }

func (v *Paravisor) write(h tpm2.TPMHandle, auth tpm2.AuthHandle, b []byte) error {
	for at := 0; at < len(b); at += 512 {
		i, _, err := v.name(h) // the name changes at the first write
		if err == nil {
			_, err = tpm2.NVWrite{AuthHandle: auth, NVIndex: i, Data: tpm2.TPM2BMaxNVBuffer{Buffer: b[at:min(at+512, len(b))]}, Offset: uint16(at)}.Execute(v)
		}
		if err != nil {
			return fmt.Errorf("write NV index 0x%08x: %w", uint32(h), err)
		}
	}
	return nil
}
