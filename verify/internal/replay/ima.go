// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"encoding/hex"
	"fmt"
	"iter"

	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
)

var (
	imaDecode = check.Definition{ID: "ima.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "every entry of the list of IMA has known lengths and the hash of its data, up to the quoted value", Stops: "a list that two parsers read differently, or that makes its reader run out of memory"}
	imaReplay = check.Definition{ID: "ima.replay", Class: check.Binding, Ground: check.OnQuote, Checks: "replaying the list of IMA leads to the quoted value of PCR 10 in every bank that the quote has it in", Stops: "an entry removed, changed or put elsewhere, a list cut off at its end, or of another boot"}
)

// IMADefinitions are the checks of the list of IMA.
var IMADefinitions = []check.Definition{imaDecode, imaReplay}

// IMA is what a replay of the list came to.
type IMA struct {
	Entries uint64          // that lead to the quoted value
	Mode    ima.Mode        // what banks other than SHA-1 were extended with
	Banks   []pcr.Algorithm // that the quote has PCR 10 in
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

// CheckIMA replays the list of IMA to the value of PCR 10 in q, and passes the entries on the
// way to each. The kernel adds entries while the TPM quotes: it adds one before it extends the
// PCR, so a list that was read after the quote passes through the quoted value. What follows there
// is not quoted, and is not read. The result is nil if the list leads nowhere.
func CheckIMA(f *check.Findings, list iter.Seq2[[]byte, error], q *quote.Quote, each func(*ima.Entry)) *IMA {
	if list == nil {
		f.SkipAll(IMADefinitions, "there is no list of IMA")
		return nil
	}
	if q == nil || q.Values == nil {
		return nil
	}
	out := new(IMA)
	for _, b := range q.Selection {
		if _, quoted := q.Values[b.Algorithm][ima.PCR]; quoted {
			out.Banks = append(out.Banks, b.Algorithm)
		}
	}
	if len(out.Banks) == 0 {
		f.Skip(imaDecode.ID, "the quote has no PCR 10, so the list was not read")
		f.Decide(imaReplay.ID, false, "PCR 10", "not quoted", "the quote has no PCR 10, so it says nothing of the list of IMA")
		return nil
	}
	r := ima.NewReplay(out.Banks...)
	err := lead(r, q.Values, list, each)
	if !f.DecideError(imaDecode.ID, err) {
		return nil
	}
	mode, ok := r.Leads(q.Values)
	bank := out.Banks[0]
	want, found := hex.EncodeToString(q.Values[bank][ima.PCR]), hex.EncodeToString(r.Value(bank, ima.Own))
	if !f.Decide(imaReplay.ID, ok, fmt.Sprintf("%s in bank %s", want, bank), found, "the list of IMA does not lead to the quoted value of PCR 10: it was changed, is of another boot, or was read before the quote") {
		return nil
	}
	out.Entries, out.Mode = r.Entries(), mode
	return out
}

// lead extends r by the entries of a list until it leads to the quoted values.
func lead(r *ima.Replay, quoted pcr.Values, list iter.Seq2[[]byte, error], each func(*ima.Entry)) error {
	if _, ok := r.Leads(quoted); ok {
		return nil
	}
	for e, err := range ima.Entries(list) {
		if err != nil {
			return err
		}
		r.Extend(e)
		each(e)
		if _, ok := r.Leads(quoted); ok {
			return nil
		}
	}
	return nil
}
