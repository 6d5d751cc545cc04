// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify"
)

// quoteSet reads the files of a quote alone.
func (t *terminal) quoteSet(m *materialFiles) (*verify.QuoteSet, error) {
	s := new(verify.QuoteSet)
	var values []byte
	for _, x := range []struct {
		name  string
		limit int
		to    *[]byte
	}{{m.ak, maxHCL, &s.Key}, {m.quote, maxAttest, &s.Quote}, {m.signature, maxSignature, &s.Signature}, {m.pcrs, maxPCRFile, &values}} {
		b, err := t.readInput(x.name, x.limit)
		if err != nil {
			return nil, err
		}
		*x.to = b
	}
	s.Key = quoteKey(s.Key)
	all, err := pcrValues(values, s.Quote)
	if err != nil {
		return nil, misuse(fmt.Errorf("%s: %w", m.pcrs, err)).withHint("tpm2_quote -o FILE writes them with the quote")
	}
	selected, _ := selection(s.Quote) // pcrValues has read it
	bank := evidence.Bank{Algorithm: pcr.SHA256.String()}
	for _, i := range selected {
		bank.PCRs = append(bank.PCRs, evidence.PCR{Index: i, Value: all[int(i)*pcrSize:][:pcrSize]})
	}
	s.PCRs = []evidence.Bank{bank}
	return s, nil
}

// quoteKey returns a key as the verifier takes it: without PEM around it, and a TPM2B_PUBLIC
// of tpm2-tools without its two bytes of size.
func quoteKey(b []byte) []byte {
	if p, _ := pem.Decode(b); p != nil {
		return p.Bytes
	}
	if len(b) > 2 && int(binary.BigEndian.Uint16(b)) == len(b)-2 {
		return b[2:]
	}
	return b
}

// Sizes in bytes of the file of PCR values that tpm2_quote -o and tpm2_pcrread -o write: the
// structures TPML_PCR_SELECTION and TPML_DIGEST of C as they are in memory, little-endian.
const (
	pcrSize        = 32              // of a value of bank SHA-256
	fileSelection  = 4 + 16*8        // count, then 16 of: hash u16, size u8, 4 bytes of bits, 1 unused
	fileDigests    = 4 + 8*(2+64)    // count, then 8 of: size u16, 64 bytes
	maxFileDigests = 8               // of these, for 64 values
	maxPCRFile     = fileSelection + // and their count
		4 + maxFileDigests*fileDigests
)

// selection returns which PCRs of SHA-256 a quote selects, in their order.
func selection(quote []byte) ([]uint32, error) {
	a, err := tpmwire.ParseQuote(quote)
	if err != nil {
		return nil, fmt.Errorf("the quote cannot be read: %w", err)
	}
	s, err := pcr.SelectionFromTPM(a.Selection)
	if err != nil {
		return nil, fmt.Errorf("the quote cannot be read: %w", err)
	}
	if len(s) != 1 || s[0].Algorithm != pcr.SHA256 {
		return nil, fmt.Errorf("the quote selects %v, want PCRs of bank sha256 alone", s)
	}
	return s[0].PCRs, nil
}

// pcrValues returns PCRs 0 to 23 of SHA-256 from a file: all of them, those that the quote
// selects in its order, or a file of tpm2_quote -o. What the quote does not select is zero.
func pcrValues(b, quote []byte) ([]byte, error) {
	if len(b) == maxPCRs {
		return b, nil
	}
	selected, err := selection(quote)
	if err != nil {
		return nil, err
	}
	values := b
	if len(b) != len(selected)*pcrSize {
		if values, err = toolValues(b); err != nil {
			return nil, fmt.Errorf("%d bytes (%w), want PCRs 0 to 23 of bank SHA-256, %d bytes, the %d that the quote selects, %d bytes, or a file of tpm2_quote -o",
				len(b), err, maxPCRs, len(selected), len(selected)*pcrSize)
		}
	}
	if len(values) != len(selected)*pcrSize {
		return nil, fmt.Errorf("it has %s, and the quote selects %d", text.Count(len(values)/pcrSize, "value"), len(selected))
	}
	out := make([]byte, maxPCRs)
	for at, i := range selected {
		copy(out[int(i)*pcrSize:], values[at*pcrSize:][:pcrSize])
	}
	return out, nil
}

// toolValues returns the values of SHA-256 in a file of tpm2-tools.
func toolValues(b []byte) ([]byte, error) {
	errForm := errors.New("not of that form")
	if len(b) < fileSelection+4 {
		return nil, errForm
	}
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	if u32(b) != 1 || u16(b[4:]) != uint16(pcr.SHA256) {
		return nil, errors.New("not of bank sha256 alone")
	}
	lists := u32(b[fileSelection:])
	rest := b[fileSelection+4:]
	if lists > maxFileDigests || len(rest) != int(lists)*fileDigests {
		return nil, errForm
	}
	var out []byte
	for ; len(rest) > 0; rest = rest[fileDigests:] {
		n := u32(rest)
		if n > 8 {
			return nil, errForm
		}
		for i := range int(n) {
			d := rest[4+i*66:]
			if u16(d) != pcrSize {
				return nil, errForm
			}
			out = append(out, d[2:][:pcrSize]...)
		}
	}
	return out, nil
}
