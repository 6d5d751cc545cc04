// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/pcr"
)

// slowLog is a log that takes a record when it is let go.
type slowLog struct{ free chan struct{} }

func (l slowLog) Append(context.Context, pcr.Event) (pcr.Record, error) {
	<-l.free
	return pcr.Record{}, context.Canceled
}

// TestStartWaits: the start waits for apps that the agent before handed over, and not for others.
func TestStartWaits(t *testing.T) {
	if p := startPatience; p.inherited < 10*p.all {
		t.Errorf("%v, want far more patience for apps that were handed over", p)
	}
	for _, inherited := range []bool{true, false} {
		dir := t.TempDir()
		declarations := filepath.Join(dir, "apps.d")
		if err := os.Mkdir(declarations, 0o755); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "file")
		for name, text := range map[string]string{file: "content", filepath.Join(declarations, "app.toml"): fmt.Sprintf("unit = \"app.service\"\nuser = \"root\"\nfiles = [%q]\n", file)} {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		log := slowLog{make(chan struct{})}
		a, err := apps.New(apps.Config{Recorder: log, Directories: []string{declarations}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Reload(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if inherited {
			c.Inherited = []string{"app"}
		}
		late := make(chan []string, 1)
		go func() { late <- first(t.Context(), c, patience{time.Nanosecond, time.Hour}) }()
		if inherited {
			select {
			case got := <-late:
				t.Errorf("the start does not wait for an app that was handed over: %q", got)
			case <-time.After(50 * time.Millisecond):
			}
			close(log.free)
			if got := <-late; len(got) > 0 {
				t.Errorf("measured, and late nevertheless: %q", got)
			}
		} else {
			if got := <-late; !slices.Equal(got, []string{"app"}) {
				t.Errorf("late: %q", got)
			}
			close(log.free)
		}
		a.Close()
	}
}
