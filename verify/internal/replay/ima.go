// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
)

var (
	imaDecode       = check.Definition{ID: "ima.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "every entry of the list of IMA has known lengths and the hash of its data, up to the quoted value", Stops: "a list that two parsers read differently, or that makes its reader run out of memory"}
	imaContinuation = check.Definition{ID: "ima.continuation", Class: check.Binding, Ground: check.OnVerifier, Checks: "a list of IMA in evidence that begins at an index continues the list that the verifier knows from before, or is part of the list that the verifier was given besides", Stops: "a list whose inconvenient beginning was left out, or two lists that contradict each other"}
	imaReplay       = check.Definition{ID: "ima.replay", Class: check.Binding, Ground: check.OnQuote, Checks: "replaying the list of IMA leads to the quoted value of PCR 10 in every bank that the quote has it in", Stops: "an entry removed, changed or put elsewhere, a list cut off at its end, or of another boot"}
)

// IMADefinitions are the checks of the list of IMA.
var IMADefinitions = []check.Definition{imaDecode, imaContinuation, imaReplay}

// IMAState is what a verifier keeps of a list of IMA, to take only the rest of it the next time.
// The values say which entries those were, of whatever boot.
type IMAState struct {
	Next       uint64      `json:"next"`                // number of the first entry that is not known
	Extended   uint64      `json:"extended"`            // entries before it that extended PCR 10; at least 1
	Values     []BankValue `json:"values"`              // PCR 10 after them, in each bank that was quoted
	PaddedSHA1 bool        `json:"paddedSHA1,omitzero"` // all banks were extended with hashes of SHA-1
	Policy     string      `json:"policy"`              // SHA-256 of the policy that accepted them, hexadecimal
	First      string      `json:"first,omitzero"`      // digest of the first entry, if that is boot_aggregate
	Violations uint64      `json:"violations,omitzero"` // of them, what that policy allowed
	Unlisted   uint64      `json:"unlisted,omitzero"`   // likewise
}

// check returns what a state that was read from elsewhere contradicts itself in.
func (s *IMAState) check() error {
	if s == nil {
		return nil
	}
	if s.Extended == 0 || s.Extended > s.Next || s.Violations+s.Unlisted < s.Violations || s.Violations+s.Unlisted > s.Next {
		return fmt.Errorf("ima: %d entries, of which %d extended the PCR, %d are violations and %d are not listed", s.Next, s.Extended, s.Violations, s.Unlisted)
	}
	_, err := digestsOf(s.Values)
	return err
}

// mode returns what the kernel extended banks with.
func (s *IMAState) mode() ima.Mode {
	if s.PaddedSHA1 {
		return ima.Padded
	}
	return ima.Own
}

// IMA is what a replay of the list came to.
type IMA struct {
	Entries uint64          // that lead to the quoted value, those known from before included
	Mode    ima.Mode        // what banks other than SHA-1 were extended with
	Banks   []pcr.Algorithm // that the quote has PCR 10 in
	Known   *IMAState       // what the entries continue; nil if they begin with the first

	next   uint64      // number of the first entry that was not read
	values []BankValue // quoted
}

// State returns what a verifier keeps of the list, without what the policy says of it; nil if no
// entry led to the quoted value.
func (i *IMA) State() *IMAState {
	if i.Entries == 0 {
		return nil
	}
	return &IMAState{Next: i.next, Extended: i.Entries, Values: i.values, PaddedSHA1: i.Mode == ima.Padded}
}

// Explains reports whether the list explains PCR 10 in a bank. It says nothing of a bank of
// SHA-1, since collisions can be made.
func (i *IMA) Explains(bank pcr.Algorithm, index uint32) bool {
	if i == nil || i.Entries == 0 || index != ima.PCR || bank == pcr.SHA1 {
		return false
	}
	for _, b := range i.Banks {
		if b == bank {
			return true
		}
	}
	return false
}

// IMAInput is what a list of IMA is checked against. Of two lists, the one from elsewhere is
// replayed, since it is whole, and that of the evidence must be a part of it.
type IMAInput struct {
	List  *evidence.IMA            // of the evidence; nil if it contains none
	Given iter.Seq2[[]byte, error] // from elsewhere, whole; nil if there is none
	Quote *quote.Quote             // of the evidence; nil if it could not be read
	Known *IMAState                // of an earlier appraisal; nil if none is known
}

// IMAEntries takes the entries of a list, one after the other.
type IMAEntries interface {
	Continue(*IMAState) // called at most once, before the first entry, if that is not the first of the list
	Add(*ima.Entry)
}

// CheckIMA replays the list of IMA to the value of PCR 10 in the quote, and passes the entries on
// the way to each. The kernel adds entries while the TPM quotes: it adds one before it extends the
// PCR, so a list that was read after the quote passes through the quoted value. What follows there
// is not quoted, and is not read. The result is nil if the list leads nowhere.
func CheckIMA(f *check.Findings, in IMAInput, each IMAEntries) *IMA {
	q := in.Quote
	switch {
	case in.List == nil && in.Given == nil:
		f.SkipAll(IMADefinitions, "there is no list of IMA")
		return nil
	case q == nil || q.Values == nil:
		return nil
	}
	out := new(IMA)
	for _, b := range q.Selection {
		if v, quoted := q.Values[b.Algorithm][ima.PCR]; quoted {
			out.Banks = append(out.Banks, b.Algorithm)
			out.values = append(out.values, BankValue{Bank: b.Algorithm.String(), Value: v})
		}
	}
	if len(out.Banks) == 0 {
		f.Skip(imaDecode.ID, "the quote has no PCR 10, so the list was not read")
		f.Skip(imaContinuation.ID, "the quote has no PCR 10, so the list was not read")
		f.Decide(imaReplay.ID, false, "PCR 10", "not quoted", "the quote has no PCR 10, so it says nothing of the list of IMA")
		return nil
	}
	w := &imaWalk{IMAInput: in, replay: ima.NewReplay(out.Banks...), each: each}
	if !w.begin(f, out) || !f.DecideError(imaDecode.ID, w.lead()) {
		return nil
	}
	if both := in.Given != nil && in.List != nil; both && !w.agree(f) {
		return nil
	}
	mode, ok := w.replay.Leads(q.Values)
	bank := out.Banks[0]
	want, found := hex.EncodeToString(q.Values[bank][ima.PCR]), hex.EncodeToString(w.replay.Value(bank, ima.Own))
	if !f.Decide(imaReplay.ID, ok, fmt.Sprintf("%s in bank %s", want, bank), found, "the list of IMA does not lead to the quoted value of PCR 10: it was changed, is of another boot, or was read before the quote. If the kernel's own log has an error of ima, the TPM did not answer it in time: boot again") {
		return nil
	}
	out.Entries, out.Mode, out.next = w.replay.Entries(), mode, w.next
	return out
}

// imaWalk is one replay of a list.
type imaWalk struct {
	IMAInput
	replay *ima.Replay
	each   IMAEntries
	next   uint64 // number of the entry that follows
	other  *other // first entry that differs in two lists; nil if there is none
}

// begin finds where the list begins, and reports whether it can be replayed from there.
func (w *imaWalk) begin(f *check.Findings, out *IMA) bool {
	known := w.Known
	switch {
	case w.Given != nil && w.List != nil: // decided by what is in both
		return true
	case w.Given != nil || w.List.Start == 0:
		f.Skip(imaContinuation.ID, "the list of IMA is whole")
		return true
	}
	w.next = w.List.Start
	wanted := fmt.Sprintf("a list from entry %d", w.next)
	if known == nil {
		return f.Decide(imaContinuation.ID, false, "a list from entry 0", wanted, "the list of IMA begins at an index, and this verifier knows nothing of what came before: ask for the whole list")
	}
	values := make(map[pcr.Algorithm][]byte)
	ds, _ := digestsOf(known.Values) // State.Check has looked at them
	for _, d := range ds {
		values[d.Algorithm] = d.Value
	}
	err := w.replay.Continue(known.Extended, values, known.mode())
	if known.Next != w.next {
		err = errors.New("another entry follows what is known")
	}
	if !f.Decide(imaContinuation.ID, err == nil, fmt.Sprintf("entry %d, and the banks of the quote", known.Next), wanted, "the list of IMA does not continue what is known from before: %v", err) {
		return false
	}
	out.Known = known
	w.each.Continue(known)
	return true
}

// agree decides whether the list of the evidence is part of the one from elsewhere.
func (w *imaWalk) agree(f *check.Findings) bool {
	o := w.other
	if o == nil {
		return f.Decide(imaContinuation.ID, true, "", "", "")
	}
	return f.Decide(imaContinuation.ID, false, o.given, o.own, "entry %d of the list of IMA in the evidence is not that of the list that was given besides", o.number)
}

// other is an entry that differs in two lists.
type other struct {
	number     uint64
	given, own string // how it looks in each, or that there is none
}

// lead extends the replay by entries until it leads to the quoted values.
func (w *imaWalk) lead() error {
	list := w.Given
	var own func() (*ima.Entry, error, bool)
	if w.List != nil {
		if entries := ima.Whole(w.List.Entries); list == nil {
			list = entries
		} else {
			next, stop := iter.Pull2(ima.EntriesFrom(w.List.Start, entries))
			defer stop()
			own = next
		}
	}
	if _, ok := w.replay.Leads(w.Quote.Values); ok {
		return nil
	}
	for e, err := range ima.EntriesFrom(w.next, list) {
		if err != nil {
			return err
		}
		if own != nil && w.other == nil && e.Number >= w.List.Start {
			if w.other, err = differs(e, own); err != nil {
				return err
			}
		}
		w.next++
		w.replay.Extend(e)
		w.each.Add(e)
		if _, ok := w.replay.Leads(w.Quote.Values); ok {
			return nil
		}
	}
	return nil
}

// differs compares an entry of the list from elsewhere with the next one of the evidence's list. It
// returns nil if both are the same.
func differs(given *ima.Entry, own func() (*ima.Entry, error, bool)) (*other, error) {
	look := func(e *ima.Entry) string { return fmt.Sprintf("PCR %d, template hash %x", e.PCR, e.Hash) }
	e, err, ok := own()
	switch {
	case !ok:
		return &other{given.Number, look(given), "no such entry"}, nil
	case err != nil:
		return nil, err
	case e.PCR != given.PCR || e.Template != given.Template || e.Hash != given.Hash || !bytes.Equal(e.Data, given.Data):
		return &other{given.Number, look(given), look(e)}, nil
	}
	return nil, nil
}
