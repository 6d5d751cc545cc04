// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/store/tpmroot"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// patience is how long anything may take: tests share their processors.
const patience = 2 * time.Minute

// levels are how far the machine's TCB is above what agentd-sim calls usual.
type levels struct{ snp, microcode int }

// usual leaves room below.
var usual = levels{2, 2}

// bed is one simulated machine, on or off.
type bed struct {
	t     *testing.T
	dir   string
	raise levels   // of its TCB
	flags []string // more flags of agentd-sim
	tpm   string   // address of a TPM that runs on while the agent restarts; empty: one of its own
	m     *simulated.Machine
}

// newBed is a copy of the shared machine, switched off.
func newBed(t *testing.T) *bed {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts simulated machines: not with -short")
	case shared.commands == "":
		t.Skip(simulated.ErrNoTPM)
	}
	dir, err := os.MkdirTemp("", "agentd-out-") // a socket's path is short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bed{t: t, dir: filepath.Join(dir, "m"), raise: usual}
	must(t, os.CopyFS(b.dir, os.DirFS(shared.machine)))
	must(t, private(b.dir))
	must(t, b.install("billing", "ledger"))
	t.Cleanup(func() {
		if b.m != nil {
			b.m.Kill()
		}
	})
	return b
}

// private gives a copied machine the modes that it had: [os.CopyFS] applies the umask.
func private(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o700)
		} else if err == nil {
			err = os.Chmod(path, 0o600)
		}
		return err
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for what the agent does by itself.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

func (b *bed) args() []string {
	args := append([]string{
		"--declare-identity-without-checking",
		"--raise-tcb", strconv.Itoa(b.raise.snp), "--raise-microcode", strconv.Itoa(b.raise.microcode),
	}, b.flags...)
	if b.tpm != "" {
		args = append(args, "--tpm", b.tpm)
	}
	return args
}

// begin switches the machine on.
func (b *bed) begin() (err error) {
	b.m, err = simulated.Start(shared.commands, b.dir, "", b.args()...)
	return err
}

// install declares applications in the folder of the machine.
func (b *bed) install(apps ...string) error {
	for _, app := range apps {
		if err := os.WriteFile(b.program(app), []byte("one"), 0o600); err != nil {
			return err
		}
		if err := b.declare(app, app+".service", username()); err != nil {
			return err
		}
	}
	return nil
}

// on switches the machine on.
func (b *bed) on() {
	b.t.Helper()
	if b.m != nil {
		return
	}
	must(b.t, b.begin())
}

// off ends the agent at once, and waits until its TPM is off too.
func (b *bed) off() {
	b.t.Helper()
	if b.m == nil {
		return
	}
	b.m.Kill()
	b.m = nil
	if b.tpm == "" {
		b.locked()
	}
}

// stop ends the agent as systemd would.
func (b *bed) stop() {
	b.t.Helper()
	must(b.t, b.m.Stop())
	b.m = nil
}

// locked waits until no process uses the TPM's state: swtpm holds this lock until it ends.
func (b *bed) locked() {
	b.t.Helper()
	f, err := os.Open(filepath.Join(b.dir, "tpm", ".agentd-lock"))
	must(b.t, err)
	defer f.Close()
	until(b.t, "the TPM is off", func() bool {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			b.t.Fatal(err)
		}
		return err == nil
	})
	// Not only by closing it: a process that another test is about to start may have it still.
	must(b.t, unix.Flock(int(f.Fd()), unix.LOCK_UN))
}

// withTPM does something to the TPM of a machine that is off.
func (b *bed) withTPM(f func(*swtpm.TPM)) {
	b.t.Helper()
	b.off()
	tpm := swtpm.Start(b.t, swtpm.WithDir(filepath.Join(b.dir, "tpm")))
	f(tpm)
	must(b.t, tpm.Process().Close())
}

// keepTPM runs the machine's TPM from now on by itself, so that the agent restarts
// without a boot.
func (b *bed) keepTPM() *swtpm.TPM {
	b.t.Helper()
	b.off()
	tpm := swtpm.Start(b.t, swtpm.WithDir(filepath.Join(b.dir, "tpm")))
	b.booted()
	b.tpm = tpm.Listen().Address()
	return tpm
}

// booted empties what a machine loses when it boots, as agentd-sim does for a TPM of its own.
func (b *bed) booted() {
	b.t.Helper()
	must(b.t, os.RemoveAll(filepath.Join(b.dir, "log")))
}

// counter does something with the counter of the store, as any program can that reads the
// agent's files.
func (b *bed) counter(f func(root *tpmroot.TPM, record []byte) error) {
	b.t.Helper()
	b.withTPM(func(tpm *swtpm.TPM) {
		record, err := os.ReadFile(filepath.Join(b.sealed(), "counter.planned"))
		must(b.t, err)
		must(b.t, f(&tpmroot.TPM{Device: direct{tpm}}, record))
	})
}

// direct gives each sequence the TPM itself: there is no second user.
type direct struct{ transport.TPM }

func (d direct) Do(_ context.Context, f func(transport.TPM) error) error { return f(d.TPM) }

func (b *bed) sealed() string                { return filepath.Join(b.dir, "state", "sealed") }
func (b *bed) program(app string) string     { return filepath.Join(b.dir, app+".program") }
func (b *bed) declaration(app string) string { return filepath.Join(b.dir, "apps.d", app+".toml") }
func (b *bed) upgrade(app, text string)      { must(b.t, os.WriteFile(b.program(app), []byte(text), 0o600)) }
func (b *bed) redeclare(unit, user string)   { must(b.t, b.declare("billing", unit, user)) }
func (b *bed) declare(app, unit, user string) error {
	text := fmt.Sprintf("unit = %q\nuser = %q\nfiles = [%q]\n", unit, user, b.program(app))
	return os.WriteFile(b.declaration(app), []byte(text), 0o600)
}

// username is who runs the tests.
func username() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Geteuid())
}

func contractOf(b []byte) (c api.Contract, err error) {
	return c, strictjson.DecodeHex(b, len(b), &c)
}

// store is the list of sealed blobs, and the state of the store.
func (b *bed) store() *api.Store {
	b.t.Helper()
	a := b.m.Admin()
	defer a.Close()
	s, err := a.Store(b.t.Context())
	must(b.t, err)
	return s
}

// digest is what an application is measured as, once it is.
func (b *bed) digest(app string) (digest string) {
	b.t.Helper()
	b.on()
	until(b.t, app+" is measured", func() bool {
		a := b.app(app)
		if a.State == api.AppMeasured {
			digest = fmt.Sprintf("%x", a.Digest[:])
		}
		return digest != ""
	})
	return digest
}

func (b *bed) app(name string) api.App {
	b.t.Helper()
	admin := b.m.Admin()
	defer admin.Close()
	list, err := admin.Apps(b.t.Context())
	must(b.t, err)
	for _, a := range list {
		if a.Name == name {
			return a
		}
	}
	b.t.Fatalf("no application %s", name)
	return api.App{}
}
