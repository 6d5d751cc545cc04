// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
)

func certificate(t *testing.T, serial int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func encode(ders ...[]byte) []byte {
	var b bytes.Buffer
	for _, der := range ders {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.Bytes()
}

func TestStapledCertificates(t *testing.T) {
	one, two, three := certificate(t, 1), certificate(t, 2), certificate(t, 3)
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"a.pem":      encode(one, two),
		"b.DER":      three,
		"c.crt":      encode(one), // again
		"d.pem":      []byte("not a certificate"),
		"e.cer":      bytes.Repeat([]byte("x"), maxCertificateFile+1),
		"README.txt": []byte("ignored without a word"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// A FIFO must not hold up the start of the daemon.
	if err := unix.Mkfifo(filepath.Join(dir, "f.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, errs := loadCertificates(dir)
	if len(got) != 3 || !bytes.Equal(got[0], one) || !bytes.Equal(got[1], two) || !bytes.Equal(got[2], three) {
		t.Errorf("got %d certificates, want the three in the order of the files", len(got))
	}
	if len(errs) != 3 {
		t.Fatalf("got errors %v, want one for each of d.pem, e.cer and f.pem", errs)
	}
	for i, name := range []string{"d.pem", "e.cer", "f.pem"} {
		if !strings.Contains(errs[i].Error(), name) {
			t.Errorf("error %q does not name %s", errs[i], name)
		}
	}
}

func TestStapledCertificatesAreCapped(t *testing.T) {
	dir := t.TempDir()
	for i := range int64(evidence.MaxCertificates + 1) {
		name := filepath.Join(dir, string(rune('a'+i))+".pem")
		if err := os.WriteFile(name, encode(certificate(t, i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, errs := loadCertificates(dir)
	if len(got) != evidence.MaxCertificates || len(errs) != 1 {
		t.Errorf("got %d certificates and errors %v, want %d and one", len(got), errs, evidence.MaxCertificates)
	}
}

func TestNoStapledCertificates(t *testing.T) {
	if got, errs := loadCertificates(filepath.Join(t.TempDir(), "none")); got != nil || errs != nil {
		t.Errorf("got %v, %v", got, errs)
	}
}

// TestForeignCertificates: what another user may change is ignored and reported, and the
// rest of the folder stays usable.
func TestForeignCertificates(t *testing.T) {
	good, other := certificate(t, 1), certificate(t, 2)
	chmod := func(mode os.FileMode) func(t *testing.T, path string) error {
		return func(_ *testing.T, path string) error { return os.Chmod(path, mode) }
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, path string) error // of the other file, or of the folder
		folder bool
		root   bool // takes root to set up
		says   string
	}{
		{name: "group writable", change: chmod(0o664), says: "chmod go-w"},
		{name: "world writable", change: chmod(0o646), says: "chmod go-w"},
		{name: "a link", change: func(t *testing.T, path string) error {
			elsewhere := filepath.Join(t.TempDir(), "real.pem")
			return errors.Join(os.Rename(path, elsewhere), os.Symlink(elsewhere, path))
		}, says: "symbolic link"},
		{name: "of another user", change: func(_ *testing.T, path string) error { return os.Chown(path, 12345, 12345) }, root: true, says: "belongs to user 12345"},
		{name: "folder world writable", change: chmod(0o777), folder: true, says: "chmod go-w"},
		{name: "folder of another user", change: func(_ *testing.T, path string) error { return os.Chown(path, 12345, 12345) }, folder: true, root: true, says: "belongs to user 12345"},
		{name: "folder is a link", change: func(_ *testing.T, path string) error {
			return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
		}, folder: true, says: "not be a link"},
		{name: "too many files", change: func(_ *testing.T, path string) (err error) {
			for i := range maxCertificateFiles {
				err = errors.Join(err, os.WriteFile(filepath.Join(path, fmt.Sprint(i)), nil, 0o600))
			}
			return err
		}, folder: true, says: "more than 64 files"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			dir := filepath.Join(t.TempDir(), "certs")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, der := range map[string][]byte{"a.der": good, "b.der": other} {
				if err := os.WriteFile(filepath.Join(dir, name), der, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			path, want := filepath.Join(dir, "b.der"), 1
			if c.folder {
				path, want = dir, 0
			}
			if err := c.change(t, path); err != nil {
				t.Fatal(err)
			}
			got, errs := loadCertificates(dir)
			if len(got) != want || len(errs) != 1 || !strings.Contains(errs[0].Error(), c.says) || !strings.Contains(errs[0].Error(), dir) {
				t.Errorf("%d certificates, %v; want %d and %q", len(got), errs, want, c.says)
			}
			if want == 1 && len(got) == 1 && !bytes.Equal(got[0], good) {
				t.Error("the other one is used")
			}
		})
	}
}
