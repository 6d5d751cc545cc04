// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
)

// TestDeclarationsOfAnImage: what is not a file of a declaration's size is passed over, and is
// neither waited for nor read into memory.
func TestDeclarationsOfAnImage(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, appsFolder)
	sparse := filepath.Join(dir, "sparse.toml")
	text := []byte("unit = \"good.service\"\nuser = \"root\"\nfiles = [\"/bin/a\"]\n")
	err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "good.toml"), text, 0o644), os.WriteFile(sparse, text, 0o644))
	if err = errors.Join(err, os.Truncate(sparse, 1<<40), syscall.Mkfifo(filepath.Join(dir, "fifo.toml"), 0o644)); err != nil {
		t.Fatal(err)
	}
	var found map[string]*declaration.Declaration
	done := make(chan struct{})
	go func() {
		found, err = declarations(root)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("it waits")
	}
	if err != nil || len(found) != 1 || found["good"] == nil {
		t.Errorf("%v, %v", found, err)
	}
}
