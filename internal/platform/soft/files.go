// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// What an authority and a chip keep in their folder: PEM files, and the chip's
// secret. Mode 0600 in a folder of mode 0700, though none of it protects anything.

func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of the software platform: %w", err)
	}
	return nil
}

// key returns the key of r: from memory, from the folder, or new. The caller holds a.mu.
func (a *Authority) key(r role) (*rsa.PrivateKey, error) {
	if k := a.keys[r]; k != nil {
		return k, nil
	}
	name := string(r) + "-key.pem"
	block, err := a.read(name, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	if block != nil {
		k, err := x509.ParsePKCS8PrivateKey(block)
		rk, ok := k.(*rsa.PrivateKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("key of the test root %s: not an RSA key (%v): remove the folder to make a new root", filepath.Join(a.dir, name), err)
		}
		a.keys[r] = rk
		return rk, nil
	}
	k, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("make key of the test root: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	a.keys[r] = k
	return k, a.store(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// load returns the certificate kept under id, nil if there is none.
func (a *Authority) load(id string) (*x509.Certificate, error) {
	block, err := a.read(id+".pem", "CERTIFICATE")
	if block == nil || err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(block)
	if err != nil {
		return nil, fmt.Errorf("certificate of the test root %s: %w", filepath.Join(a.dir, id+".pem"), err)
	}
	return c, nil
}

func (a *Authority) read(name, kind string) ([]byte, error) {
	if a.dir == "" {
		return nil, nil
	}
	b, err := os.ReadFile(filepath.Join(a.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read test root: %w", err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != kind || len(rest) != 0 {
		return nil, fmt.Errorf("test root file %s: want one PEM block %q: remove the folder to make a new root", filepath.Join(a.dir, name), kind)
	}
	return block.Bytes, nil
}

func (a *Authority) store(name string, b []byte) error {
	if a.dir == "" {
		return nil
	}
	return durable.WriteFile(filepath.Join(a.dir, name), b, 0o600)
}

// loadSecret returns the secret of 32 bytes that dir keeps under name ("chip" or "launch"),
// made if there is none.
func loadSecret(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		b = make([]byte, secretSize)
		rand.Read(b)
		return b, durable.WriteFile(path, b, 0o600)
	case err != nil:
		return nil, fmt.Errorf("read %s of the software platform: %w", name, err)
	case len(b) != secretSize:
		return nil, fmt.Errorf("%s of the software platform %s: %d bytes, want %d: remove it for a new %s", name, path, len(b), secretSize, name)
	}
	return b, nil
}

// launchSecret returns the secret of this launch, which the folder keeps.
func (o *Options) launchSecret() ([]byte, error) {
	if o.Directory == "" {
		b := make([]byte, secretSize)
		rand.Read(b)
		return b, nil
	}
	if !o.SameLaunch {
		if err := os.Remove(filepath.Join(o.Directory, "launch")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("end the launch before: %w", err)
		}
	}
	return loadSecret(o.Directory, "launch")
}

// UsualTCB returns one as current machines of p report it.
func UsualTCB(p snp.Product) snp.TCB {
	switch p {
	case snp.Turin:
		return 0x4d00000004010101 // fmc 1, bootloader 1, tee 1, snp 4, microcode 0x4d
	case snp.Genoa:
		return 0x541700000000000a // bootloader 10, snp 0x17, microcode 0x54
	}
	return 0xdb18000000000004 // bootloader 4, snp 0x18, microcode 0xdb
}
