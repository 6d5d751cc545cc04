// SPDX-License-Identifier: Apache-2.0

// Package paravisor checks what an Azure paravisor (HCL) vouches for: a report over
// runtime data, which names the attestation key of the vTPM.
package paravisor

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/snp"
)

var (
	decode = check.Definition{ID: "paravisor.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "the paravisor's blob has consistent sizes, a known hash, and runtime data without duplicate members", Stops: "a report, or a key, read from the wrong place"}
	key    = check.Definition{ID: "paravisor.key", Class: check.Binding, Ground: check.OnVerifier, Checks: "the runtime data contains exactly one HCLAkPub, an RSA key of 2048 to 4096 bits", Stops: "a second key that another reader would take"}
)

// Checks that say what the age or the binding of a report depends on.
var (
	ExpectedData = check.Definition{ID: "paravisor.user-data", Class: check.Binding, Ground: check.OnProcessor, Checks: "the runtime data contains the user data that the verifier expects", Stops: "an older report with a quote of now"}
	RuntimeData  = check.Definition{ID: "binding.runtime-data", Class: check.Binding, Ground: check.OnProcessor, Checks: "the report's REPORT_DATA is the hash of the paravisor's runtime data, and nothing else", Stops: "the attestation key of one machine with the report of another"}
)

// The checks of this package, in two lists since those of other rooms come between, and those
// that only raw material undergoes.
var (
	Definitions        = []check.Definition{decode, key, ExpectedData}
	BindingDefinitions = []check.Definition{RuntimeData}
	RawDefinitions     = []check.Definition{ExpectedData}
)

// Trim returns an NV index's content without the zeros that follow the runtime data. It returns
// b itself if that is not what the sizes in it say.
func Trim(b []byte) []byte {
	if h, err := parse(b); err == nil {
		return b[:hclRuntime+len(h.runtime)]
	}
	return b
}

// Parse parses the paravisor's blob. It returns nil if that is not possible.
func Parse(f *check.Findings, b []byte) *Blob {
	h, err := parse(b)
	if !f.DecideError(decode.ID, err) || err != nil {
		return nil
	}
	return h
}

// Kind returns the kind of the report.
func (h *Blob) Kind() evidence.ReportKind {
	kinds := map[uint32]evidence.ReportKind{hclTypeSNP: evidence.ReportSNP, hclTypeTDX: "tdx"}
	return cmp.Or(kinds[h.reportType], evidence.ReportKind(fmt.Sprintf("type %d", h.reportType)))
}

// CheckKey returns the attestation key in the runtime data, or nil.
func (h *Blob) CheckKey(f *check.Findings) *tpmwire.Key {
	k, err := h.attestationKey()
	if !f.DecideError(key.ID, err) {
		return nil
	}
	return k
}

// NoKeyChecks tells why a key of the runtime data undergoes no check of its own.
func NoKeyChecks() string {
	return fmt.Sprintf("the runtime data names only modulus and exponent, see %s: only the paravisor says what else the key signs", key.ID)
}

// CheckUserData compares what the guest passed to the paravisor with what the verifier
// expects; zeros follow a shorter expectation. It tells a report of today from one of the
// last boot only if it contains the nonce.
func (h *Blob) CheckUserData(f *check.Findings, expected []byte) {
	if expected == nil {
		f.Skip(ExpectedData.ID, "no user data was expected: the report may be older than the quote")
		return
	}
	var want [UserData]byte
	n := copy(want[:], expected)
	f.Decide(ExpectedData.ID, n == len(expected) && bytes.Equal(want[:], h.userData), check.Short(want[:]), check.Short(h.userData),
		"the user data in the runtime data is not the expected: an old report, or one made for another purpose")
}

// Fresh reports whether the user data passed its check and contains the nonce whole. A
// constant, such as the zeros of a paravisor that was passed nothing, is in every report
// since boot; a nonce shorter than 16 bytes may be in one by chance.
func Fresh(f *check.Findings, expected, nonce []byte) bool {
	return f.Passed(ExpectedData.ID) && len(nonce) >= evidence.MinNonce && bytes.Contains(expected, nonce)
}

// CheckRuntimeData checks that the report was made for the runtime data, and with it for
// the attestation key. Any guest that may request reports can do the same: what it is
// worth is for the policy's list of launch measurements to say. A paravisor requests them
// at the highest privilege.
func (h *Blob) CheckRuntimeData(f *check.Findings, r report.Report) bool {
	var want [report.DataSize]byte
	hash := h.hash.New()
	hash.Write(h.runtime)
	hash.Sum(want[:0])
	got := r.Data()
	return f.Decide(RuntimeData.ID, bytes.Equal(want[:], got[:]), hex.EncodeToString(want[:]), hex.EncodeToString(got[:]),
		"the report was made for other runtime data: another attestation key")
}

// Quoted returns the values, of 24 in a file, that the quote selects. If the quote cannot
// be read, or the file has another size, it returns all or none: the checks of the quote
// say why then.
func Quoted(values, attest []byte) []evidence.Bank {
	size := pcr.SHA256.Size()
	if len(values) != pcr.Count*size {
		return nil
	}
	selected := quote.Selected(attest)
	bank := evidence.Bank{Algorithm: pcr.SHA256.String()}
	for i := range uint32(pcr.Count) {
		if len(selected) == 1 && !slices.Contains(selected[0].PCRs, i) {
			continue
		}
		bank.PCRs = append(bank.PCRs, evidence.PCR{Index: i, Value: values[int(i)*size : int(i+1)*size]})
	}
	return []evidence.Bank{bank}
}

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
	hash, ok := map[uint32]crypto.Hash{1: crypto.SHA256, 2: crypto.SHA384, 3: crypto.SHA512}[u32(1228)]
	if !ok {
		return nil, fmt.Errorf("runtime data hashed with algorithm %d, want 1, 2 or 3", u32(1228))
	}
	h := &Blob{Report: b[hclReport:hclSizes], reportType: u32(1224), hash: hash, runtime: b[hclRuntime : hclRuntime+size]}
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
	named := func(k jwk) bool { return k.ID == "HCLAkPub" }
	i := slices.IndexFunc(h.keys, named)
	if i < 0 {
		return nil, fmt.Errorf("the runtime data contains no key named HCLAkPub, among %d", len(h.keys))
	}
	found := h.keys[i]
	if slices.ContainsFunc(h.keys[i+1:], named) {
		return nil, fmt.Errorf("the runtime data contains two keys named HCLAkPub")
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
