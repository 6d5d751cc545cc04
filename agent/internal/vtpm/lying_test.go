// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestLyingTPM: a TPM whose sessions hold can still answer with no quote, one over
// something else, or one that its key did not sign. Nothing comes of it but an error with
// a type, which the counters of the status show: no signature of the agent, and no report.
func TestLyingTPM(t *testing.T) {
	v, d := newTPM(t)
	l := newLiar(t, v.AK)
	v.Device = &meddler{Device: d, answer: l.answer}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(attest []byte) []byte { // as a TPM with another key would
		sum := sha256.Sum256(attest)
		r, s, err := ecdsa.Sign(rand.Reader, other, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return scalars(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32)))
	}
	parts := func(signature []byte) (r, s []byte) {
		r, rest := cut(signature[4:])
		s, _ = cut(rest)
		return r, s
	}
	replace := func(from, to string) func(a, s []byte) ([]byte, []byte) {
		return func(a, s []byte) ([]byte, []byte) {
			if !bytes.Contains(a, []byte(from)) {
				t.Fatalf("the quote does not contain %x", from)
			}
			return bytes.Replace(a, []byte(from), []byte(to), 1), s
		}
	}
	var earlier []byte
	order := elliptic.P256().Params().N.Bytes()
	tests := map[string]struct {
		lie  func(a, s []byte) ([]byte, []byte)
		want error
		says string
	}{
		"the truth": {nil, nil, ""},
		"the truth again": {func(a, s []byte) ([]byte, []byte) {
			earlier = s
			return a, s
		}, nil, ""},
		"wrong magic":     {replace("\xffTCG\x80\x18", "\xfeTCG\x80\x18"), attest.ErrBadQuote, "TPM_GENERATED_VALUE"},
		"an NV attestion": {replace("\xffTCG\x80\x18", "\xffTCG\x80\x14"), attest.ErrBadQuote, ""},
		"bytes after":     {func(a, s []byte) ([]byte, []byte) { return append(a, 0), s }, attest.ErrBadQuote, "follow the TPMS_ATTEST"},
		"no quote":        {func(a, s []byte) ([]byte, []byte) { return []byte("nonsense"), s }, attest.ErrBadQuote, ""},
		"nothing":         {func(a, s []byte) ([]byte, []byte) { return nil, s }, attest.ErrBadQuote, ""},
		"another selection": {
			replace("\x00\x0b\x03\xff\xff\x00", "\x00\x0b\x03\xff\x7f\x01"), attest.ErrBadQuote, "",
		},
		"another selection, signed": {func(a, _ []byte) ([]byte, []byte) {
			a, _ = replace("\x00\x0b\x03\xff\xff\x00", "\x00\x0b\x03\xff\x7f\x01")(a, nil)
			return a, sign(a)
		}, attest.ErrBadQuote, "is not one of AK"},
		"another digest": {func(a, s []byte) ([]byte, []byte) {
			a[len(a)-1] ^= 1
			return a, s
		}, attest.ErrBadQuote, "is not one of AK"},
		"another clock": {func(a, s []byte) ([]byte, []byte) {
			at, err := tpm2.Unmarshal[tpm2.TPMSAttest](a)
			if err != nil {
				t.Fatal(err)
			}
			at.ClockInfo.ResetCount++ // what tells one boot from another
			return tpm2.Marshal(*at), s
		}, attest.ErrBadQuote, "is not one of AK"},
		"another request": {func(a, s []byte) ([]byte, []byte) {
			at, err := tpm2.Unmarshal[tpm2.TPMSAttest](a)
			if err != nil {
				t.Fatal(err)
			}
			at.ExtraData.Buffer[0] ^= 1
			return tpm2.Marshal(*at), s
		}, attest.ErrBadQuote, "another request"},
		"another key":       {func(a, _ []byte) ([]byte, []byte) { return a, sign(a) }, attest.ErrBadQuote, "is not one of AK"},
		"flipped signature": {func(a, s []byte) ([]byte, []byte) { s[len(s)-1] ^= 1; return a, s }, attest.ErrBadQuote, "is not one of AK"},
		"an earlier signature": {func(a, _ []byte) ([]byte, []byte) {
			return a, earlier
		}, attest.ErrBadQuote, "is not one of AK"},
		"another hash": {func(a, s []byte) ([]byte, []byte) {
			r, n := parts(s)
			return a, scalars(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA1, r, n)
		}, attest.ErrBadQuote, "hash 0x0004"},
		"another scheme": {func(a, s []byte) ([]byte, []byte) {
			r, n := parts(s)
			return a, scalars(tpm2.TPMAlgECDAA, tpm2.TPMAlgSHA256, r, n)
		}, attest.ErrBadQuote, "scheme"},
		"RSA": {func(a, s []byte) ([]byte, []byte) {
			return a, append([]byte{0, 0x14, 0, 0x0b}, sized(make([]byte, 256))...)
		}, attest.ErrBadQuote, "scheme"},
		"zeros": {func(a, s []byte) ([]byte, []byte) {
			return a, scalars(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, make([]byte, 32), make([]byte, 32))
		}, attest.ErrBadQuote, "r is out of range"},
		"the order": {func(a, s []byte) ([]byte, []byte) {
			return a, scalars(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, order, order)
		}, attest.ErrBadQuote, "r is out of range"},
		"no numbers": {func(a, s []byte) ([]byte, []byte) {
			return a, scalars(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, nil, nil)
		}, attest.ErrBadQuote, "r has 0 bytes"},
		"padded": {func(a, s []byte) ([]byte, []byte) {
			r, n := parts(s)
			pad := func(b []byte) []byte { return new(big.Int).SetBytes(b).FillBytes(make([]byte, 33)) }
			return a, scalars(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, pad(r), pad(n))
		}, attest.ErrBadQuote, "r has 33 bytes"},
	}
	names := []string{"the truth again"} // gives the earlier signature
	for name := range tests {
		if name != names[0] {
			names = append(names, name)
		}
	}
	for _, name := range names {
		tt := tests[name]
		t.Run(name, func(t *testing.T) {
			l.lie = tt.lie
			reports := &counting{}
			a := newAttester(t, v, reports)
			_, err := a.Attest(t.Context(), api.EvidenceRequest{Nonce: make([]byte, 16), Log: api.LogNone}, evidence.Caller{PID: 1, Method: evidence.MethodPidfd})
			if tt.want == nil {
				if err != nil || reports.n != 1 || a.Stats().QuoteError != "" {
					t.Fatalf("%d reports, %+v, error %v", reports.n, a.Stats(), err)
				}
				return
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
			}
			if reports.n != 0 {
				t.Errorf("%d reports were spent on it", reports.n)
			}
			if s := a.Stats(); s.Batches.Failed != 1 || s.QuoteError == "" || s.Anchor != nil {
				t.Errorf("counters %+v do not tell", s)
			}
		})
	}
}

// TestSelectionSigned: a quote of other PCRs than those asked for, signed by the AK
// itself, is refused for what it says.
func TestSelectionSigned(t *testing.T) {
	v, d := newTPM(t)
	l := newLiar(t, v.AK)
	s, err := pcr.ParseSelection("sha256:0-14")
	if err != nil {
		t.Fatal(err)
	}
	data := evidence.Digest{1}
	honest := &vtpm.TPM{Device: v.Device, AK: v.AK, Selection: s}
	q, err := honest.Quote(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	l.lie = func(_, _ []byte) ([]byte, []byte) { return q.Attest, q.Signature }
	v.Device = &meddler{Device: d, answer: l.answer}
	if _, err := v.Quote(t.Context(), data); !errors.Is(err, tpmkeys.ErrQuote) || !strings.Contains(err.Error(), "it selects") {
		t.Errorf("error %v, want ErrQuote", err)
	}
}
