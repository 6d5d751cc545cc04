// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify"
)

// logFlags name the known state of a log, and what becomes of it.
type logFlags struct {
	known, save string
	replace     bool
}

// check refuses flags that make no sense together.
func (f *logFlags) check() error {
	switch {
	case f.save == "-":
		return errors.New("--save-log - would mix with the appraisal: name a file")
	case f.replace && f.save == "":
		return errors.New("--replace-known-log says that --save-log may replace a known history, and --save-log is missing")
	}
	return nil
}

// given reports whether any of the flags was given.
func (f *logFlags) given() bool { return *f != logFlags{} }

// saveLog writes the state of an accepted log for the next time. It never replaces the
// history of another boot or machine, unless the flag that says so was given: what the
// verifier knew of it would be gone.
func (t *terminal) saveLog(a *verify.Appraisal, state *verify.LogState, known *verify.LogState, f *logFlags) error {
	if state == nil {
		return misuse(errors.New("--save-log: the evidence contains no log"))
	}
	b, err := strictjson.Encode(state)
	if err != nil {
		return misuse(err)
	}
	if !f.replace {
		if err := t.keepsHistory(a, b, known, f); err != nil {
			return misuse(fmt.Errorf("the evidence was accepted, and the state of its log was not saved: %w", err)).
				withHint("find out why the machine has a new history; --replace-known-log then begins one")
		}
	}
	return t.writeOutput(f.save, b)
}

// keepsHistory returns an error if the new state would replace a history that it does not
// continue.
func (t *terminal) keepsHistory(a *verify.Appraisal, state []byte, known *verify.LogState, f *logFlags) error {
	if known != nil && a.Check("log.continuation").Verdict != verify.Pass {
		return fmt.Errorf("the log does not continue the one in %s: it is of another boot or machine", f.known)
	}
	at, err := os.Stat(f.save)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !at.Mode().IsRegular() {
		return nil // nothing is replaced
	}
	old, err := t.readInput(f.save, evidence.MaxEvidence)
	switch {
	case err != nil:
		return err
	case len(old) == 0 || bytes.Equal(old, state):
		return nil
	case known == nil:
		return fmt.Errorf("%s exists, and the log was not compared with it: give --known-log %s too", f.save, f.save)
	}
	var there verify.LogState
	if err := strictjson.Decode(old, evidence.MaxEvidence, &there); err != nil {
		return fmt.Errorf("%s exists, and is not the state of a log: %w", f.save, err)
	}
	if again, err := strictjson.Encode(known); err != nil || !bytes.Equal(again, old) {
		return fmt.Errorf("%s has another state than %s, with which the log was compared", f.save, f.known)
	}
	return nil
}
