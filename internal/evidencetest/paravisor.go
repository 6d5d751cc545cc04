// SPDX-License-Identifier: Apache-2.0

package evidencetest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/platform/soft/paravisor"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// A ParavisorRecipe describes the set of an Azure paravisor.
type ParavisorRecipe struct {
	Report   Report
	Nonce    []byte                   // in the quote
	UserData []byte                   // 64 bytes, in the runtime data
	Runtime  func(json string) string // of the runtime data, before the report is made over it
	Blob     func(b []byte) []byte    // of the whole blob, afterwards
	Booted   bool                     // with the firmware's log, and PCRs that it leads to
}

// ParavisorSet is what a guest of such a paravisor reads. The fields are those of
// verify.AzureSet.
type ParavisorSet struct {
	HCL          []byte
	Quote        []byte
	Signature    []byte
	PCRs         []byte
	FirmwareLog  []byte
	Certificates [][]byte
}

// NewParavisor returns a recipe for a good set, on a Genoa machine.
func NewParavisor() *ParavisorRecipe {
	return &ParavisorRecipe{Report: newReport(snp.Genoa), Nonce: Nonce, UserData: append(bytes.Clone(Nonce), bytes.Repeat([]byte{0x75}, 64-len(Nonce))...)}
}

// paravisorKey makes one key: an RSA key takes longer than the rest of the package.
var paravisorKey = sync.OnceValue(func() *AK {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return RSAKeyOf(key, tpm2.TPMAlgRSASSA)
})

// HCL describes the structure of an Azure paravisor around the report of evidence.
type HCL struct {
	Names    *AK                      // the key of the runtime data; nil for the recipe's AK
	UserData func(data *[64]byte)     // in place of the commitment
	Runtime  func(json string) string // of the runtime data, before the report is made over it
	Blob     func(blob []byte) []byte // afterwards
}

// NewAzure returns a recipe for good evidence of an Azure machine with a Genoa processor. Its
// AK is the paravisor's.
func NewAzure() *Recipe {
	r, ak := New(), *paravisorKey()
	r.AK, r.HCL = &ak, new(HCL)
	return r
}

// wrap makes the report over runtime data that contain data, without what fills the index up.
func (h *HCL) wrap(tb testing.TB, r *Report, ak *AK, data [64]byte) (blob []byte, certificates [][]byte) {
	tb.Helper()
	if h.Names != nil {
		ak = h.Names
	}
	if h.UserData != nil {
		h.UserData(&data)
	}
	runtime := runtimeData(ak, data[:])
	if h.Runtime != nil {
		runtime = h.Runtime(runtime)
	}
	report, certificates := r.make(tb, paravisor.ReportData(runtime))
	blob = paravisor.Blob(report, runtime)
	if h.Blob != nil {
		blob = h.Blob(blob)
	}
	return blob, certificates
}

// runtimeData returns what a paravisor says of its keys, with 64 bytes of user data.
func runtimeData(ak *AK, userData []byte) string {
	return paravisor.Runtime(ak.RSA.N.Bytes(), userData, "HCLEkPub")
}

// Build makes the set.
func (r *ParavisorRecipe) Build(tb testing.TB) ParavisorSet {
	tb.Helper()
	ak := paravisorKey()
	runtime := runtimeData(ak, r.UserData)
	if r.Runtime != nil {
		runtime = r.Runtime(runtime)
	}
	report, certificates := r.Report.make(tb, paravisor.ReportData(runtime))

	set := ParavisorSet{HCL: append(paravisor.Blob(report, runtime), make([]byte, indexSize)...)[:indexSize], Certificates: certificates}
	if r.Blob != nil {
		set.HCL = r.Blob(set.HCL)
	}
	all := pcr.Selection{{Algorithm: pcr.SHA256}}
	values := pcr.Values{}
	for i := range uint32(pcr.Count) {
		value := bytes.Repeat([]byte{byte(i)}, 32)
		for _, e := range Firmware {
			if r.Booted && e.PCR == i {
				value = pcr.SHA256.Sum(make([]byte, 32), e.Digest)
			}
		}
		values.Set(pcr.SHA256, i, value)
		set.PCRs = append(set.PCRs, value...)
		all[0].PCRs = append(all[0].PCRs, i)
	}
	if r.Booted {
		set.FirmwareLog = FirmwareLog(Firmware...)
	}
	composite, err := all.Composite(values, ak.Hash)
	if err != nil {
		tb.Fatal(err)
	}
	a := Attestation{Magic: 0xff544347, Type: 0x8018, QualifiedSigner: signer, ExtraData: r.Nonce, Clock: 1, Safe: 1, Digest: composite,
		Banks: []Bank{{Hash: uint16(tpm2.TPMAlgSHA256), Select: []byte{0xff, 0xff, 0xff}}}}
	set.Quote = a.Encode()
	set.Signature = ak.Sign(tb, set.Quote)[6:] // bare, as the recorded ones are
	return set
}

// indexSize is the size of the NV index that the blob is read from.
const indexSize = 2600

// Make returns a bare report over data, and its certificates, leaf first.
func (r *Report) Make(tb testing.TB, data [64]byte) ([]byte, [][]byte) {
	tb.Helper()
	return r.make(tb, data)
}

// NewReport returns a recipe for a good report of this product.
func NewReport(p snp.Product) Report { return newReport(p) }
