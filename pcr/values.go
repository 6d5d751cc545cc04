// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"crypto"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
)

// Values are PCR values by bank and index.
type Values map[Algorithm]map[uint32][]byte

// Set stores the value of one PCR.
func (v Values) Set(a Algorithm, index uint32, value []byte) {
	if v[a] == nil {
		v[a] = make(map[uint32][]byte)
	}
	v[a][index] = value
}

// Get returns the value of one PCR. It fails if the value is missing or has not the size of
// the bank's digest.
func (v Values) Get(a Algorithm, index uint32) ([]byte, error) {
	b, ok := v[a][index]
	if !ok {
		return nil, fmt.Errorf("no value for PCR %d of bank %s", index, a)
	}
	if len(b) != a.Size() {
		return nil, fmt.Errorf("PCR %d of bank %s has %d bytes, want %d", index, a, len(b), a.Size())
	}
	return b, nil
}

// ValuesFromBanks returns the values of a snapshot. It checks that the banks are known and
// there once each, PCRs ascend, and values are as long as the bank's digest. The selection
// has banks and PCRs in the order of the document.
func ValuesFromBanks(banks []evidence.Bank) (Values, Selection, error) {
	v := make(Values)
	var s Selection
	for i, b := range banks {
		alg, err := ParseAlgorithm(b.Algorithm)
		if err != nil {
			return nil, nil, fmt.Errorf("pcrs[%d]: %w", i, err)
		}
		bank := BankSelection{Algorithm: alg}
		for j, p := range b.PCRs {
			if len(p.Value) != alg.Size() {
				return nil, nil, fmt.Errorf("pcrs[%d].pcrs[%d]: PCR %d of bank %s has %d bytes, want %d", i, j, p.Index, alg, len(p.Value), alg.Size())
			}
			bank.PCRs = append(bank.PCRs, p.Index)
			v.Set(alg, p.Index, p.Value)
		}
		s = append(s, bank)
	}
	if err := s.Check(); err != nil {
		return nil, nil, fmt.Errorf("pcrs: %w", err)
	}
	return v, s, nil
}

// Banks returns the values in the form of evidence, in the order of s.
func (v Values) Banks(s Selection) ([]evidence.Bank, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("list PCR values: %w", err)
	}
	banks := make([]evidence.Bank, 0, len(s))
	for _, b := range s {
		bank := evidence.Bank{Algorithm: b.Algorithm.String()}
		for _, p := range b.PCRs {
			value, err := v.Get(b.Algorithm, p)
			if err != nil {
				return nil, fmt.Errorf("list PCR values: %w", err)
			}
			bank.PCRs = append(bank.PCRs, evidence.PCR{Index: p, Value: value})
		}
		banks = append(banks, bank)
	}
	return banks, nil
}

// Composite returns pcrDigest of TPMS_QUOTE_INFO (TPM 2.0 Part 2, section 10.12.1): the
// hash of the concatenated values, banks in the order of s and PCRs ascending within each.
// The hash is that of the quoting key's signing scheme, not that of a bank.
func (s Selection) Composite(v Values, hash crypto.Hash) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("hash PCR composite: %w", err)
	}
	if !hash.Available() {
		return nil, fmt.Errorf("hash PCR composite: %v cannot be computed", hash)
	}
	h := hash.New()
	for _, b := range s {
		for _, p := range b.PCRs {
			value, err := v.Get(b.Algorithm, p)
			if err != nil {
				return nil, fmt.Errorf("hash PCR composite: %w", err)
			}
			h.Write(value)
		}
	}
	return h.Sum(nil), nil
}
