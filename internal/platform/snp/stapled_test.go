package snp_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
)

func TestReadStapled(t *testing.T) {
	p := machine(t, soft.Options{})
	der := p.Endorsement()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	put := func(name string, b []byte, mode os.FileMode) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		setup func(t *testing.T, dir string)
		n     int
		want  string // part of the error
	}{
		{"empty", func(*testing.T, string) {}, 0, ""},
		{"DER", put("a.der", der, 0o644), 1, ""},
		{"PEM of two", put("a.pem", append(bytes.Clone(text), text...), 0o644), 2, ""},
		{"other names are passed over", put("README", []byte("hello"), 0o644), 0, ""},
		{"PEM in a .der file", put("a.der", text, 0o644), 1, ""},
		{"not a certificate", put("a.pem", []byte("hello"), 0o644), 0, "a.pem: certificate"},
		{"empty file", put("a.der", nil, 0o644), 0, "a.der: certificate"},
		{"group writable", put("a.der", der, 0o664), 0, "chmod go-w"},
		{"world writable", put("a.der", der, 0o646), 0, "chmod go-w"},
		{"folder world writable", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777)) }, 0, "chmod go-w"},
		{"link", func(t *testing.T, dir string) { must(t, os.Symlink("/etc/hostname", filepath.Join(dir, "a.pem"))) }, 0, "symbolic link"},
		{"FIFO", func(t *testing.T, dir string) { must(t, unix.Mkfifo(filepath.Join(dir, "a.pem"), 0o600)) }, 0, "regular file"},
		{"folder as file", func(t *testing.T, dir string) { must(t, os.Mkdir(filepath.Join(dir, "a.pem"), 0o700)) }, 0, "regular file"},
		{"sparse terabyte", func(t *testing.T, dir string) {
			put("a.pem", nil, 0o600)(t, dir)
			must(t, os.Truncate(filepath.Join(dir, "a.pem"), 1<<40))
		}, 0, "at most"},
		{"seventeen", func(t *testing.T, dir string) {
			put("a.pem", bytes.Repeat(text, 16), 0o600)(t, dir)
			put("b.pem", text, 0o600)(t, dir)
		}, 0, "more than 16 certificates"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "certs")
			must(t, os.Mkdir(dir, 0o755))
			c.setup(t, dir)
			got, err := snp.ReadStapled(dir)
			if len(got) != c.n || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%d certificates, %v; want %d and %q", len(got), err, c.n, c.want)
			}
		})
	}
	if got, err := snp.ReadStapled(filepath.Join(t.TempDir(), "none")); got != nil || err != nil {
		t.Errorf("no folder: %v, %v", got, err)
	}
	if os.Geteuid() == 0 {
		dir := filepath.Join(t.TempDir(), "certs")
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.Chown(dir, 12345, 12345))
		if _, err := snp.ReadStapled(dir); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
			t.Errorf("somebody else's folder: %v", err)
		}
	}
}

// case 43: with the host's table gone, the stapled certificates still travel; with
// it there, none travels twice.
func TestStapledCertificates(t *testing.T) {
	p := machine(t, soft.Options{})
	issuer, err := p.Intermediate()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Staple([][]byte{p.Endorsement(), issuer.Raw}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		faults soft.Faults
		n      int
	}{{soft.Faults{}, 3}, {soft.Faults{GarbageTable: true}, 2}, {soft.Faults{NoTable: true}, 2}} {
		p.SetFaults(c.faults)
		got, err := p.Report(context.Background(), [64]byte{})
		if err != nil || len(got.Certificates) != c.n || !bytes.Equal(got.Certificates[0], p.Endorsement()) {
			t.Errorf("%+v: %d certificates, %v; want %d", c.faults, len(got.Certificates), err, c.n)
		}
	}
	if err := p.Staple(make([][]byte, 17)); err == nil {
		t.Error("17 certificates are stapled")
	}
}
