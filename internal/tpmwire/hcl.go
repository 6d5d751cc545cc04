// SPDX-License-Identifier: Apache-2.0

package tpmwire

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha256" // registers the hashes of runtime data
	_ "crypto/sha512" // likewise
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Sizes in what an Azure paravisor (HCL) hands to its guest, in bytes.
const (
	MinHCL      = hclRuntime // of the whole
	MaxHCL      = 8 << 10    // likewise; indexes in use have 2,048 or 2,600
	HCLUserData = 64         // of user data, in hexadecimal in the runtime data
	hclReport   = 32         // offset
	hclSizes    = hclReport + 1184
	hclRuntime  = hclSizes + 20
)

// Types of the report.
const (
	HCLSNP = 2
	HCLTDX = 4
)

// An HCL is what an Azure paravisor hands to its guest in NV index 0x01400001, taken apart. Only
// the report is signed, and it contains the hash of the runtime data. Layout, little-endian:
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
type HCL struct {
	Report   []byte // as the firmware produced it
	Type     uint32 // of the report
	Runtime  []byte // runtime data
	UserData []byte // 64 bytes of the guest; nil if the runtime data have none
	Size     int    // of everything up to the end of the runtime data

	hash crypto.Hash
	keys []jwk
}

// jwk is an RSA key of the runtime data (RFC 7517, RFC 7518 section 6.3).
type jwk struct {
	ID       string `json:"kid"`
	Type     string `json:"kty"`
	Modulus  string `json:"n"`
	Exponent string `json:"e"`
}

// ParseHCL takes b apart. It shares memory with b.
func ParseHCL(b []byte) (*HCL, error) {
	if len(b) < hclRuntime || len(b) > MaxHCL {
		return nil, fmt.Errorf("paravisor's blob of %d bytes, want %d to %d", len(b), hclRuntime, MaxHCL)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	if string(b[:4]) != "HCLA" {
		return nil, fmt.Errorf("paravisor's blob begins with %x, want the text HCLA", b[:4])
	}
	size := u32(1232)
	switch {
	case uint64(size) > uint64(len(b)-hclRuntime):
		return nil, fmt.Errorf("runtime data of %d bytes, %d are left in the blob", size, len(b)-hclRuntime)
	case u32(4) < 1 || u32(4) > 2 || u32(1220) != 1:
		return nil, fmt.Errorf("paravisor's blob of version %d with runtime data of version %d, want 1 or 2 with 1", u32(4), u32(1220))
	case u32(8) != hclRuntime+size || u32(1216) != 20+size:
		return nil, fmt.Errorf("sizes %d and %d in the headers do not go with runtime data of %d bytes", u32(8), u32(1216), size)
	case !zero(b[16:hclReport]):
		return nil, fmt.Errorf("status and reserved bytes of the header are %x, want zeros", b[16:hclReport])
	case !zero(b[hclRuntime+size:]):
		return nil, errors.New("something follows the runtime data, want zeros")
	}
	hash, ok := map[uint32]crypto.Hash{1: crypto.SHA256, 2: crypto.SHA384, 3: crypto.SHA512}[u32(1228)]
	if !ok {
		return nil, fmt.Errorf("runtime data hashed with algorithm %d, want 1, 2 or 3", u32(1228))
	}
	h := &HCL{Report: b[hclReport:hclSizes], Type: u32(1224), hash: hash, Runtime: b[hclRuntime : hclRuntime+size], Size: hclRuntime + int(size)}
	return h, h.parseRuntime()
}

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// ParseHCLOfSNP takes b apart as it is in evidence: it has a report of SEV-SNP, and the runtime
// data end it, so that zeros cannot give it another spelling.
func ParseHCLOfSNP(b []byte) (*HCL, error) {
	h, err := ParseHCL(b)
	switch {
	case err != nil:
		return nil, err
	case h.Type != HCLSNP:
		return nil, fmt.Errorf("the paravisor's report is of type %d, want %d: SEV-SNP", h.Type, HCLSNP)
	case len(b) != h.Size:
		return nil, fmt.Errorf("%d bytes follow the runtime data, want none", len(b)-h.Size)
	}
	return h, nil
}

// parseRuntime parses the members that matter; the paravisor adds others from time to
// time. A member that is there twice is an error: two readers would take different ones.
func (h *HCL) parseRuntime() error {
	var v struct {
		Keys     []jwk  `json:"keys"`
		UserData string `json:"user-data"`
	}
	if err := strictjson.DecodeForeign(h.Runtime, MaxHCL, &v); err != nil {
		return fmt.Errorf("runtime data: %w", err)
	}
	h.keys = v.Keys
	if v.UserData == "" {
		return nil
	}
	data, err := hex.DecodeString(v.UserData)
	if err != nil || len(data) != HCLUserData {
		return fmt.Errorf("user data of the runtime data is not %d bytes in hexadecimal", HCLUserData)
	}
	h.UserData = data
	return nil
}

// ReportData returns the report data of a report over the runtime data: their hash, then zeros.
func (h *HCL) ReportData() (data [64]byte) {
	hash := h.hash.New()
	hash.Write(h.Runtime)
	hash.Sum(data[:0])
	return data
}

// AttestationKey returns the key named HCLAkPub.
func (h *HCL) AttestationKey() (*Key, error) {
	named := func(k jwk) bool { return k.ID == "HCLAkPub" }
	i := slices.IndexFunc(h.keys, named)
	if i < 0 {
		return nil, fmt.Errorf("the runtime data contains no key named HCLAkPub, among %d", len(h.keys))
	}
	found := h.keys[i]
	if slices.ContainsFunc(h.keys[i+1:], named) {
		return nil, errors.New("the runtime data contains two keys named HCLAkPub")
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
	if len(e) > 0 && e[0] == 0 {
		return nil, fmt.Errorf("exponent of HCLAkPub is padded to %d bytes", len(e))
	}
	return BareRSA(key)
}

// base64url decodes the one canonical spelling (RFC 4648, section 5, without padding).
func base64url(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil && base64.RawURLEncoding.EncodeToString(b) != s {
		err = errors.New("not the canonical spelling")
	}
	return b, err
}
