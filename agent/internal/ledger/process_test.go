// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// helperEnv has this test binary run the daemon's part in a process of its own:
// directory, TPM address, step at which it kills itself, whether in the middle, and the PCR of events.
const helperEnv = "AGENTD_LEDGER_HELPER"

func TestMain(m *testing.M) {
	if args := os.Getenv(helperEnv); args != "" {
		if err := daemon(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestKilledProcess sends SIGKILL to a real process at every system call on its real
// files and at every command to a real TPM, and looks at what a start finds. Cases 24, 36.
func TestKilledProcess(t *testing.T) {
	address := swtpm.Start(t).Listen().Address()
	stride := 1
	if testing.Short() {
		stride = 9
	}
	n, torn := 0, 0
	for _, half := range []bool{false, true} {
		events := uint32(0)
		for k := 1; ; k += stride {
			events ^= second // by turns: the log of a boot says which PCRs it has
			died := killAt(t, address, k, half, events)
			if t.Failed() {
				return
			}
			if died == 0 {
				break
			}
			k = died // the next write may be a few steps on
			n++
			if half {
				torn++
			}
		}
	}
	t.Logf("killed processes: N=%d, %d of them in the middle of a write", n, torn)
	if n*stride < 80 {
		t.Errorf("only %d processes were killed", n)
	}
}

// killAt runs a daemon that dies at step k, or in the middle of the first write from there
// on, then a healthy one. It returns the step, 0 if the daemon got to its end.
func killAt(t *testing.T, address string, k int, half bool, events uint32) (died int) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"log", "state"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %v %d", helperEnv, dir, address, k, half, events))
	var said, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complaint
	err := cmd.Run()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	killed := status.Signaled() && status.Signal() == syscall.SIGKILL
	if !killed && err != nil {
		t.Fatalf("step %d: %v: %s", k, err, &complaint)
	}
	var attempted, acknowledged []string
	step := ""
	for lines := bufio.NewScanner(&said); lines.Scan(); {
		switch word, rest, _ := strings.Cut(lines.Text(), " "); word {
		case "attempt":
			attempted = append(attempted, rest)
		case "recorded":
			acknowledged = append(acknowledged, rest)
		case "step":
			step = rest
			fmt.Sscan(rest, &died)
		}
	}
	if killed != (died > 0) {
		t.Fatalf("step %d: killed by another process", k)
	}

	c, closeAll, err := realConfig(dir, address, &killer{}, events)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll()
	l, err := ledger.Open(context.Background(), c)
	if err != nil {
		t.Fatalf("step %d (%s): %v", k, step, err)
	}
	if s := l.State(); !s.Synchronised {
		t.Fatalf("step %d (%s): %s", k, step, s.Reason)
	}
	if _, err := l.Append(context.Background(), appEvent("late")); err != nil {
		t.Fatalf("step %d (%s): %v", k, step, err)
	}
	v := l.View()
	for _, r := range v.Registers {
		now, err := c.TPM.Read(context.Background(), r.PCR)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(now, func(a, b pcr.Digest) int { return int(a.Algorithm) - int(b.Algorithm) })
		if !pcr.Equal(now, r.Values) {
			t.Errorf("step %d (%s): the log does not explain PCR %d", k, step, r.PCR)
		}
	}
	if want := 1 + min(1, int(events)); len(v.Registers) != want {
		t.Errorf("step %d (%s): the log has %d PCRs, want %d", k, step, len(v.Registers), want)
	}
	got := apps(t, v, v.Registers[0].Values)
	if !subsequence(append(acknowledged, "late"), got) || !subsequence(got[1:], append(attempted, "late")) {
		t.Errorf("step %d (%s): attempted %v, acknowledged %v, the log has %v", k, step, attempted, acknowledged, got)
	}
	return died
}

// daemon is the process that is killed.
func daemon(args string) error {
	k := &killer{}
	var dir, address string
	var second uint32
	if _, err := fmt.Sscan(args, &dir, &address, &k.at, &k.half, &second); err != nil {
		return err
	}
	for _, events := range [][]pcr.Event{
		{agentEvent(pcr.EventAgent), appEvent("a")},
		{agentEvent(pcr.EventReload), emittedEvent("1"), appEvent("b")},
	} {
		c, closeAll, err := realConfig(dir, address, k, second)
		if err != nil {
			return err
		}
		l, err := ledger.Open(context.Background(), c)
		if err != nil {
			return err
		}
		for _, e := range events {
			what := string(e.Type)
			if e.App != nil {
				what = e.App.App
			}
			if e.Emitted != nil {
				what = "said " + string(e.Emitted.Content)
			}
			fmt.Println("attempt", what)
			if _, err := l.Append(context.Background(), e); err != nil {
				return err
			}
			fmt.Println("recorded", what)
		}
		closeAll()
	}
	return nil
}

// realConfig is a ledger on real directories and a real TPM.
func realConfig(dir, address string, k *killer, events uint32) (ledger.Config, func(), error) {
	d, err := tpm.Open(context.Background(), address, tpm.Options{})
	if err != nil {
		return ledger.Config{}, nil, err
	}
	log, err := durable.Linux(filepath.Join(dir, "log"))
	if err != nil {
		return ledger.Config{}, nil, err
	}
	state, err := durable.Linux(filepath.Join(dir, "state"))
	if err != nil {
		return ledger.Config{}, nil, err
	}
	logDir, stateDir := durable.New(killingSystem{log, k}), durable.New(killingSystem{state, k})
	return ledger.Config{Log: logDir, State: stateDir, TPM: realTPM{d, k}, PCR: index, Events: events, Now: boottime.Now}, func() {
		logDir.Close()
		stateDir.Close()
		d.Close()
	}, nil
}

// killer counts steps and ends the process, as nothing in it can prevent, at one of them.
type killer struct {
	n, at int
	half  bool // only if a write can be torn, and then in its middle
}

// step is called before each step; torn, which may be nil, does half of it.
func (k *killer) step(name string, torn func()) {
	k.n++
	if k.at == 0 || k.n < k.at || (k.half && torn == nil) {
		return
	}
	if k.half {
		torn()
	}
	fmt.Println("step", k.n, name)
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// killingSystem embeds nothing: a system call that is added needs a line here.
type killingSystem struct {
	s durable.System
	k *killer
}

func (s killingSystem) Names() ([]string, error) { return s.s.Names() }
func (s killingSystem) Close() error             { return s.s.Close() }

func (s killingSystem) FileSystem() (int64, error) { return s.s.FileSystem() }

func (s killingSystem) Open(name string, flags int, perm uint32) (durable.File, error) {
	s.k.step("open "+name, nil)
	f, err := s.s.Open(name, flags, perm)
	if err != nil {
		return nil, err
	}
	return killingFile{f, name, s.k}, nil
}

func (s killingSystem) Rename(from, to string) error {
	s.k.step("rename "+to, nil)
	return s.s.Rename(from, to)
}

func (s killingSystem) Remove(name string) error {
	s.k.step("unlink "+name, nil)
	return s.s.Remove(name)
}

func (s killingSystem) Sync() error {
	s.k.step("sync directory", nil)
	return s.s.Sync()
}

func (s killingSystem) Lock() error {
	s.k.step("lock", nil)
	return s.s.Lock()
}

type killingFile struct {
	f    durable.File
	name string
	k    *killer
}

func (f killingFile) Stat() (durable.Stat, error) { return f.f.Stat() }
func (f killingFile) Read(b []byte) (int, error)  { return f.f.Read(b) }

func (f killingFile) Write(b []byte) (int, error) {
	f.k.step("write "+f.name, func() { f.f.Write(b[:len(b)/2]) })
	return f.f.Write(b)
}

func (f killingFile) Truncate(size int64) error {
	f.k.step("truncate "+f.name, nil)
	return f.f.Truncate(size)
}

func (f killingFile) Sync() error {
	f.k.step("sync "+f.name, nil)
	return f.f.Sync()
}

func (f killingFile) Close() error {
	f.k.step("close "+f.name, nil)
	return f.f.Close()
}

// realTPM is a TPM without an AK. Its reset count is the plain one.
type realTPM struct {
	*tpm.Device
	k *killer
}

func (r realTPM) do(ctx context.Context, name string, f func(transport.TPM) error) error {
	r.k.step("TPM "+name, nil)
	return r.Do(ctx, f)
}

func (r realTPM) Banks(ctx context.Context) (b []pcr.Algorithm, err error) {
	err = r.do(ctx, "banks", func(t transport.TPM) (err error) {
		b, err = registers.ActiveBanks(t)
		return err
	})
	return b, err
}

func (r realTPM) Read(ctx context.Context, i uint32) (d []pcr.Digest, err error) {
	err = r.do(ctx, "read", func(t transport.TPM) error {
		banks, err := registers.ActiveBanks(t)
		if err != nil {
			return err
		}
		var s pcr.Selection
		for _, b := range banks {
			s = append(s, pcr.BankSelection{Algorithm: b, PCRs: []uint32{i}})
		}
		v, err := registers.Read(t, s)
		if err != nil {
			return err
		}
		d = nil
		for _, b := range banks {
			d = append(d, pcr.Digest{Algorithm: b, Value: v[b][i]})
		}
		return nil
	})
	return d, err
}

func (r realTPM) Extend(ctx context.Context, i uint32, d []pcr.Digest) error {
	return r.do(ctx, "extend", func(t transport.TPM) error { return registers.Extend(t, i, d) })
}

func (r realTPM) Boot(ctx context.Context) (b ledger.Boot, err error) {
	err = r.do(ctx, "clock", func(t transport.TPM) error {
		c, err := tpm2.ReadClock{}.Execute(t)
		if err != nil {
			return err
		}
		b = ledger.Boot{AKName: []byte("none"), ResetCount: c.CurrentTime.ClockInfo.ResetCount}
		return nil
	})
	return b, err
}
