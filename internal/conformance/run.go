// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/internal/corpus"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/version"
)

// Options are what a run is told.
type Options struct {
	Verifier []string // command and arguments
	Names    []string // patterns of names, of [path.Match]; none: all cases
	Features []string // cases that need one of these; none: all cases
	Without  []string // features that the verifier is known to lack
	Timeout  time.Duration
	Jobs     int
}

// giveUpAfter is how many commands in a row may take too long before the run gives up.
const giveUpAfter = 10

// ErrSelection is returned if no case is selected, or a pattern is not one.
var ErrSelection = errors.New("select cases")

// Corpus returns the cases of this program, and SHA-256 over their names and contents.
func Corpus() (*corpus.Corpus, string, error) {
	all, err := corpus.ReadFS(corpus.Files())
	if err != nil {
		return nil, "", err
	}
	sum := sha256.New()
	err = fs.WalkDir(corpus.Files(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(corpus.Files(), name)
		one := sha256.Sum256(b)
		fmt.Fprintf(sum, "%x  %s\n", one, name) // as sha256sum prints it
		return err
	})
	return all, hex.EncodeToString(sum.Sum(nil)), err
}

// Select returns the cases of a selection, by name.
func Select(all *corpus.Corpus, o *Options) ([]*corpus.Case, error) {
	var out []*corpus.Case
	for _, c := range slices.Concat(all.Accepted, all.Cases) {
		named := len(o.Names) == 0
		for _, pattern := range o.Names {
			match, err := path.Match(strings.TrimSuffix(pattern, ".case"), nameOf(c))
			if err != nil {
				return nil, fmt.Errorf("%w: --run %q: %w", ErrSelection, pattern, err)
			}
			named = named || match
		}
		if named && (len(o.Features) == 0 || slices.ContainsFunc(o.Features, func(f string) bool { return slices.Contains(c.Features, f) })) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: none has such a name and feature", ErrSelection)
	}
	return out, nil
}

// nameOf returns the name by which a case is selected and reported.
func nameOf(c *corpus.Case) string { return strings.TrimSuffix(c.Name, ".case") }

// Export writes each case of a selection as the folder that a command would get, with what is
// expected beside it.
func Export(all *corpus.Corpus, cases []*corpus.Case, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, c := range cases {
		folder := filepath.Join(dir, nameOf(c))
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
		if err := writeFolder(all, c, folder); err != nil {
			return err
		}
		want := strings.Join(append([]string{expected(c).Verdict}, c.Fails...), "\n") + "\n"
		if err := os.WriteFile(folder+".expected", []byte(want), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// run is one run over the cases of a selection.
type run struct {
	all     *corpus.Corpus
	options *Options
	dir     string
	results []Result // of each case; each goroutine writes its own

	mu    sync.Mutex
	next  int // case to start
	hangs int // commands in a row that took too long
}

// Run has the command judge each case, and returns the report. An error means that the kit could
// not work; a verifier that fails is in the report.
func Run(ctx context.Context, o *Options) (*Report, error) {
	all, sum, err := Corpus()
	if err != nil {
		return nil, err
	}
	cases, err := Select(all, o)
	if err != nil {
		return nil, err
	}
	program, err := exec.LookPath(o.Verifier[0])
	if err != nil {
		return nil, fmt.Errorf("find the verifier: %w", err)
	}
	if program, err = filepath.Abs(program); err != nil {
		return nil, err
	}
	o.Verifier = append([]string{program}, o.Verifier[1:]...)
	r := &run{all: all, options: o, results: make([]Result, len(cases))}
	if r.dir, err = os.MkdirTemp("", "agentd-conformance-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(r.dir)
	failed := make([]error, o.Jobs)
	var group sync.WaitGroup
	for i := range o.Jobs {
		group.Go(func() { failed[i] = r.work(ctx, cases) })
	}
	group.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	return report(version.Version, sum, o.Verifier, r.results), nil
}

// take returns the next case to run, or -1 at the end.
func (r *run) take(n int) (i int, gaveUp bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == n {
		return -1, false
	}
	r.next++
	return r.next - 1, r.hangs >= giveUpAfter
}

// work runs one case after the other until none is left.
func (r *run) work(ctx context.Context, cases []*corpus.Case) error {
	for {
		i, gaveUp := r.take(len(cases))
		if i < 0 {
			return nil
		}
		c := cases[i]
		result := Result{Name: nameOf(c), About: c.About, Features: c.Features, Expected: expected(c)}
		if f, ok := lacks(c, r.options.Without); ok {
			result.Outcome, result.Detail, result.named = Unsupported, "--without "+f, true
		} else if gaveUp {
			result.Outcome, result.Detail = NotRun, fmt.Sprintf("%d commands in a row took too long", giveUpAfter)
		} else if err := r.one(ctx, c, &result); err != nil {
			return err
		}
		r.results[i] = result
	}
}

// one runs the command on one case.
func (r *run) one(ctx context.Context, c *corpus.Case, result *Result) error {
	dir, err := os.MkdirTemp(r.dir, "case-") // the name says nothing of the case
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := writeFolder(r.all, c, dir); err != nil {
		return err
	}
	a, err := ask(ctx, r.options.Verifier, dir, r.options.Timeout)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.mu.Lock()
	if errors.Is(err, errTime) || errors.Is(err, errOpen) {
		r.hangs++
	} else {
		r.hangs = 0
	}
	r.mu.Unlock()
	if err != nil {
		result.Outcome, result.Detail = Error, text.Line(err.Error())
		return nil
	}
	if a.Reason != "" {
		a.Reason = text.Fit(a.Reason, maxSaid)
	}
	result.Answer = a
	result.Outcome, result.Detail = judge(c, a)
	return nil
}
