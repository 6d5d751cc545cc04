// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// state is a state of TPM, platform and disk.
type state struct {
	name   string
	before func(m *ready)            // an agent starts
	while  func(m *ready, d *daemon) // that agent runs, and made evidence
	after  func(m *ready)            // it has stopped; another starts
	code   api.Code                  // with which evidence is refused; empty if there is some
}

// ready is a machine whose parts a test can break.
type ready struct {
	*whole
	tpm      *swtpm.TPM
	proxy    *swtpm.Proxy
	patience time.Duration // with a command of the TPM; 0 is what agents have
	platform soft.Faults
	device   *soft.Platform
}

func newReady(t *testing.T, keys string) *ready {
	s := swtpm.Start(t)
	m := &ready{whole: newWhole(t, s), tpm: s, proxy: s.Listen()}
	o := &m.options
	o.Config.Limits.LogBytes = 64 << 10
	o.Config.Report.Timeout = o.Config.TPM.Timeout
	hardware := filepath.Join(t.TempDir(), "hardware")
	m.must(os.CopyFS(hardware, os.DirFS(keys)))
	o.Machine.OpenTPM = func(ctx context.Context) (*tpm.Device, error) {
		return tpm.Open(ctx, m.proxy.Address(), tpm.Options{CommandTimeout: m.patience})
	}
	o.Machine.OpenPlatform = func(context.Context, platform.TPM) (platform.Platform, platform.Choice, error) {
		p, err := soft.New(soft.Options{Directory: hardware})
		if err == nil {
			p.SetFaults(m.platform)
			m.device = p
		}
		return p, platform.Choice{}, err
	}
	return m
}

func (m *ready) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// small puts a folder on a disk that is almost full.
func (m *ready) small(folder string) {
	m.t.Helper()
	if err := unix.Mount("none", folder, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		m.t.Skip("mounting needs privileges: ", err)
	}
	m.t.Cleanup(func() { m.must(unix.Unmount(folder, unix.MNT_DETACH)) })
}

// fill fills the disk of a folder.
func (m *ready) fill(folder string) {
	m.t.Helper()
	err := os.WriteFile(filepath.Join(folder, "filler"), make([]byte, 1<<20), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		m.t.Fatal("the disk takes more: ", err)
	}
}

// fillLog appends records until the log is full.
func (m *ready) fillLog(d *daemon) {
	m.t.Helper()
	l, _ := d.ledger.Now()
	for {
		_, err := l.Append(m.t.Context(), pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "a test fills the log"}})
		if errors.Is(err, ledger.ErrFull) {
			return
		}
		m.must(err)
	}
}

func (m *ready) write(folder, name, content string) {
	m.t.Helper()
	m.must(os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600))
}

var states = []state{
	{name: "all well"},
	{name: "the agent is restarted", after: func(*ready) {}},
	{name: "the TPM is reset under the agent", while: func(m *ready, _ *daemon) { m.tpm.Reboot() }, code: api.CodeDesynchronised},
	{name: "another program extends the PCR", while: func(m *ready, _ *daemon) {
		banks, err := registers.ActiveBanks(m.tpm)
		m.must(err)
		m.must(registers.Extend(m.tpm, m.options.Config.Measurement.PCR, pcr.Zero(banks)))
	}, code: api.CodeDesynchronised},
	{name: "the TPM is cleared", while: func(m *ready, _ *daemon) { clearTPM(m.t, m.tpm) }, code: api.CodeAKUnusable},
	{name: "the TPM hangs", before: func(m *ready) { m.patience = 3 * time.Second }, while: func(m *ready, _ *daemon) {
		never := make(chan struct{})
		m.broken = true
		m.t.Cleanup(func() { close(never) })
		m.proxy.Inject(func([]byte) swtpm.Fault { return swtpm.Fault{Hang: never} })
	}, code: api.CodeTPM},
	{name: "the TPM fails", while: func(m *ready, _ *daemon) {
		m.proxy.Inject(func([]byte) swtpm.Fault { return swtpm.Fault{Code: 0x101} })
	}, code: api.CodeTPM},
	{name: "there is no TPM", before: func(m *ready) {
		m.options.Machine.OpenTPM = func(context.Context) (*tpm.Device, error) { return nil, errors.New("no device") }
	}, code: api.CodeTPM},
	{name: "there is no platform", before: func(m *ready) {
		m.options.Machine.OpenPlatform = func(context.Context, platform.TPM) (platform.Platform, platform.Choice, error) {
			return nil, platform.Choice{}, platform.ErrAbsent
		}
	}, code: api.CodePlatformAbsent},
	{name: "the firmware refuses", before: func(m *ready) { m.platform.FirmwareError = 0x16 }, code: api.CodePlatformRefused},
	{name: "the log is full", while: (*ready).fillLog},
	{name: "the log was full at the start", while: (*ready).fillLog, after: func(*ready) {}, code: api.CodeLogFull},
	{name: "the log is damaged", after: func(m *ready) { m.write(m.options.Config.Measurement.LogFolder, ledger.LogFile, "damaged") }, code: api.CodeDesynchronised},
	{name: "the log is gone", after: func(m *ready) {
		m.must(os.Remove(filepath.Join(m.options.Config.Measurement.LogFolder, ledger.LogFile)))
	}, code: api.CodeDesynchronised},
	{name: "the attestation key is damaged", after: func(m *ready) { m.write(m.options.Config.State.Folder, "ak.json", "damaged") }, code: api.CodeAKUnusable},
	{name: "a later version wrote the attestation key", after: func(m *ready) {
		m.write(m.options.Config.State.Folder, "ak.json", `{"type":"agentd/ak/2","handle":7}`)
	}, code: api.CodeLaterVersion},
	{name: "a later version wrote the state of the log", after: func(m *ready) {
		m.write(m.options.Config.State.Folder, ledger.StateFile, `{"type":"agentd/ledger/2","heads":[]}`)
	}},
	{name: "the state of the log is damaged", after: func(m *ready) { m.write(m.options.Config.State.Folder, ledger.StateFile, "damaged") }},
	{name: "the state folder is full at the start", before: func(m *ready) {
		m.small(m.options.Config.State.Folder)
		m.fill(m.options.Config.State.Folder)
	}, code: api.CodeDiskFull},
	{name: "the log folder is full at the start", before: func(m *ready) {
		m.small(m.options.Config.Measurement.LogFolder)
		m.fill(m.options.Config.Measurement.LogFolder)
	}, code: api.CodeDiskFull},
	{name: "the state folder becomes full", before: func(m *ready) { m.small(m.options.Config.State.Folder) },
		while: func(m *ready, _ *daemon) { m.fill(m.options.Config.State.Folder) }},
	{name: "the log folder becomes full", before: func(m *ready) { m.small(m.options.Config.Measurement.LogFolder) },
		while: func(m *ready, _ *daemon) { m.fill(m.options.Config.Measurement.LogFolder) }},
	{name: "the state folder is full when the agent is restarted", before: func(m *ready) { m.small(m.options.Config.State.Folder) },
		after: func(m *ready) { m.fill(m.options.Config.State.Folder) }, code: api.CodeDiskFull},
	{name: "other users can read the state folder", before: func(m *ready) { m.must(os.Chmod(m.options.Config.State.Folder, 0o755)) }, code: api.CodeDiskFailed},
}

// TestReadyIsTheNextRequest: in each state of TPM, platform and disk, the status says that
// evidence can be made exactly if the next request gets some, and otherwise the code that the
// request gets. Cases 103 and 104.
func TestReadyIsTheNextRequest(t *testing.T) {
	keys := platformKeys(t)
	for _, s := range states {
		t.Run(s.name, func(t *testing.T) {
			m := newReady(t, keys)
			if s.before != nil {
				s.before(m)
			}
			d, stop := m.start()
			if s.while != nil || s.after != nil {
				m.must(m.evidence(d))
			}
			if s.while != nil {
				s.while(m, d)
			}
			if s.after != nil {
				stop()
				s.after(m)
				d, stop = m.start()
			}
			m.compare(d, s.code)
			stop()
		})
	}
}

// platformKeys returns a folder with the keys of a software platform: to make them takes seconds.
func platformKeys(t *testing.T) string {
	keys := t.TempDir()
	if p, err := soft.New(soft.Options{Directory: keys}); err != nil || p.Close() != nil || os.Remove(filepath.Join(keys, "launch")) != nil {
		t.Fatal(err)
	}
	return keys
}

// compare asks for the status and then for evidence.
func (m *ready) compare(d *daemon, want api.Code) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	d.status.Look(ctx)
	st := d.status.Status().Evidence
	err := m.evidence(d)
	got := api.Code("")
	if err != nil {
		got = api.CodeInternal
		if p := server.Explain(err, errorCodes); p != nil {
			got = p.Code
		}
	}
	if said := fmt.Sprint(st.Ready, st.Code); said != fmt.Sprint(got == "", got) {
		m.t.Errorf("status: ready %v, code %q, %s; the next request: %v", st.Ready, st.Code, st.Reason, err)
	}
	if got != want {
		m.t.Errorf("code %q, want %q: %v", got, want, err)
	}
	if st.Ready == (st.Reason != "") {
		m.t.Errorf("ready %v with the reason %q", st.Ready, st.Reason)
	}
}

// TestUnchangedAppAfterReset: the TPM was reset, or another program extended the PCR. Measuring an
// app whose files are as before fails, also once that is known, and nothing calls it measured.
func TestUnchangedAppAfterReset(t *testing.T) {
	keys := platformKeys(t)
	for _, s := range states {
		if s.code != api.CodeDesynchronised || s.while == nil {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			m := newReady(t, keys)
			d, stop := m.start()
			defer stop()
			m.must(m.measure(d))
			s.while(m, d)
			for range 2 {
				err := m.measure(d)
				if p := server.Explain(err, errorCodes); p == nil || p.Code != api.CodeDesynchronised {
					t.Errorf("measure: %v", err)
				}
				for _, a := range d.service.List() {
					if a.State == api.AppMeasured || a.Digest != nil || a.Covered != nil || a.Reason == "" {
						t.Errorf("%+v", a)
					}
				}
				if c := d.status.Status().Apps; c.Measured != 0 || c.Unmeasured != 1 {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}

// TestStateFilesAreKept: a file of the state folder that this version cannot use is kept as it is,
// and named: one of a later version, a damaged one, an empty one and one that is too large.
func TestStateFilesAreKept(t *testing.T) {
	keys := platformKeys(t)
	for what, content := range map[string]string{
		"later version": `{"type":"agentd/ledger/2","heads":[]}`, "damaged": "{", "empty": "", "too large": strings.Repeat("x", 1<<20), "other type": `{"type":"x"}`,
	} {
		t.Run(what, func(t *testing.T) {
			m := newReady(t, keys)
			var lines bytes.Buffer
			m.options.Log = slog.New(slog.NewTextHandler(&lines, nil))
			_, stop := m.start()
			stop()
			folder := m.options.Config.State.Folder
			for n := range 2 {
				lines.Reset()
				m.write(folder, ledger.StateFile, content)
				_, stop := m.start()
				stop()
				name := fmt.Sprintf("%s.kept-%d", ledger.StateFile, n+1)
				if b, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(b) != content {
					t.Errorf("kept %d bytes, %v", len(b), err)
				}
				if !strings.Contains(lines.String(), name) {
					t.Errorf("the log does not name %s:\n%s", name, &lines)
				}
			}
		})
	}
	t.Run("attestation key of a later version", func(t *testing.T) {
		m := newReady(t, keys)
		content := `{"type":"agentd/ak/2","handle":7}`
		m.write(m.options.Config.State.Folder, "ak.json", content)
		d, stop := m.start()
		defer stop()
		if err := m.replace(d); !errors.Is(err, tpmkeys.ErrLater) {
			t.Errorf("replace-ak: %v", err)
		}
		if b, err := os.ReadFile(filepath.Join(m.options.Config.State.Folder, "ak.json")); err != nil || string(b) != content {
			t.Errorf("the key is now %q, %v", b, err)
		}
		st := d.status.Status()
		if strings.Contains(st.Evidence.Reason+st.TPM.Reason+st.Evidence.Code.Info().Hint, "replace-ak") || !strings.Contains(st.Evidence.Reason, "install that version") {
			t.Errorf("%+v", st)
		}
	})
}
