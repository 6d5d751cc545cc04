// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/pcr"
)

// Work that does not end does not keep the agent from ending.
func TestEndsWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		if !endsWithin(all.Wait, time.Second) {
			t.Error("nothing was to end, and it did not")
		}
		hangs := make(chan struct{})
		all.Go(func() { <-hangs })
		began := time.Now()
		if endsWithin(all.Wait, time.Second) || time.Since(began) != time.Second {
			t.Errorf("waited %v for work that hangs, want a second", time.Since(began))
		}
		close(hangs)
		if !endsWithin(all.Wait, time.Second) {
			t.Error("it ended, and is said not to have")
		}
	})
}

// hanging is a log whose disk does not answer.
type hanging struct{ begun, end chan struct{} }

func (h hanging) Append(context.Context, pcr.Event) (pcr.Record, error) {
	close(h.begun)
	<-h.end
	return pcr.Record{}, errors.New("it hung")
}

// TestLeaveDespiteARecord: a record that does not end does not keep the agent from ending, and from
// giving its locks up.
func TestLeaveDespiteARecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"main": "x", "app.toml": "unit = \"app.service\"\nuser = \"0\"\nfiles = [" + strconv.Quote(filepath.Join(dir, "main")) + "]\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	log := hanging{make(chan struct{}), make(chan struct{})}
	a, err := apps.New(apps.Config{Recorder: log, Directories: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Reload(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	<-log.begun
	s := startup.New(slog.New(slog.DiscardHandler))
	d := &daemon{log: slog.New(slog.DiscardHandler), ledger: startup.NewPart[*ledger.Ledger](s), apps: startup.NewPart[*apps.Apps](s)}
	d.ledger.Set(nil) // not asked
	d.apps.Set(a)
	left := make(chan struct{})
	go func() {
		defer close(left)
		d.leave()
	}()
	select {
	case <-left:
	case <-time.After(10 * workPatience):
		t.Error("it does not end")
	}
	close(log.end)
	a.Close()
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("disk full"), false},
		{&startup.Refusal{Err: fmt.Errorf("lock: %w", &durable.LockedError{PID: 7})}, false}, // a later start may work
		{&startup.Refusal{Err: errors.New("PCR 16")}, true},
		{fmt.Errorf("start: %w", &startup.Refusal{Err: errors.New("PCR 16")}), true},
		{errors.Join(&config.Error{File: "c.toml", Err: errors.New("x")}), true},
	} {
		if Refused(c.err) != c.want {
			t.Errorf("%v: %v", c.err, !c.want)
		}
	}
}
