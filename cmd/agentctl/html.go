// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"errors"
	"path/filepath"
	"slices"

	"github.com/cvm-agentd/agentd/internal/page"
	"github.com/cvm-agentd/agentd/verify"
)

// checkPage refuses a page that would mix with something else on standard output.
func (f *verifyFlags) checkPage() error {
	switch {
	case f.page == "-" && !f.quiet:
		return errors.New("--html - would mix with the appraisal: add --quiet, or name a file")
	case f.page == "-" && f.token.out == "-":
		return errors.New("--html - would mix with the token: name a file for one of the two")
	}
	return nil
}

// writePage writes the appraisal as a page for people, if one was asked for.
func (t *terminal) writePage(f *verifyFlags, args []string, a *verify.Appraisal) error {
	if f.page == "" {
		return nil
	}
	var b bytes.Buffer
	m := &f.material
	name := filepath.Base(cmp.Or(slices.Concat(args, []string{m.report, m.hcl, m.quote})...))
	if name == "-" {
		name = "standard input"
	}
	err := page.Write(&b, a, page.Options{Name: name, TestRoot: f.testRoot != ""})
	if err == nil {
		err = t.writeOutput(f.page, b.Bytes())
	}
	if err != nil {
		return &exitError{code: cmp.Or(a.ExitCode(), exitMisuse), err: err}
	}
	return nil
}
