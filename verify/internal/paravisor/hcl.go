// SPDX-License-Identifier: Apache-2.0

package paravisor

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Layout of what an Azure paravisor writes to NV index 0x01400001, little-endian:
//
//	   0  signature     4 bytes  "HCLA"
//	   4  version       4 bytes  1 or 2
//	   8  size          4 bytes  of everything up to the end of the runtime data
//	  12  request type  4 bytes
//	  16  status        4 bytes  0
//	  20  reserved     12 bytes  0
//	  32  report     1184 bytes  as the firmware produced it
//	1216  data size     4 bytes  20 and the size of the runtime data
//	1220  version       4 bytes  1
//	1224  report type   4 bytes  2 SNP, 4 TDX
//	1228  hash type     4 bytes  1 SHA-256, 2 SHA-384, 3 SHA-512
//	1232  variable size 4 bytes  of the runtime data
//	1236  runtime data           JSON; zeros follow, to the size of the index
const (
	hclReport  = 32
	hclSizes   = hclReport + snp.ReportSize
	hclRuntime = hclSizes + 20
	maxHCL     = 8 << 10 // bytes; indexes in use have 2,048 or 2,600
	hclVersion = 2
	hclTypeSNP = 2
	hclTypeTDX = 4
	UserData   = report.DataSize // bytes of user data, in hexadecimal in the JSON
)

// Blob is what the paravisor writes, taken apart. Only the report is signed, and it
// contains the hash of the runtime data.
type Blob struct {
	Report     []byte // as the firmware produced it
	reportType uint32
	hash       crypto.Hash
	runtime    []byte
	keys       []jwk
	userData   []byte // 64 bytes; nil if the runtime data has none
}

// jwk is an RSA key of the runtime data (RFC 7517, RFC 7518 section 6.3).
type jwk struct {
	ID       string `json:"kid"`
	Type     string `json:"kty"`
	Modulus  string `json:"n"`
	Exponent string `json:"e"`
}

func parse(b []byte) (*Blob, error) {
	if len(b) < hclRuntime || len(b) > maxHCL {
		return nil, fmt.Errorf("paravisor's blob of %d bytes, want %d to %d", len(b), hclRuntime, maxHCL)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	if string(b[:4]) != "HCLA" {
		return nil, fmt.Errorf("paravisor's blob begins with %x, want the text HCLA", b[:4])
	}
	size := u32(1232)
	switch {
	case uint64(size) > uint64(len(b)-hclRuntime):
		return nil, fmt.Errorf("runtime data of %d bytes, %d are left in the blob", size, len(b)-hclRuntime)
	case u32(4) < 1 || u32(4) > hclVersion || u32(1220) != 1:
		return nil, fmt.Errorf("paravisor's blob of version %d with runtime data of version %d, want 1 to %d with 1", u32(4), u32(1220), hclVersion)
	case u32(8) != hclRuntime+size || u32(1216) != 20+size:
		return nil, fmt.Errorf("sizes %d and %d in the headers do not go with runtime data of %d bytes", u32(8), u32(1216), size)
	case !check.Zero(b[16:hclReport]):
		return nil, fmt.Errorf("status and reserved bytes of the header are %x, want zeros", b[16:hclReport])
	case !check.Zero(b[hclRuntime+size:]):
		return nil, fmt.Errorf("something follows the runtime data, want zeros")
	}
	h := &Blob{Report: b[hclReport:hclSizes], reportType: u32(1224), runtime: b[hclRuntime : hclRuntime+size]}
	switch t := u32(1228); t {
	case 1:
		h.hash = crypto.SHA256
	case 2:
		h.hash = crypto.SHA384
	case 3:
		h.hash = crypto.SHA512
	default:
		return nil, fmt.Errorf("runtime data hashed with algorithm %d, want 1, 2 or 3", t)
	}
	return h, h.parseRuntime()
}

// parseRuntime parses the members that matter; the paravisor adds others from time to
// time. A member that is there twice is an error: two readers would take different ones.
func (h *Blob) parseRuntime() error {
	var v struct {
		Keys     []jwk  `json:"keys"`
		UserData string `json:"user-data"`
	}
	if err := strictjson.DecodeForeign(h.runtime, maxHCL, &v); err != nil {
		return fmt.Errorf("runtime data: %w", err)
	}
	h.keys = v.Keys
	if v.UserData == "" {
		return nil
	}
	data, err := hex.DecodeString(v.UserData)
	if err != nil || len(data) != UserData {
		return fmt.Errorf("user data of the runtime data is not %d bytes in hexadecimal", UserData)
	}
	h.userData = data
	return nil
}

// attestationKey returns the key named HCLAkPub.
func (h *Blob) attestationKey() (*tpmwire.Key, error) {
	var found *jwk
	for i := range h.keys {
		if h.keys[i].ID != "HCLAkPub" {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("the runtime data contains two keys named HCLAkPub")
		}
		found = &h.keys[i]
	}
	if found == nil {
		return nil, fmt.Errorf("the runtime data contains no key named HCLAkPub, among %d", len(h.keys))
	}
	if found.Type != "RSA" {
		return nil, fmt.Errorf("HCLAkPub is of type %q, want RSA", found.Type)
	}
	n, err := base64url(found.Modulus)
	if err != nil {
		return nil, fmt.Errorf("modulus of HCLAkPub: %w", err)
	}
	e, err := base64url(found.Exponent)
	if err != nil || len(e) > 4 {
		return nil, fmt.Errorf("exponent of HCLAkPub is %q", found.Exponent)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if !bytes.Equal(key.N.Bytes(), n) {
		return nil, fmt.Errorf("modulus of HCLAkPub is padded to %d bytes", len(n))
	}
	return tpmwire.BareRSA(key)
}

// base64url decodes the one canonical spelling (RFC 4648, section 5, without padding).
func base64url(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil && base64.RawURLEncoding.EncodeToString(b) != s {
		err = fmt.Errorf("not the canonical spelling")
	}
	return b, err
}
