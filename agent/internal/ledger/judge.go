// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// found is the content of the files, compared with the PCR.
type found struct {
	boot    Boot
	kernel  string
	memory  bool               // the log directory ends with the boot
	saved   *saved             // nil if the state file is absent or damaged
	present bool               // there is a log file with something in it
	start   []pcr.Register     // PCRs before the log, as its first record says
	before  []pcr.Register     // PCRs before the last good record
	after   []pcr.Register     // PCRs after it
	records []pcr.Record       // good records, from the first on
	heads   []evidence.LogHead // log head after each of them
	damage  error              // what follows them in the file, nil if nothing does
	foreign error              // why the records cannot be of this PCR as it is
	whole   bool               // the PCRs contain all records
	lacking bool               // the PCRs contain all records but the last
}

// find reads both files. The log is good up to the record that does not replay from the
// values that its first record says the PCRs had.
func (l *Ledger) find() (*found, error) {
	f := &found{boot: l.boot, kernel: l.c.Kernel, memory: l.c.Volatile}
	var err error
	if f.saved, err = loadSaved(l.c.State); errors.Is(err, errCorrupt) {
		err = l.keepAside(err)
	}
	if err != nil {
		return nil, err
	}
	l.saved = f.saved
	b, err := l.c.Log.Read(LogFile, evidence.MaxLog)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, syscall.EFBIG):
		f.present, f.damage = true, err
	case err != nil:
		return nil, err
	default:
		f.present = len(b) > 0
		f.scan(b)
	}
	return f, nil
}

// keepAside puts a state file away that makes no sense, before another one takes its place: it
// may be the only trace of what happened, and a later version may have written it.
func (l *Ledger) keepAside(why error) error {
	aside, err := l.c.State.KeepAside(StateFile)
	if err != nil {
		return fmt.Errorf("%w: %w", why, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pub.state.Aside = fmt.Sprintf("%s is kept as %s: %v", StateFile, aside, why)
	return nil
}

// scan follows the records of the log file up to the first that is not good.
func (f *found) scan(b []byte) {
	records, damage := pcr.DecodeLog(b, 0)
	f.damage = damage
	if len(records) == 0 {
		return
	}
	replay, _, err := pcr.NewWholeReplayer(records)
	if err != nil {
		f.damage = err
		return
	}
	f.start, f.after = replay.Registers(), replay.Registers()
	for _, r := range records {
		if err := replay.Next(r); err != nil {
			f.damage = err
			return
		}
		f.records, f.heads = append(f.records, r), append(f.heads, replay.Head())
		f.before, f.after = f.after, replay.Registers()
	}
}

// pcrs returns the PCRs of the log, nil if it has no good record or is of another PCR than index.
func (f *found) pcrs(index uint32) (out []uint32) {
	if len(f.records) == 0 || f.start[0].PCR != index {
		return nil
	}
	for _, r := range f.start {
		out = append(out, r.PCR)
	}
	return out
}

// hold compares the good records with the PCRs.
func (f *found) hold(now []pcr.Register, index uint32) {
	if len(f.records) == 0 {
		return
	}
	if of := f.records[0].PCR; of != index {
		f.foreign = fmt.Errorf("the log is of PCR %d, configured is PCR %d: the configuration can change it only with a boot", of, index)
		return
	}
	f.lacking, f.whole = pcr.EqualRegisters(now, f.before), pcr.EqualRegisters(now, f.after)
}

// previous returns the log head of the boot before, for the first record of a new log.
func (f *found) previous() *evidence.LogHead {
	switch {
	case f.saved == nil:
		return nil
	case f.saved.Head.Count == 0: // nothing was completed under it
		return f.saved.Previous
	default:
		return &f.saved.Head
	}
}

// what is to be done with a log that was found.
type what int

const (
	refuse  what = iota // desynchronised
	begin               // a new log
	proceed             // log and PCR explain each other
	finish              // the last record is an intent that was not extended
)

// judge decides, from what is there, what is to be done. If that is to refuse, the reason is
// for people.
func (f *found) judge() (what, string) {
	n := uint64(len(f.records))
	s := f.saved
	if s == nil {
		// No earlier state is known, so nothing contradicts the log.
		if n == 0 && !(f.memory && f.present) {
			return begin, ""
		}
		return f.explain(0)
	}
	if s.of(f.boot) {
		switch {
		case s.Desynchronised != "":
			return refuse, s.Desynchronised
		case n < s.Head.Count:
			return refuse, fmt.Sprintf("%s completed in this boot, and the log has %s", text.Count(s.Head.Count, "record"), f.length())
		case s.Head.Count > 0 && f.heads[s.Head.Count-1] != s.Head:
			return refuse, fmt.Sprintf("the first %d records differ from those completed in this boot", s.Head.Count)
		case n == 0:
			return begin, ""
		}
		return f.explain(s.Head.Count)
	}
	sameKernel := f.kernel != "" && f.kernel == s.Kernel
	if s.sameAK(f.boot) {
		if sameKernel {
			// The host can reset its vTPM; programs that were measured before still run.
			return refuse, "the TPM was reset under the running kernel"
		}
		return f.ofAnotherBoot()
	}
	// Another AK says nothing about the boot. It is replaced when the TPM is cleared.
	if f.whole || f.lacking {
		return f.explain(0)
	}
	if sameKernel && s.Head.Count > 0 {
		return refuse, "the attestation key differs from that in the same boot of the kernel before, and the log does not explain the PCR"
	}
	return f.ofAnotherBoot()
}

// ofAnotherBoot judges what was found with the state of another boot. A log that ends with the
// boot cannot be of that one: an attacker who writes the disk put an earlier state back, to
// have this log taken for an old one, and maybe had the TPM reset.
func (f *found) ofAnotherBoot() (what, string) {
	if !f.memory || !f.present {
		return begin, ""
	}
	do, reason := f.explain(0)
	if do == refuse {
		reason = "the log is of this boot and the state file is not; " + reason
	}
	return do, reason
}

// explain judges a log of this boot of which the first completed records were completed.
func (f *found) explain(completed uint64) (what, string) {
	n := uint64(len(f.records))
	switch {
	case n == 0:
		return refuse, fmt.Sprintf("the log of this boot has no good record: %v", f.damage)
	case f.whole:
		return proceed, ""
	case f.lacking && completed < n:
		return finish, ""
	case f.foreign != nil:
		return refuse, f.foreign.Error()
	case f.damage != nil:
		return refuse, fmt.Sprintf("the log is damaged, and what is good of it (%s) does not explain the PCR: %v", text.Count(n, "record"), f.damage)
	case f.lacking:
		return refuse, fmt.Sprintf("the PCR went back: record %d was completed and is not in it", n-1)
	default:
		return refuse, fmt.Sprintf("the PCR holds something else than the log of %s", text.Count(n, "record"))
	}
}

func (f *found) length() string {
	if !f.present {
		return "none: it is missing"
	}
	if f.damage != nil {
		return fmt.Sprintf("%d, and then damage: %v", len(f.records), f.damage)
	}
	return fmt.Sprint(len(f.records))
}

const (
	savedType = "agentd/ledger/1"
	maxSaved  = 16 << 10 // bytes of the state file
)

// saved is the content of the state file, as JSON.
type saved struct {
	Type           string            `json:"type"` // savedType
	AKName         evidence.Bytes    `json:"akName"`
	ResetCount     uint32            `json:"resetCount"`
	Kernel         string            `json:"kernel,omitzero"`
	Head           evidence.LogHead  `json:"head"`                    // of the log of this boot, as last completed
	Previous       *evidence.LogHead `json:"previous,omitzero"`       // of the log of the boot before
	Desynchronised string            `json:"desynchronised,omitzero"` // why, if the ledger found this boot so; made by text.Fit
}

// errCorrupt marks a state file that could be read and makes no sense.
var errCorrupt = errors.New("state file cannot be used")

// loadSaved reads the state file, and returns nil without an error if there is none.
func loadSaved(s StateStore) (*saved, error) {
	b, err := s.Read(StateFile, maxSaved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, syscall.EFBIG) {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("load the state of the measurement log: %w", err)
	}
	if strictjson.Later(b, maxSaved, savedType) {
		return nil, fmt.Errorf("%w: a later version of the agent wrote it", errCorrupt)
	}
	var v saved
	if err := strictjson.Decode(b, maxSaved, &v); err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if v.Type != savedType {
		return nil, fmt.Errorf("%w: type %q, want %q", errCorrupt, v.Type, savedType)
	}
	return &v, nil
}

// of reports whether s is of boot b.
func (s *saved) of(b Boot) bool {
	return s.sameAK(b) && s.ResetCount == b.ResetCount
}

func (s *saved) sameAK(b Boot) bool { return bytes.Equal(s.AKName, b.AKName) }

// save replaces the state file with the committed head, or, if the ledger is desynchronised,
// with the head that was known before and the reason.
func (l *Ledger) save(reason string) error {
	next := &saved{
		Type:           savedType,
		AKName:         l.boot.AKName,
		ResetCount:     l.boot.ResetCount,
		Kernel:         l.c.Kernel,
		Head:           l.head(),
		Desynchronised: reason,
	}
	if l.saved != nil {
		next.Previous = l.saved.Previous
		if reason != "" && l.saved.Head.Count > next.Head.Count {
			next.Head = l.saved.Head
		}
	}
	b, err := strictjson.Encode(next)
	if err != nil {
		return fmt.Errorf("encode the state of the measurement log: %w", err)
	}
	if err := l.c.State.Replace(StateFile, b); err != nil {
		return fmt.Errorf("save the state of the measurement log: %w", err)
	}
	l.saved, l.stale = next, false
	return nil
}
