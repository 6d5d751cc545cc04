// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
)

// TestTellProgress: a person at a terminal is told how far the hashing of files is, and a program is
// not.
func TestTellProgress(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "demo.toml")
	if err := os.WriteFile(file, []byte("unit = \"demo.service\"\nuser = \"root\"\nfiles = [\"/demo.toml\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := manifest.NewProgress()
	if _, err := manifest.Reference(t.Context(), file, root, p); err != nil {
		t.Fatal(err)
	}
	said := make(lines)
	ended := (&terminal{err: said, follows: true}).tellProgress(t.Context(), p, time.Millisecond)
	if got := <-said; !strings.HasSuffix(got, "MiB read so far, at \"/demo.toml\"\n") {
		t.Errorf("said %q", got)
	}
	go func() { // another line may be on its way
		for range said {
		}
	}()
	ended()
	close(said)
	(&terminal{}).tellProgress(t.Context(), p, time.Millisecond)() // has no output
}

// lines is an output that hands over each write.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// TestTellReading: a command that waits for a measurement says how far it is, and nothing about
// other applications, nor after it has ended.
func TestTellReading(t *testing.T) {
	s := &sockets{admin: fakeAgent(t, map[string]answer{"/v1/apps": {200, `{"apps":[
		{"name":"small","state":"measured"},
		{"name":"other","state":"pending","reading":{"since":99,"bytes":1,"of":2}},
		{"name":"big","state":"pending","reading":{"since":12,"bytes":1073741824,"of":4294967296,"path":"/opt/big"}}]}`}})}
	for name, want := range map[string]string{
		"big": "agentctl: big is being measured: 1024 of 4096 MiB read in 12 s, about 36 s left, at \"/opt/big\"\n", "small": "", "none": "",
	} {
		said := make(lines)
		ended := (&terminal{err: said}).tellReading(t.Context(), s, name, time.Millisecond)
		if want != "" {
			if got := <-said; got != want {
				t.Errorf("said %q, want %q", got, want)
			}
		}
		go func() { // another line may be on its way
			for range said {
			}
		}()
		ended()
		close(said) // nothing is said any more
	}
}
