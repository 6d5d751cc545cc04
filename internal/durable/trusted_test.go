// SPDX-License-Identifier: Apache-2.0

package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// TestReadTrusted: a file is read only if no other user can have written it or put it there,
// and what is not a file is refused at once.
func TestReadTrusted(t *testing.T) {
	const foreign = 4711
	for name, c := range map[string]struct {
		make  func(path string) error // as a file in a folder of mode 0755
		taken bool
		root  bool // whether making it needs root
	}{
		"own":               {make: func(string) error { return nil }, taken: true},
		"readable":          {make: func(p string) error { return os.Chmod(p, 0o644) }, taken: true},
		"others write":      {make: func(p string) error { return os.Chmod(p, 0o606) }},
		"group writes":      {make: func(p string) error { return os.Chmod(p, 0o620) }},
		"foreign":           {make: func(p string) error { return os.Chown(p, foreign, 0) }, root: true},
		"folder is open":    {make: func(p string) error { return os.Chmod(filepath.Dir(p), 0o777) }},
		"folder is sticky":  {make: func(p string) error { return os.Chmod(filepath.Dir(p), 0o777|fs.ModeSticky) }, taken: true},
		"folder is foreign": {make: func(p string) error { return os.Chown(filepath.Dir(p), foreign, 0) }, root: true},
		"FIFO":              {make: func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) }},
		"folder":            {make: func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }},
		"device":            {make: func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/dev/null", p)) }},
		"terminal":          {make: func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/dev/ptmx", p)) }},
		"link": {make: func(p string) error {
			return errors.Join(os.Rename(p, p+".real"), os.Symlink(filepath.Base(p)+".real", p))
		}, taken: true},
		"link to what others write": {make: func(p string) error {
			return errors.Join(os.Rename(p, p+".real"), os.Chmod(p+".real", 0o666), os.Symlink(filepath.Base(p)+".real", p))
		}},
		"link into an open folder": {make: func(p string) error {
			dir := filepath.Join(filepath.Dir(p), "open")
			return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777), os.Rename(p, filepath.Join(dir, "x")), os.Symlink("open/x", p))
		}},
		"too large": {make: func(p string) error { return os.WriteFile(p, make([]byte, 17), 0o600) }},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("making the file of another user needs root")
			}
			dir := filepath.Join(t.TempDir(), "folder")
			path := filepath.Join(dir, "file")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(path, []byte("content"), 0o600), c.make(path)); err != nil {
				t.Fatal(err)
			}
			b, err := durable.ReadTrusted(path, 16)
			if taken := err == nil && string(b) == "content"; taken != c.taken {
				t.Errorf("read %q, %v; want taken %v", b, err, c.taken)
			}
		})
	}
	if _, err := durable.ReadTrusted(filepath.Join(t.TempDir(), "absent"), 16); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}
