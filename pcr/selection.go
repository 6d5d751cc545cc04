// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// BankSelection names PCRs of one bank.
type BankSelection struct {
	Algorithm Algorithm
	PCRs      []uint32 // ascending, unique, below Count, at least one
}

// Selection names PCRs of one or more banks, each bank once. The order of the
// banks is part of it: a quote's PCR digest runs over the values in this order.
type Selection []BankSelection

// ParseSelection parses the notation of tpm2-tools, with ranges: banks separated by
// "+", each an algorithm, a colon and a list, as in "sha256:0-7,13+sha384:13". PCRs
// may be in any order. Naming one twice is an error.
func ParseSelection(s string) (Selection, error) {
	var out Selection
	for _, part := range strings.Split(s, "+") {
		name, list, ok := strings.Cut(part, ":")
		if !ok {
			return nil, fmt.Errorf("parse PCR selection %q: bank %q has no list of PCRs: want a form like sha256:0-7,13", s, part)
		}
		alg, err := ParseAlgorithm(name)
		if err != nil {
			return nil, fmt.Errorf("parse PCR selection %q: %w", s, err)
		}
		pcrs, err := parseList(list)
		if err != nil {
			return nil, fmt.Errorf("parse PCR selection %q: bank %s: %w", s, alg, err)
		}
		out = append(out, BankSelection{Algorithm: alg, PCRs: pcrs})
	}
	if err := out.Check(); err != nil {
		return nil, fmt.Errorf("parse PCR selection %q: %w", s, err)
	}
	return out, nil
}

func parseList(list string) ([]uint32, error) {
	var pcrs []uint32
	for _, item := range strings.Split(list, ",") {
		first, last, ranged := strings.Cut(item, "-")
		low, err := parseIndex(first)
		if err != nil {
			return nil, err
		}
		high := low
		if ranged {
			if high, err = parseIndex(last); err != nil {
				return nil, err
			}
			if high < low {
				return nil, fmt.Errorf("range %q runs backwards", item)
			}
		}
		for i := low; i <= high; i++ {
			if slices.Contains(pcrs, i) {
				return nil, fmt.Errorf("PCR %d is named twice", i)
			}
			pcrs = append(pcrs, i)
		}
	}
	slices.Sort(pcrs)
	return pcrs, nil
}

func parseIndex(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n >= Count || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("PCR %q is not a number from 0 to %d", s, Count-1)
	}
	return uint32(n), nil
}

// SelectionFromTPM reads the selection that a TPM reports. An unknown or repeated bank, a
// bank that selects nothing, and a PCR after the last are errors. With a lenient reader an
// attacker could pass off one selection as another.
func SelectionFromTPM(l tpm2.TPMLPCRSelection) (Selection, error) {
	if n := len(l.PCRSelections); n > len(algorithms) {
		return nil, fmt.Errorf("PCR selection of %d banks, want at most %d", n, len(algorithms))
	}
	var out Selection
	for _, b := range l.PCRSelections {
		pcrs, err := tpmwire.PCRs(b.PCRSelect)
		if err != nil {
			return nil, fmt.Errorf("PCR selection: bank %s: %w", Algorithm(b.Hash), err)
		}
		out = append(out, BankSelection{Algorithm: Algorithm(b.Hash), PCRs: pcrs})
	}
	if err := out.Check(); err != nil {
		return nil, fmt.Errorf("PCR selection: %w", err)
	}
	return out, nil
}

// Check reports the first thing that the rules of a selection do not allow.
func (s Selection) Check() error {
	if len(s) == 0 {
		return errors.New("no bank is selected")
	}
	for i, b := range s {
		if b.Algorithm.Size() == 0 {
			return fmt.Errorf("bank %s is not known", b.Algorithm)
		}
		if slices.ContainsFunc(s[:i], func(o BankSelection) bool { return o.Algorithm == b.Algorithm }) {
			return fmt.Errorf("bank %s is named twice", b.Algorithm)
		}
		if len(b.PCRs) == 0 {
			return fmt.Errorf("bank %s selects no PCR", b.Algorithm)
		}
		for j, p := range b.PCRs {
			if p >= Count {
				return fmt.Errorf("bank %s: PCR %d, the last is %d", b.Algorithm, p, Count-1)
			}
			if j > 0 && p <= b.PCRs[j-1] {
				return fmt.Errorf("bank %s: PCR %d after PCR %d, want each PCR once, ascending", b.Algorithm, p, b.PCRs[j-1])
			}
		}
	}
	return nil
}

// TPM returns s as a TPML_PCR_SELECTION, with bitmaps of three bytes. PCR 0 is the lowest bit
// of the first byte (TPM 2.0 Part 2, section 10.6.1, TPMS_PCR_SELECT).
func (s Selection) TPM() tpm2.TPMLPCRSelection {
	var l tpm2.TPMLPCRSelection
	for _, b := range s {
		bits := make([]byte, Count/8)
		for _, p := range b.PCRs {
			bits[p/8] |= 1 << (p % 8)
		}
		l.PCRSelections = append(l.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(b.Algorithm), PCRSelect: bits})
	}
	return l
}

// String returns s in the notation of [ParseSelection], without ranges, as tpm2-tools
// read it.
func (s Selection) String() string {
	var b strings.Builder
	for i, bank := range s {
		if i > 0 {
			b.WriteByte('+')
		}
		b.WriteString(bank.Algorithm.String())
		for j, p := range bank.PCRs {
			b.WriteByte(":,"[min(j, 1)])
			b.WriteString(strconv.FormatUint(uint64(p), 10))
		}
	}
	return b.String()
}
