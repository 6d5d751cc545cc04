// SPDX-License-Identifier: Apache-2.0

// Package vtpm asks the TPM to read and extend the PCRs of the log, to quote, and to show which
// boot this is. It uses a [Device] that serialises commands, and trusts no answer: the
// host may run the TPM.
package vtpm

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

// ErrUnstable is returned when the quoted PCRs changed each time between reading
// and quoting them.
var ErrUnstable = errors.New("quoted PCRs keep changing: find what extends them, or leave them out of tpm.pcrs")

// quoteTries is how often values are read and quoted until they agree. Another
// program may extend a quoted PCR between the two.
const quoteTries = 5

// A Device runs sequences of TPM commands, one sequence at a time, until ctx ends.
type Device interface {
	Do(ctx context.Context, f func(transport.TPM) error) error
}

// TPM is one TPM with the attestation key to use and the PCRs to quote.
type TPM struct {
	Device    Device
	AK        *tpmkeys.AK
	Selection pcr.Selection

	values atomic.Pointer[pcr.Values] // that the last quote was over
	active atomic.Pointer[active]     // banks, as of the last quote
}

// Quoted is a quote with the values that it was checked against. Quotes share values, which must
// not be changed.
type Quoted struct {
	Attest    []byte // TPMS_ATTEST as signed
	Signature []byte // TPMT_SIGNATURE
	Selection pcr.Selection
	PCRs      pcr.Values // whose composite is in Attest
	Clock     Clock
}

// AKPublic returns the TPMT_PUBLIC of the attestation key.
func (t *TPM) AKPublic() []byte { return t.AK.Public() }

// AKCertificate returns the certificate of the attestation key that the platform made, X.509 DER;
// nil if there is none.
func (t *TPM) AKCertificate() []byte { return t.AK.Certificate() }

// Quote quotes the selected PCRs with data as qualifying data, with the values that agree with
// the quote. What it returns is what was asked for, signed by the AK. The error for any other
// answer is [tpmkeys.ErrQuote].
//
// The quote contains a digest of the values. So they need not be read again if the digest shows
// that they are those of the last quote, as they mostly are.
func (t *TPM) Quote(ctx context.Context, data evidence.Digest) (*Quoted, error) {
	return ask(ctx, t.Device, func(tpm transport.TPM) (*Quoted, error) {
		if last := t.values.Load(); last != nil {
			if q, err := t.quoteOnce(tpm, data, *last); !errors.Is(err, ErrUnstable) {
				return q, err
			}
		}
		var seen []pcr.Values
		for range quoteTries {
			values, err := registers.Read(tpm, t.Selection)
			if err != nil {
				return nil, fmt.Errorf("read the quoted PCRs: %w", err)
			}
			if q, err := t.quoteOnce(tpm, data, values); !errors.Is(err, ErrUnstable) {
				t.values.Store(&values)
				return q, err
			}
			seen = append(seen, values)
		}
		if values, err := registers.Read(tpm, t.Selection); err == nil {
			seen = append(seen, values)
		}
		return nil, fmt.Errorf("%w: %s changed while they were read and quoted %d times", ErrUnstable, changed(seen), quoteTries)
	})
}

// changed returns which PCRs had several values, in words.
func changed(seen []pcr.Values) string {
	var out []string
	for _, bank := range slices.Sorted(maps.Keys(seen[0])) {
		for _, index := range slices.Sorted(maps.Keys(seen[0][bank])) {
			first := seen[0][bank][index]
			if slices.ContainsFunc(seen, func(v pcr.Values) bool { return !bytes.Equal(v[bank][index], first) }) {
				out = append(out, fmt.Sprintf("PCR %d (%s)", index, bank))
			}
		}
	}
	if len(out) == 0 {
		return "what the TPM quotes, but no PCR as it shows them,"
	}
	return strings.Join(out, ", ")
}

// ask returns what f finds with the TPM to itself.
func ask[T any](ctx context.Context, d Device, f func(transport.TPM) (T, error)) (found T, err error) {
	err = d.Do(urgent(ctx), func(tpm transport.TPM) (err error) {
		found, err = f(tpm)
		return err
	})
	return found, err
}

// quoteOnce quotes, and checks the answer and that it is over values.
func (t *TPM) quoteOnce(tpm transport.TPM, data evidence.Digest, values pcr.Values) (*Quoted, error) {
	attest, signature, err := t.AK.Quote(tpm, data[:], t.Selection)
	if err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	a, err := tpmkeys.ParseQuote(attest, data[:])
	if err != nil {
		return nil, err
	}
	hash, err := checkSignature(t.AK.Public(), attest, signature)
	if err != nil {
		return nil, err
	}
	if err := agree(a, t.Selection, values, hash); err != nil {
		return nil, err
	}
	clock := Clock{Signer: a.QualifiedSigner, Milliseconds: a.Clock, ResetCount: a.ResetCount, RestartCount: a.RestartCount}
	if err := t.follow(tpm, clock); err != nil {
		return nil, err
	}
	return &Quoted{Attest: attest, Signature: signature, Selection: t.Selection, PCRs: values, Clock: clock}, nil
}

// active are the banks of a TPM that were active after the quote of a clock.
type active struct {
	banks []pcr.Algorithm
	clock Clock
}

// follow remembers which banks are active, so that not every Read needs to ask. They can change
// only if the TPM is reset (TPM2_PCR_Allocate, TPM 2.0 Part 3, section 22.5), which the clock of
// a quote shows. The log was compared with the banks of before. If there are others, the quote
// is refused, so that the next comparison finds out what they contain: an attacker who resets
// the TPM could extend one bank as the log says, and leave another one empty.
func (t *TPM) follow(tpm transport.TPM, clock Clock) error {
	before := t.active.Load()
	if before != nil && before.clock.SameBoot(clock) {
		return nil
	}
	banks, err := registers.ActiveBanks(tpm)
	if err != nil {
		return err
	}
	if before != nil && !slices.Equal(before.banks, banks) {
		t.active.Store(nil)
		return fmt.Errorf("the TPM was reset, and has other active PCR banks: %v instead of %v", banks, before.banks)
	}
	t.active.Store(&active{banks, clock})
	return nil
}

// agree checks that a quote matches the selection that was asked for and the values that
// were read, by the hash of the AK's scheme. Values of another moment are [ErrUnstable].
func agree(a *tpmwire.Attest, asked pcr.Selection, values pcr.Values, hash crypto.Hash) error {
	selected, err := pcr.SelectionFromTPM(a.Selection)
	if err != nil {
		return fmt.Errorf("%w: %w", tpmkeys.ErrQuote, err)
	}
	if selected.String() != asked.String() {
		return fmt.Errorf("%w: it selects %v, asked for %v", tpmkeys.ErrQuote, selected, asked)
	}
	want, err := asked.Composite(values, hash)
	if err != nil {
		return err
	}
	if !bytes.Equal(a.PCRDigest, want) {
		return ErrUnstable
	}
	return nil
}

// Banks returns the active banks. Every event must be extended into each of them.
func (t *TPM) Banks(ctx context.Context) ([]pcr.Algorithm, error) {
	return ask(ctx, t.Device, registers.ActiveBanks)
}

// Read reads PCR index in every active bank.
func (t *TPM) Read(ctx context.Context, index uint32) ([]pcr.Digest, error) {
	return ask(ctx, t.Device, func(tpm transport.TPM) ([]pcr.Digest, error) {
		if known := t.active.Load(); known != nil {
			if digests, err := read(tpm, known.banks, index); err == nil {
				return digests, nil
			}
			t.active.Store(nil)
		}
		banks, err := registers.ActiveBanks(tpm)
		if err != nil {
			return nil, err
		}
		return read(tpm, banks, index)
	})
}

// read reads PCR index in these banks.
func read(tpm transport.TPM, banks []pcr.Algorithm, index uint32) (digests []pcr.Digest, err error) {
	var s pcr.Selection
	for _, b := range banks {
		s = append(s, pcr.BankSelection{Algorithm: b, PCRs: []uint32{index}})
	}
	values, err := registers.Read(tpm, s)
	if err != nil {
		return nil, err
	}
	for _, b := range banks {
		digests = append(digests, pcr.Digest{Algorithm: b, Value: values[b][index]})
	}
	return digests, nil
}

// Extend extends PCR index by one digest a bank, in one command.
func (t *TPM) Extend(ctx context.Context, index uint32, digests []pcr.Digest) error {
	return t.Device.Do(urgent(ctx), func(tpm transport.TPM) error { return registers.Extend(tpm, index, digests) })
}

// urgent returns a context for commands that keep the log waiting, at least in the class of
// records. Records of other work wait meanwhile, also those of units that start.
func urgent(ctx context.Context) context.Context {
	return turn.AtLeast(ctx, turn.Ledger)
}

// Boot returns which boot of the TPM this is, as the AK shows it.
func (t *TPM) Boot(ctx context.Context) (ledger.Boot, error) {
	b, err := ask(ctx, t.Device, t.AK.Boot)
	if err != nil {
		return ledger.Boot{}, err
	}
	return ledger.Boot{AKName: b.AK, ResetCount: b.ResetCount, RestartCount: b.RestartCount}, nil
}

// Clock is the TPMS_CLOCK_INFO of a quote (TPM 2.0 Part 2, section 10.11.1) with
// the qualified signer. For a key outside the endorsement and platform hierarchies
// the TPM shifts the counts by a constant of that key, so they mean something only
// next to another quote of the same key.
type Clock struct {
	Signer       []byte // qualified name of the AK
	Milliseconds uint64
	ResetCount   uint32
	RestartCount uint32
}

// SameBoot reports whether c and d were taken by one key with no TPM reset, restart
// or resume between, so that their milliseconds can be compared.
func (c Clock) SameBoot(d Clock) bool {
	return bytes.Equal(c.Signer, d.Signer) && c.ResetCount == d.ResetCount && c.RestartCount == d.RestartCount
}

// checkSignature checks that the attestation key signed a quote, and returns the hash of its
// scheme. Public is a TPMT_PUBLIC: the agent's own key signs with ECDSA over SHA-256, that of a
// platform as the platform made it. Signature is a TPMT_SIGNATURE (TPM 2.0 Part 2, section
// 11.3.4).
//
// The session of the quote only shows that the answer comes from a holder of the key's
// authorization value. A broken TPM, or an attacker who got that value and imitates the TPM,
// must not get a report or a signature of the agent for what no verifier would accept. So
// the reader is that of package verify.
func checkSignature(public, attest, signature []byte) (crypto.Hash, error) {
	area, err := tpmwire.ParsePublic(public)
	if err != nil {
		return 0, fmt.Errorf("check the quote's signature: attestation key: %w", err)
	}
	ak, err := tpmwire.SigningKey(area, public)
	if err != nil {
		return 0, fmt.Errorf("check the quote's signature: attestation key: %w", err)
	}
	sig, err := ak.ParseSignature(signature)
	if err != nil {
		return 0, fmt.Errorf("%w: its signature: %w", tpmkeys.ErrQuote, err)
	}
	if !ak.Verify(attest, sig) {
		return 0, fmt.Errorf("%w: its signature is not one of AK %x", tpmkeys.ErrQuote, ak.Name)
	}
	return ak.Hash, nil
}
