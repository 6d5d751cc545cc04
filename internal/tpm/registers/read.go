// SPDX-License-Identifier: Apache-2.0

// Package registers reads and extends the PCRs of a TPM over a transport, and checks that a
// PCR can have a measurement log. Package pcr has the values and the log themselves.
package registers

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
)

// readAttempts is how often a read starts again when an extend came between its commands.
// Each attempt takes a few commands. A machine that extends faster than that all the
// time is under attack.
const readAttempts = 16

// ErrUnsettled means that PCRs changed during each attempt to read them.
var ErrUnsettled = errors.New("PCRs keep changing while they are read")

// Read returns the values of all PCRs of s at one moment. A TPM answers with a few PCRs
// for each command and counts the extends (pcrUpdateCounter, TPM 2.0 Part 3, section
// 22.4). When the count changes between commands, Read reads all values again, and gives
// up with [ErrUnsettled] after 16 attempts. The TPM does not count extends of some PCRs
// (16 and 21 to 23 on a PC Client TPM), so their values may be of different moments.
func Read(t transport.TPM, s pcr.Selection) (pcr.Values, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("read PCRs: %w", err)
	}
	for range readAttempts {
		v, settled, err := readOnce(t, s)
		if err != nil {
			return nil, fmt.Errorf("read PCRs %s: %w", s, err)
		}
		if settled {
			return v, nil
		}
	}
	return nil, fmt.Errorf("read PCRs %s: %w: gave up after %d attempts", s, ErrUnsettled, readAttempts)
}

// readOnce reads s in as many commands as it takes, and reports whether the update
// counter was the same after the first and the last.
func readOnce(t transport.TPM, s pcr.Selection) (pcr.Values, bool, error) {
	v := make(pcr.Values)
	rest := s
	var counter uint32
	for first := true; len(rest) > 0; first = false {
		rsp, err := tpm2.PCRRead{PCRSelectionIn: rest.TPM()}.Execute(t)
		if err != nil {
			return nil, false, err
		}
		if first {
			counter = rsp.PCRUpdateCounter
		} else if rsp.PCRUpdateCounter != counter {
			return nil, false, nil
		}
		rest, err = take(v, rest, rsp)
		if err != nil {
			return nil, false, err
		}
	}
	return v, true, nil
}

// take moves the values of one answer into v and returns the PCRs that are still unread.
func take(v pcr.Values, want pcr.Selection, rsp *tpm2.PCRReadResponse) (pcr.Selection, error) {
	values := rsp.PCRValues.Digests
	for _, b := range rsp.PCRSelectionOut.PCRSelections {
		alg := pcr.Algorithm(b.Hash)
		pcrs, err := tpmwire.PCRs(b.PCRSelect)
		if err != nil {
			return nil, fmt.Errorf("bank %s: %w", alg, err)
		}
		for _, p := range pcrs {
			if len(values) == 0 {
				return nil, fmt.Errorf("TPM names PCR %d of bank %s and sends no value for it", p, alg)
			}
			var ok bool
			if want, ok = without(want, alg, p); !ok {
				return nil, fmt.Errorf("TPM sends PCR %d of bank %s, which was not asked for", p, alg)
			}
			if n := len(values[0].Buffer); n != alg.Size() {
				return nil, fmt.Errorf("TPM sends %d bytes for PCR %d of bank %s, want %d", n, p, alg, alg.Size())
			}
			v.Set(alg, p, values[0].Buffer)
			values = values[1:]
		}
	}
	switch {
	case len(values) > 0:
		return nil, fmt.Errorf("TPM sends %d values without naming their PCRs", len(values))
	case len(rsp.PCRValues.Digests) == 0:
		return nil, fmt.Errorf("TPM has no value for PCR %d of bank %s: is the bank active?", want[0].PCRs[0], want[0].Algorithm)
	}
	return want, nil
}

// without returns s without one PCR, and false if s does not select that PCR.
func without(s pcr.Selection, a pcr.Algorithm, index uint32) (pcr.Selection, bool) {
	i := slices.IndexFunc(s, func(b pcr.BankSelection) bool { return b.Algorithm == a })
	if i < 0 {
		return s, false
	}
	j := slices.Index(s[i].PCRs, index)
	if j < 0 {
		return s, false
	}
	out := slices.Clone(s)
	out[i].PCRs = slices.Delete(slices.Clone(s[i].PCRs), j, j+1)
	if len(out[i].PCRs) == 0 {
		out = slices.Delete(out, i, i+1)
	}
	return out, true
}

// Extend extends one PCR in all active banks with one TPM2_PCR_Extend, which a TPM
// carries out as a whole or not at all. There must be exactly one digest for each
// active bank: a bank named twice would be extended twice, and a bank left out would
// still claim that nothing ran.
func Extend(t transport.TPM, index uint32, digests []pcr.Digest) error {
	if index >= pcr.Count {
		return fmt.Errorf("extend PCR %d: the last PCR is %d", index, pcr.Count-1)
	}
	active, err := ActiveBanks(t)
	if err != nil {
		return fmt.Errorf("extend PCR %d: %w", index, err)
	}
	if err := complete(active, digests); err != nil {
		return fmt.Errorf("extend PCR %d: %w", index, err)
	}
	cmd := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
	}
	for _, d := range digests {
		cmd.Digests.Digests = append(cmd.Digests.Digests, tpm2.TPMTHA{HashAlg: tpm2.TPMIAlgHash(d.Algorithm), Digest: d.Value})
	}
	if _, err := cmd.Execute(t); err != nil {
		return fmt.Errorf("extend PCR %d: %w", index, err)
	}
	return nil
}

// complete checks that there is one digest of the right size for each active bank.
func complete(active []pcr.Algorithm, digests []pcr.Digest) error {
	seen := make([]pcr.Algorithm, 0, len(digests))
	for _, d := range digests {
		switch {
		case !slices.Contains(active, d.Algorithm):
			return fmt.Errorf("bank %s is not active", d.Algorithm)
		case slices.Contains(seen, d.Algorithm):
			return fmt.Errorf("bank %s is named twice", d.Algorithm)
		case len(d.Value) != d.Algorithm.Size():
			return fmt.Errorf("digest of %d bytes for bank %s, want %d", len(d.Value), d.Algorithm, d.Algorithm.Size())
		}
		seen = append(seen, d.Algorithm)
	}
	for _, a := range active {
		if !slices.Contains(seen, a) {
			return fmt.Errorf("no digest for active bank %s", a)
		}
	}
	return nil
}
