// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/platform"
)

func TestReadAuth(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name    string
		content string
		mode    os.FileMode
		ok      bool
	}{
		{"good", "secret", 0o600, true},
		{"read only", "secret", 0o400, true},
		{"for the group", "secret", 0o640, false},
		{"for all", "secret", 0o604, false},
		{"empty", "", 0o600, false},
		{"too long", string(make([]byte, maxAuth+1)), 0o600, false},
	} {
		path := filepath.Join(dir, c.name)
		if err := errors.Join(os.WriteFile(path, []byte(c.content), 0o600), os.Chmod(path, c.mode)); err != nil { // whatever the umask
			t.Fatal(err)
		}
		b, err := readAuth(path)
		if (err == nil) != c.ok || c.ok && string(b) != c.content {
			t.Errorf("%s: %q, %v", c.name, b, err)
		}
	}
	if b, err := readAuth(""); b != nil || err != nil {
		t.Errorf("no file: %q, %v", b, err)
	}
	if _, err := readAuth(filepath.Join(dir, "none")); err == nil {
		t.Error("a file that does not exist was read")
	}
}

func TestContents(t *testing.T) {
	for _, c := range []struct {
		b  []byte
		ok bool
	}{
		{[]byte{0, 2, 7, 8}, true},
		{[]byte{0, 0}, true},
		{nil, false},
		{[]byte{0}, false},
		{[]byte{0, 3, 7, 8}, false},
		{[]byte{0, 1, 7, 8}, false},
	} {
		got, err := contents("/credential", c.b)
		if (err == nil) != c.ok || c.ok && len(got) != len(c.b)-2 {
			t.Errorf("%x: %x, %v", c.b, got, err)
		}
		var field *api.FieldError
		if err != nil && (!errors.As(err, &field) || field.Where != "/credential") {
			t.Errorf("%x: error %v does not name the member", c.b, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("disk full"), false},
		{&refusal{errors.New("PCR 16")}, true},
		{fmt.Errorf("start: %w", &refusal{errors.New("PCR 16")}), true},
		{errors.Join(&config.Error{File: "c.toml", Err: errors.New("x")}), true},
	} {
		if Refused(c.err) != c.want {
			t.Errorf("%v: %v", c.err, !c.want)
		}
	}
}

// fake is a platform that does as it is told.
type fake struct {
	err     error
	stapled int
	closed  bool
}

func (f *fake) Kind() evidence.ReportKind { return evidence.ReportSNP }
func (f *fake) Report(context.Context, [64]byte) (platform.Report, error) {
	return platform.Report{}, f.err
}
func (f *fake) Staple(ders [][]byte) error { f.stapled = len(ders); return nil }
func (f *fake) Close() error               { f.closed = true; return nil }

// TestWatchedRemembers: status tells what the device did last, and what it ever did.
func TestWatchedRemembers(t *testing.T) {
	f := &fake{}
	w := &watched{open: func() (Platform, error) { return f, nil }}
	if err := w.staple([][]byte{{1}, {2}}); err != nil {
		t.Fatal(err)
	}
	report := func(err error) api.PlatformStatus {
		f.err = err
		w.Report(t.Context(), [64]byte{})
		return w.status()
	}
	if s := report(nil); s.State != api.StateOK || s.Kind != evidence.ReportSNP || f.stapled != 2 {
		t.Errorf("%+v with %d stapled", s, f.stapled)
	}
	if s := report(platform.ErrBusy); s.State != api.StateDegraded || s.Reason == "" {
		t.Errorf("%+v", s)
	}
	if s := report(context.Canceled); s.State != api.StateDegraded {
		t.Errorf("a caller that went away changed the state: %+v", s)
	}
	if s := report(nil); s.State != api.StateOK || s.LastError == "" {
		t.Errorf("%+v", s)
	}
	if err := w.close(); err != nil || !f.closed {
		t.Errorf("%v, closed %v", err, f.closed)
	}
	if _, err := w.Report(t.Context(), [64]byte{}); !errors.Is(err, platform.ErrAbsent) {
		t.Errorf("closed: %v", err)
	}
}

// TestWatchedWithoutDevice: no device is no crash, and not asked for at each request.
func TestWatchedWithoutDevice(t *testing.T) {
	opened := 0
	w := &watched{open: func() (Platform, error) {
		opened++
		return nil, fmt.Errorf("open /dev/sev-guest: %w", platform.ErrAbsent)
	}}
	for range 10 {
		if _, err := w.Report(t.Context(), [64]byte{}); !errors.Is(err, platform.ErrAbsent) {
			t.Fatal(err)
		}
	}
	if s := w.status(); opened != 1 || s.State != api.StateAbsent || s.Reason == "" || s.Kind != "" {
		t.Errorf("opened %d times, %+v", opened, s)
	}
}
