// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// patience is how long anything may take: tests share their processors.
const patience = 2 * time.Minute

// Images of the machines.
const (
	imageA = "A" // old
	imageB = "B" // its successor
	imageC = "C" // an attacker's
)

// measurement is the launch measurement of an image.
func measurement(image string) string {
	return fmt.Sprintf("%x", sha512.Sum384([]byte("agentd-sim launch: "+image)))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// machine is a simulated machine, on or off.
type machine struct {
	t     *testing.T
	dir   string
	flags []string
	m     *simulated.Machine
}

// releases signs releases.
type releases struct {
	private ed25519.PrivateKey
	file    []byte // of the public half
}

func newReleases(t testing.TB) *releases {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	return &releases{private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

// release is a signed statement.
func (r *releases) release(t testing.TB, number uint64, until time.Time, policy string) api.PrepareRequest {
	t.Helper()
	b, err := strictjson.Encode(transfer.Release{Type: transfer.ReleaseType, Number: number, NotAfter: until.UTC().Format("2006-01-02T15:04:05Z"), Policy: policy})
	must(t, err)
	return api.PrepareRequest{Release: b, Signature: ed25519.Sign(r.private, b), ValidFor: 3600}
}

// policy lists images, and is for the simulator otherwise.
func policy(images ...string) string {
	text := "version = 1\nproducts = [\"milan\"]\n"
	for _, image := range images {
		text += fmt.Sprintf("[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = \"firmware\"\n", measurement(image))
	}
	return text
}

// newMachine is a machine that is off, on a chip of its own, under a root that all share.
func newMachine(t *testing.T, chip byte, config string) *machine {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts simulated machines: not with -short")
	case shared.commands == "":
		t.Skip(simulated.ErrNoTPM)
	}
	base, err := os.MkdirTemp("", "agentd-up-") // a socket's path is short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	x := &machine{t: t, dir: filepath.Join(base, "m")}
	must(t, os.MkdirAll(filepath.Join(x.dir, "apps.d"), 0o700))
	must(t, os.CopyFS(filepath.Join(x.dir, "platform"), os.DirFS(shared.platform)))
	must(t, os.Chmod(filepath.Join(x.dir, "platform"), 0o700))
	_ = os.Remove(filepath.Join(x.dir, "platform", "launch"))
	must(t, os.WriteFile(filepath.Join(x.dir, "platform", "chip"), bytes.Repeat([]byte{chip}, 32), 0o600))
	must(t, os.WriteFile(filepath.Join(x.dir, "config.toml"), []byte(config), 0o600))
	must(t, os.WriteFile(filepath.Join(base, "program"), []byte("one"), 0o600))
	for _, app := range []string{"billing", "ledger"} {
		text := fmt.Sprintf("unit = \"%s.service\"\nuser = %q\nfiles = [%q]\n", app, fmt.Sprint(os.Geteuid()), filepath.Join(base, "program"))
		must(t, os.WriteFile(filepath.Join(x.dir, "apps.d", app+".toml"), []byte(text), 0o600))
	}
	t.Cleanup(x.off)
	return x
}

// on launches an image.
func (x *machine) on(image string, flags ...string) *client.Admin {
	x.t.Helper()
	x.off()
	args := append([]string{"--declare-identity-without-checking", "--launch", image}, append(x.flags, flags...)...)
	var err error
	x.m, err = simulated.Start(shared.commands, x.dir, "", args...)
	must(x.t, err)
	a := x.m.Admin()
	x.t.Cleanup(a.Close)
	return a
}

// off ends the machine at once, and waits until its TPM is off too.
func (x *machine) off() {
	if x.m == nil {
		return
	}
	must(x.t, x.m.Off())
	x.m = nil
}

// until waits for what happens by itself.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// as runs agentctl as a process of an app.
func (x *machine) as(app, input string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), append(args, "--socket", x.m.Socket(), "--admin", x.m.AdminSocket())...)
	cmd.Env = append(os.Environ(), declared.Variable+"="+app+".service")
	cmd.Stdin = strings.NewReader(input)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("agentctl %v: %w: %s", args, err, stderr.String())
	}
	return string(out), err
}

// secrets are what apps have.
type secrets struct{ derived, older, public, stored string }

// store gives the apps of a machine secrets.
func (x *machine) store() secrets {
	x.t.Helper()
	_, err := x.as("billing", "hunter2", "seal", "--name", "token", "-")
	must(x.t, err)
	_, err = x.as("billing", "", "key", "derive", "--label", "disk", "--length", "32")
	must(x.t, err)
	_, err = x.as("", "", "key", "rotate", "billing")
	must(x.t, err)
	s, err := x.secrets()
	must(x.t, err)
	if s.stored != "hunter2" || s.derived == s.older {
		x.t.Fatalf("secrets %+v", s)
	}
	return s
}

// secrets asks for them.
func (x *machine) secrets() (s secrets, err error) {
	var errs [4]error
	s.derived, errs[0] = x.as("billing", "", "key", "derive", "--label", "disk", "--length", "32")
	s.older, errs[1] = x.as("billing", "", "key", "derive", "--label", "disk", "--length", "32", "--version", "1")
	s.public, errs[2] = x.as("billing", "", "key", "public", "--key", "host:ecdsa-p256:1")
	s.stored, errs[3] = x.as("billing", "", "unseal", "--name", "token")
	return s, errors.Join(errs[:]...)
}

// same checks that the apps have what they had.
func (x *machine) same(want secrets) {
	x.t.Helper()
	got, err := x.secrets()
	if err != nil || got != want {
		x.t.Fatalf("the apps have other secrets than before: %v\n%s", err, x.m.Output())
	}
}

// refusedBy checks the code of an error.
func refusedBy(t testing.TB, what string, err error, code api.Code) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}
