// SPDX-License-Identifier: Apache-2.0

// Package cryptsetup changes the header of a LUKS2 volume, as root and for agentctl only. Key
// slots are made and removed by the program cryptsetup, never here.
//
// cryptsetup never reads the device. The host can write to that between any two reads, and a
// header that it forged can have a key slot written without encryption. So each change is made on a
// [Work], a copy in memory of the header that was checked, and then the header is written to the
// device ([luks.Header.Replace]).
//
// # Crash
//
// A change has three durable steps: the agent records the next header beside the present one, the
// device gets it copy by copy, the agent drops the one of before. After a crash at any point every
// whole copy on the device is a header that is recorded with a key that opens it, and at least one
// copy is whole. [Volume.Rotate] goes on from there.
package cryptsetup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/luks"
)

// program is looked up in the folders of root, whatever PATH says.
var programs = []string{"/usr/sbin/cryptsetup", "/sbin/cryptsetup", "/usr/bin/cryptsetup"}

// A Work is a copy of a header in a file in memory, which cryptsetup changes.
type Work struct {
	dir, path string
}

// NewWork copies h, with the areas that from has, into a new folder below folder, which must be in
// memory. The caller ends it with Close.
func NewWork(folder string, h *luks.Header, from ReaderAt) (_ *Work, err error) {
	dir, err := os.MkdirTemp(folder, ".work-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the copy of the header: %w", err)
	}
	w := &Work{dir: dir, path: filepath.Join(dir, "header")}
	if err := writeImage(w.path, h, from); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// writeImage writes h into a new file.
func writeImage(path string, h *luks.Header, from ReaderAt) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the copy of the header: %w", err)
	}
	// One sector of data more: cryptsetup takes the file for a device.
	err = f.Truncate(h.DataOffset() + 4096)
	if err == nil {
		err = h.WriteImage(f, from)
	}
	return errors.Join(err, f.Close())
}

// Close removes the copy.
func (w *Work) Close() error { return os.RemoveAll(w.dir) }

// ReadAt reads the copy as it is now.
func (w *Work) ReadAt(b []byte, offset int64) (int, error) {
	f, err := os.Open(w.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(b, offset)
}

// Header returns the header as cryptsetup left it. It must meet every rule.
func (w *Work) Header() (*luks.Header, error) {
	copies, err := luks.Read(w)
	if err != nil {
		return nil, err
	}
	for _, c := range copies {
		if c.Err != nil {
			return nil, fmt.Errorf("read the header that cryptsetup made: %w", c.Err)
		}
	}
	return copies[0].Header, nil
}

// Opens reports whether key opens key slot n.
func (w *Work) Opens(ctx context.Context, n int, key []byte) (bool, error) {
	err := w.run(ctx, [][]byte{key}, "open", "--test-passphrase", "--disable-external-tokens", "--key-slot", fmt.Sprint(n), "--key-file", keyFile(0), w.path)
	if x, ok := errors.AsType[*exec.ExitError](err); ok && x.ExitCode() == 2 { // no permission: bad passphrase (cryptsetup(8))
		return false, nil
	}
	return err == nil, err
}

// Add adds a key slot for key, 64 random bytes, with the help of a key that opens one, and returns
// its number. Since the key is random, the derivation need not be slow.
func (w *Work) Add(ctx context.Context, with, key []byte) (slot int, err error) {
	before, err := w.Header()
	if err != nil {
		return 0, err
	}
	err = w.run(ctx, [][]byte{with, key}, "luksAddKey", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", "sha512",
		"--key-file", keyFile(0), w.path, keyFile(1))
	if err != nil {
		return 0, err
	}
	after, err := w.Header()
	if err != nil {
		return 0, err
	}
	added := slices.DeleteFunc(after.Slots(), func(n int) bool { return slices.Contains(before.Slots(), n) })
	if len(added) != 1 || len(after.Slots()) != len(before.Slots())+1 {
		return 0, fmt.Errorf("cryptsetup made key slots %v of %v, want one more", after.Slots(), before.Slots())
	}
	return added[0], nil
}

// Remove removes key slot n. Key opens another one.
func (w *Work) Remove(ctx context.Context, n int, key []byte) error {
	return w.run(ctx, [][]byte{key}, "luksKillSlot", "--batch-mode", "--key-file", keyFile(0), w.path, fmt.Sprint(n))
}

// Forget removes key slot n without a key. Others stay.
func (w *Work) Forget(ctx context.Context, n int) error {
	return w.run(ctx, nil, "luksKillSlot", "--batch-mode", w.path, fmt.Sprint(n))
}

// keyFile returns the path under which cryptsetup finds a key that run passes to it.
func keyFile(i int) string { return fmt.Sprintf("/dev/fd/%d", 3+i) }

// ErrMissing is returned if cryptsetup is not installed.
var ErrMissing = errors.New("the program cryptsetup is not installed")

// run runs cryptsetup. Keys go through pipes, and into no file and no command line.
func (w *Work) run(ctx context.Context, keys [][]byte, args ...string) error {
	i := slices.IndexFunc(programs, func(p string) bool { _, err := os.Stat(p); return err == nil })
	if i < 0 {
		return fmt.Errorf("%w: install the package cryptsetup-bin", ErrMissing)
	}
	cmd := exec.CommandContext(ctx, programs[i], args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	var said bytes.Buffer
	cmd.Stderr = &said
	defer func() {
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
	}()
	for _, k := range keys {
		r, err := pipeOf(k)
		if err != nil {
			return err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cryptsetup %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return nil
}

// maxKey is the largest key that a pipe takes at once, on every kernel.
const maxKey = 4096

// pipeOf returns the reading end of a pipe that contains key.
func pipeOf(key []byte) (*os.File, error) {
	if len(key) < 1 || len(key) > maxKey {
		return nil, fmt.Errorf("a key of %d bytes, want 1 to %d", len(key), maxKey)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = w.Write(key)
	if err = errors.Join(err, w.Close()); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}
