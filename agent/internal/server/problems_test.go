// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/platform"
)

func TestProblems(t *testing.T) {
	var logged bytes.Buffer
	mine := fmt.Errorf("mine")
	s := New(Config{
		Errors: []ErrorCode{{mine, api.CodeTPMTimeout, 2 * time.Second}},
		Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	for _, row := range append(errorCodes, s.Errors...) {
		p := s.problem(fmt.Errorf("do it: %w", row.Err))
		if p.Code != row.Code || p.RetryAfter != int(row.Retry/time.Second) || !strings.HasPrefix(p.Detail, "do it: ") {
			t.Errorf("%v: %+v", row.Err, p)
		}
	}
	for err, want := range map[error]api.Code{
		&apps.RateError{App: "a", Retry: time.Second}:                                      api.CodeThrottled,
		&manifest.FileError{Path: "/x", Problem: "gone"}:                                   api.CodeMeasureFailed,
		&manifest.ChangedError{Path: "/x"}:                                                 api.CodeMeasureFailed,
		&manifest.HungError{Path: "/x"}:                                                    api.CodeMeasureFailed,
		&declaration.Error{File: "/x"}:                                                     api.CodeBadDeclaration,
		&apps.RecordError{App: "a", Err: ledger.ErrFull}:                                   api.CodeLogFull,
		fmt.Errorf("%w: %w", mine, context.DeadlineExceeded):                               api.CodeTPMTimeout,
		fmt.Errorf("read: %w: %w", ledger.ErrTPM, fmt.Errorf("no such bank")):              api.CodeTPM,
		fmt.Errorf("read: %w: %w", ledger.ErrTPM, mine):                                    api.CodeTPMTimeout,
		fmt.Errorf("read: %w: %w", ledger.ErrTPM, context.DeadlineExceeded):                api.CodeTimeout,
		fmt.Errorf("activate: %w", tpm2.TPMRCFailure):                                      api.CodeTPM, // rc 0x101
		fmt.Errorf("activate: %w", errors.Join(tpm2.TPMRCHandle, fmt.Errorf("and flush"))): api.CodeTPM,
		fmt.Errorf("%w: %w", platform.ErrBusy, context.Canceled):                           api.CodePlatformBusy,
	} {
		if p := s.problem(err); p.Code != want {
			t.Errorf("%v: %s, want %s", err, p.Code, want)
		}
	}
	if logged.Len() != 0 {
		t.Errorf("logged: %s", &logged)
	}
	// An unexpected error is not told to the caller, but to the log.
	if p := s.problem(fmt.Errorf("secret")); p.Code != api.CodeInternal || strings.Contains(p.Detail, "secret") || !strings.Contains(logged.String(), "secret") {
		t.Errorf("%+v, logged %s", p, &logged)
	}
}

// TestCodesAreUsed: every code that is promised is given by something.
func TestCodesAreUsed(t *testing.T) {
	var source strings.Builder
	for _, top := range []string{"agent", "sealing", "internal/store", "internal/luks", "internal/transfer", "internal/delivery"} {
		err := filepath.WalkDir(filepath.Join("../../..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			source.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	constants := regexp.MustCompile(`(?m)^\t(Code\w+) +Code = "([a-z-]+)"$`).FindAllStringSubmatch(read(t, "../../../api/codes.go"), -1)
	if len(constants) < 70 {
		t.Fatalf("only %d constants found", len(constants))
	}
	used := make(map[string]bool)
	for _, m := range regexp.MustCompile(`\bapi\.(Code\w+)`).FindAllStringSubmatch(source.String(), -1) {
		used[m[1]] = true
	}
	for _, m := range constants {
		if !used[m[1]] {
			t.Errorf("code %s (%s) is given by nothing", m[2], m[1])
		}
	}
}

// TestRoutesAreDocumented compares the table of docs/api.md with that of the server.
func TestRoutesAreDocumented(t *testing.T) {
	const file, begin, end = "../../../docs/api.md", "<!-- endpoints: begin (generated) -->\n", "<!-- endpoints: end -->"
	head, rest, ok := strings.Cut(read(t, file), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q and %q", file, begin, end)
	}
	var want strings.Builder
	want.WriteString("\n| endpoint | socket | time for the answer | body at most | parameters | what it does |\n|---|---|---|---|---|---|\n")
	for _, r := range routes {
		body, names := "", []string{}
		if r.Body > 0 {
			body = fmt.Sprintf("%d bytes", r.Body)
		}
		for _, p := range r.Query {
			names = append(names, "`"+p.Name+"`")
		}
		fmt.Fprintf(&want, "| `%s %s` | %s | %s | %s | %s | %s |\n", r.Method, r.Path, r.On, r.Timeout, body, strings.Join(names, ", "), r.Summary)
	}
	want.WriteString("\n")
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+want.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want.String() {
		t.Errorf("%s does not have the table of endpoints: run go test ./agent/internal/server -update", file)
	}
}

// TestDocs compares the numbers of docs/api.md with the limits.
func TestDocs(t *testing.T) {
	docs := read(t, "../../../docs/api.md")
	l := Limits{}.withDefaults()
	for _, want := range []string{
		api.Socket, api.AdminSocket, api.SocketEnv, api.AdminEnv,
		fmt.Sprintf("younger than %g minutes", attest.DefaultAnchorMaxAge.Minutes()), fmt.Sprintf("not there after %g seconds", attest.DefaultPatience.Seconds()),
		"| connections | 2048 | 1024 |",         // fewer if this process may open few descriptors
		"| requests in progress | 1024 | 512 |", // these as well
		"| requests waiting | | 256 |",
		fmt.Sprintf("| bytes of answers | %d MiB | %d MiB |", l.Bytes>>20, l.BytesEach>>20),
		fmt.Sprintf("| requests a second | | %g, %d at once |", l.RateEach, l.BurstEach),
		fmt.Sprintf("| headers | %d KiB, %v |", l.HeaderBytes>>10, l.HeaderTimeout),
		fmt.Sprintf("| body | %v |", l.BodyTimeout),
		fmt.Sprintf("| idle connection | %v |", l.IdleTimeout),
		fmt.Sprintf("| taking an answer | %v |", l.WriteTimeout),
	} {
		if !strings.Contains(docs, want) {
			t.Errorf("docs/api.md lacks %q", want)
		}
	}
}

func read(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: no such file %v", pattern, err)
	}
	slices.Sort(names)
	var all strings.Builder
	for _, n := range names {
		if strings.HasSuffix(n, "_test.go") {
			continue
		}
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}
