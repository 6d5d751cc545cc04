// SPDX-License-Identifier: Apache-2.0

package nodeserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
	"github.com/cvm-agentd/agentd/verify"
)

var (
	one, two  = historyOf(1), historyOf(2)
	ak, other = keys.Name{0, 11, 1}, keys.Name{0, 11, 2}
)

func historyOf(n int64) *relying.History {
	return &relying.History{State: new(verify.LogState), Changed: time.Unix(n, 0).UTC()}
}

// A place is where a state is, for tests that open it more than once and change it from outside.
type place struct {
	open     func() (state, error)
	undecide func(keys.Name) // an operator removes the mark that two machines use a key
	damage   func(keys.Name)
}

func inFolder(t *testing.T) place {
	path := filepath.Join(t.TempDir(), "state")
	return place{
		open: func() (state, error) { return openFolder(path) },
		undecide: func(ak keys.Name) {
			if err := os.Remove(filepath.Join(path, file(ak)+disputed)); err != nil {
				t.Fatal(err)
			}
		},
		damage: func(ak keys.Name) { write(t, filepath.Join(path, file(ak)+known), `{"changed":`) },
	}
}

// startPostgres starts a server for one test, and returns how to connect to it.
func startPostgres(t *testing.T) (p *servers.Postgres, text string) {
	p = servers.StartPostgres(t, servers.IfThere(t, "initdb", "postgres", "psql"))
	host, port, _ := strings.Cut(p.Address, ":")
	return p, fmt.Sprintf("dbname=postgres user=tester host=%s port=%s sslmode=disable", host, port)
}

func inDatabase(t *testing.T) place {
	p, text := startPostgres(t)
	ask := func(sql string) {
		if _, err := p.Ask(p.Address, sql); err != nil {
			t.Fatal(err)
		}
	}
	return place{
		open: func() (state, error) { return openDatabase(t.Context(), text) },
		undecide: func(ak keys.Name) {
			ask(fmt.Sprintf("UPDATE agentd_spire_machines SET disputed = NULL WHERE ak = '\\x%s'", file(ak)))
		},
		damage: func(ak keys.Name) {
			ask(fmt.Sprintf("UPDATE agentd_spire_machines SET history = '{' WHERE ak = '\\x%s'", file(ak)))
		},
	}
}

// TestState: what is known of a machine is replaced only if it is what the caller compared with, it outlives
// the server, and a disputed key has no history until an operator decides.
func TestState(t *testing.T) {
	for name, where := range map[string]func(*testing.T) place{"folder": inFolder, "database": inDatabase} {
		t.Run(name, func(t *testing.T) {
			p := where(t)
			s, err := p.open()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { s.close() }()
			ctx := t.Context()
			known := func(ak keys.Name) *relying.History {
				t.Helper()
				h, err := s.Known(ctx, ak)
				if err != nil {
					t.Fatal(err)
				}
				return h
			}
			if err := s.Advance(ctx, ak, two, one); !errors.Is(err, relying.ErrMoved) {
				t.Errorf("from what was never known: %v", err)
			}
			if known(ak) != nil {
				t.Error("something is known")
			}
			if err := s.Advance(ctx, ak, nil, one); err != nil {
				t.Fatal(err)
			}
			for name, before := range map[string]*relying.History{"nothing": nil, "another": two} {
				if err := s.Advance(ctx, ak, before, two); !errors.Is(err, relying.ErrMoved) {
					t.Errorf("from %s: %v", name, err)
				}
			}
			first := known(ak)
			if !first.Changed.Equal(one.Changed) {
				t.Errorf("known: %+v", first)
			}
			if h := known(other); h != nil {
				t.Errorf("of another machine: %+v", h)
			}

			s.close()
			if s, err = p.open(); err != nil {
				t.Fatal(err)
			}
			if err := s.Advance(ctx, ak, known(ak), two); err != nil {
				t.Errorf("one that is known goes on: %v", err)
			}
			if err := s.Advance(ctx, ak, first, one); !errors.Is(err, relying.ErrMoved) {
				t.Errorf("from what was known before: %v", err)
			}
			second := known(ak)
			if err := s.dispute(ctx, ak); err != nil {
				t.Fatal(err)
			}
			if h, err := s.Known(ctx, ak); !errors.Is(err, errDisputed) {
				t.Errorf("disputed: %+v, %v", h, err)
			}
			p.undecide(ak)
			if h := known(ak); !h.Changed.Equal(second.Changed) {
				t.Errorf("after it was decided: %+v", h)
			}
			p.damage(ak)
			if h, err := s.Known(ctx, ak); err == nil {
				t.Errorf("a damaged history: %+v", h)
			}
			if err := s.dispute(ctx, other); err != nil { // of which nothing is known
				t.Fatal(err)
			}
			if h, err := s.Known(ctx, other); !errors.Is(err, errDisputed) {
				t.Errorf("disputed at once: %+v, %v", h, err)
			}
			p.undecide(other)
			if err := s.Advance(ctx, other, nil, one); err != nil {
				t.Errorf("decided, with nothing known: %v", err)
			}
			if h := known(other); !h.Changed.Equal(one.Changed) {
				t.Errorf("known: %+v", h)
			}
		})
	}
}

// TestFolderIsFull: a folder keeps no more machines than it may, and those that it has go on.
func TestFolderIsFull(t *testing.T) {
	s, err := openFolder(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.Advance(t.Context(), ak, nil, one); err != nil {
		t.Fatal(err)
	}
	if s.files != 1 {
		t.Errorf("%d files, want 1", s.files)
	}
	s.files = maxMachines
	if err := s.Advance(t.Context(), other, nil, one); err == nil {
		t.Error("more machines than are kept")
	}
	if err := s.Advance(t.Context(), ak, one, two); err != nil {
		t.Errorf("one that is known goes on: %v", err)
	}
}

// TestSharedDatabase: of servers that make the table at once all go on, of those that attest one machine at
// the same time one does, and a key that one disputes is disputed at all. None goes on once it is disputed
// in between.
func TestSharedDatabase(t *testing.T) {
	p, text := startPostgres(t)
	var all [4]*database
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() {
			var err error
			if all[i], err = openDatabase(t.Context(), text); err != nil {
				t.Error(err)
			}
		})
	}
	if wait.Wait(); t.Failed() {
		t.FailNow()
	}
	for _, d := range all {
		defer d.close()
	}
	race := func(next *relying.History) {
		t.Helper()
		won := make(chan error, len(all))
		var before [len(all)]*relying.History
		for i, d := range all {
			var err error
			if before[i], err = d.Known(t.Context(), ak); err != nil {
				t.Fatal(err)
			}
		}
		for i, d := range all {
			wait.Go(func() { won <- d.Advance(t.Context(), ak, before[i], next) })
		}
		wait.Wait()
		n := 0
		for range all {
			if err := <-won; err == nil {
				n++
			} else if !errors.Is(err, relying.ErrMoved) {
				t.Error(err)
			}
		}
		if n != 1 {
			t.Errorf("%d servers went on from the same history, want one", n)
		}
	}
	race(one)
	race(two)
	before, err := all[0].Known(t.Context(), ak)
	if err != nil {
		t.Fatal(err)
	}
	if err := all[1].dispute(t.Context(), ak); err != nil {
		t.Fatal(err)
	}
	if err := all[0].Advance(t.Context(), ak, before, one); !errors.Is(err, relying.ErrMoved) {
		t.Errorf("it goes on from before the dispute: %v", err)
	}
	for _, d := range all {
		if h, err := d.Known(t.Context(), ak); !errors.Is(err, errDisputed) {
			t.Errorf("disputed at another server: %+v, %v", h, err)
		}
	}
	if _, err := p.Ask(p.Address, fmt.Sprintf("INSERT INTO agentd_spire_machines SELECT int4send(n), 1, '{}' FROM generate_series(1, %d) AS n", maxMachines)); err != nil {
		t.Fatal(err)
	}
	if err := all[0].Advance(t.Context(), other, nil, one); err == nil || errors.Is(err, relying.ErrMoved) || !strings.Contains(err.Error(), "no more are kept") {
		t.Errorf("more machines than are kept: %v", err)
	}
	p.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if h, err := all[0].Known(ctx, ak); err == nil || errors.Is(err, errDisputed) {
		t.Errorf("without the database: %+v, %v", h, err)
	}
	p.Run(t)
	if _, err := all[0].Known(ctx, other); err != nil {
		t.Errorf("the database is back: %v", err)
	}
}

// TestDatabaseSettings: a configuration names one state, and an error shows no password.
func TestDatabaseSettings(t *testing.T) {
	for _, wrong := range []string{"postgres://user:secretword@host:port/db", "host=x password=secretword port=y"} {
		if _, err := databaseConfig(wrong); err == nil || strings.Contains(err.Error(), "secretword") {
			t.Errorf("%s: %v", text.Excerpt(wrong), err)
		}
	}
	for text, want := range map[string]string{
		"":                       "want one of them",
		`state = "/s"`:           "",
		`state = "s"`:            "absolute path",
		`database = "host=/run"`: "",
		`database = "port=y"`:    "database",
		"state = \"/s\"\ndatabase = \"host=/run\"": "want one of them",
	} {
		_, err := parse(&configv1.CoreConfiguration{TrustDomain: "example.org"}, "policy = \"/p\"\n"+text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	d, err := databaseConfig("postgres://user:secretword@localhost/fleet")
	if err != nil {
		t.Fatal(err)
	}
	if d.MaxConns != connections || d.ConnConfig.ConnectTimeout != answerTime {
		t.Errorf("%d connections, %v", d.MaxConns, d.ConnConfig.ConnectTimeout)
	}
}
