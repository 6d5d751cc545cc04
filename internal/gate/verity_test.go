// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/fanotify"
)

// enableVerity is the argument of FS_IOC_ENABLE_VERITY (linux/fsverity.h).
type enableVerity struct {
	version, algorithm, blockSize, saltSize uint32
	salt                                    uint64
	signatureSize, reserved1                uint32
	signature                               uint64
	reserved2                               [11]uint64
}

// verityFolder mounts a file system with fs-verity.
func verityFolder(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"mke2fs", "mount", "umount"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: apt-get install e2fsprogs mount", program)
		}
	}
	dir := t.TempDir()
	image, folder := filepath.Join(dir, "image"), filepath.Join(dir, "mounted")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 32<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-O", "verity", "-b", "4096", image).CombinedOutput(); err != nil {
		t.Skipf("no file system with fs-verity: %v\n%s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, folder).CombinedOutput(); err != nil {
		t.Skipf("a file system with fs-verity cannot be mounted here: %v\n%s", err, out)
	}
	t.Cleanup(func() { // before the folder is removed
		if out, err := exec.Command("umount", "-l", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return folder
}

// TestVerity: the digest of a file with fs-verity is that of its content, and another file with the
// same root is not read again. No lease is taken.
func TestVerity(t *testing.T) {
	needGate(t)
	folder := verityFolder(t)
	paths := []string{filepath.Join(folder, "one"), filepath.Join(folder, "two")}
	want := program(t, paths[0], "verity")
	program(t, paths[1], "verity")
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		arg := enableVerity{version: 1, algorithm: unix.FS_VERITY_HASH_ALG_SHA256, blockSize: 4096}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg)))
		if errno != 0 {
			f.Close()
			t.Skipf("the kernel has no fs-verity: %v", errno)
		}
		if _, ok := fanotify.Verity(int(f.Fd())); !ok {
			t.Fatal("fs-verity is enabled, and has no digest")
		}
		f.Close()
	}
	a := newAgent(t, all, app(folder))
	guarded(t, a, nil)
	for _, path := range paths {
		if out, err := run(path); err != nil || out != "verity" {
			t.Fatalf("%q, %v", out, err)
		}
	}
	c := newContents(0)
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if x, err := c.find(t.Context(), int(f.Fd())); err != nil || x.digest != want || x.lease != nil {
			t.Errorf("%+v, %v", x, err)
		}
	}
	if len(c.roots) != 1 || len(c.leased) != 0 {
		t.Errorf("%d roots, %d leases", len(c.roots), len(c.leased))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.asks {
		if x.Digest != want {
			t.Errorf("asked for %s, the content has %s", x.Digest, want)
		}
	}
}
