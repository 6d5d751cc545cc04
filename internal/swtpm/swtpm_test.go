// SPDX-License-Identifier: Apache-2.0

package swtpm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/pcr"
)

// getRandom is TPM2_GetRandom of eight bytes.
var getRandom = []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 8}

func start(t *testing.T, dir string) *TPM {
	t.Helper()
	p, err := Start(Options{Dir: dir})
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill() })
	return p
}

// ended waits until the child of p has ended by itself.
func ended(t *testing.T, p *TPM) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(2 * time.Minute):
		t.Fatal("swtpm goes on running")
	}
}

// Close ends the child when it is idle, and when it is about to answer.
func TestClose(t *testing.T) {
	for range 20 {
		p := start(t, t.TempDir())
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		ended(t, p)

		p = start(t, t.TempDir())
		if _, err := p.Write(getRandom); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		ended(t, p)
	}
}

// The child ends with its parent, however that ends and whatever the child does at
// the moment. Otherwise every program that crashes would leave one running.
func TestEndsWithParent(t *testing.T) {
	if dir := os.Getenv("SWTPM_TEST_PARENT"); dir != "" {
		p, err := Start(Options{Dir: dir})
		if err != nil {
			os.Exit(3)
		}
		p.Write(getRandom)
		fmt.Println(p.cmd.Process.Pid)
		select {}
	}
	start(t, t.TempDir()).Close() // skips if swtpm is missing
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestEndsWithParent$")
		cmd.Env = append(os.Environ(), "SWTPM_TEST_PARENT="+t.TempDir())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscanln(out, &pid); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		cmd.Process.Kill()
		cmd.Wait()
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
		for err == unix.EINTR {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
		}
		if n != 1 {
			unix.Kill(pid, unix.SIGKILL)
			t.Fatalf("swtpm goes on running: %v", err)
		}
	}
}

func TestKilled(t *testing.T) {
	p := start(t, t.TempDir())
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("killing it again: %v", err)
	}
	if err := p.Close(); err == nil {
		t.Error("closing it again did not fail")
	}
}

func TestStateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	p := start(t, dir)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory %v, %v, want mode 0700", info.Mode(), err)
	}
	if _, err := lockDir(dir, 0); err == nil {
		t.Error("a second one may use the same state")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, dir) // and now it may
}

func TestMissing(t *testing.T) {
	if _, err := Start(Options{Dir: t.TempDir(), Program: "swtpm-is-not-here"}); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
}

func TestAllocate(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	p.Close()
	if err := Allocate(Options{Dir: dir}, pcr.SHA384); err != nil {
		t.Fatal(err)
	}
	p = start(t, dir)
	p.SetDeadline(time.Now().Add(2 * time.Minute))
	// TPM2_GetCapability(TPM_CAP_PCRS)
	command, _ := hex.DecodeString("8001000000160000017a000000050000000000000001")
	if _, err := p.Write(command); err != nil {
		t.Fatal(err)
	}
	rsp := make([]byte, 256)
	n, err := io.ReadAtLeast(p, rsp, 10)
	if err != nil {
		t.Fatal(err)
	}
	for alg, bits := range map[string]string{"0004": "000000", "000b": "000000", "000c": "ffffff", "000d": "000000"} {
		want, _ := hex.DecodeString(alg + "03" + bits)
		if !bytes.Contains(rsp[:n], want) {
			t.Errorf("%x does not hold %x", rsp[:n], want)
		}
	}
}
