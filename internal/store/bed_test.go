// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/store/tpmroot"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/test/swtpm"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// bed is a whole machine: software SNP platform, a TPM, durable files.
type bed struct {
	t       *testing.T
	soft    soft.Options
	faults  soft.Faults
	tpm     *swtpm.TPM // nil: none
	path    string
	config  store.Config
	ids     *store.Identities
	counter []byte // record of the last counter that was planned
	dir     *durable.Dir

	running  *soft.Platform
	launched soft.Options // of running
}

func newBed(t *testing.T) *bed {
	b := &bed{t: t, tpm: swtpm.Start(t), path: filepath.Join(t.TempDir(), "state")}
	b.soft.ChipSecret = slices.Repeat([]byte{1}, 32)
	b.soft.CommittedTCB = 0xd1_14_00_00_00_00_00_03
	b.soft.TCB = b.soft.CommittedTCB
	recipient, ids := identity(t)
	b.config.Recipients, b.ids = []string{recipient}, ids
	if err := os.Mkdir(b.path, 0o700); err != nil {
		t.Fatal(err)
	}
	return b
}

// direct gives each sequence the TPM itself: a test has no second user.
type direct struct{ transport.TPM }

func (d direct) Do(_ context.Context, f func(transport.TPM) error) error { return f(d.TPM) }

// recording remembers the record of a planned counter.
type recording struct {
	store.TPM
	bed *bed
}

func (r recording) PlanCounter(ctx context.Context) ([]byte, error) {
	record, err := r.TPM.PlanCounter(ctx)
	r.bed.counter = record
	return record, err
}

func (b *bed) root() *tpmroot.TPM { return &tpmroot.TPM{Device: direct{b.tpm}} }

// durableFiles are files as the daemon keeps them.
type durableFiles struct {
	*durable.Dir
	path string
}

func (d durableFiles) WriteDurable(name string, b []byte) error { return d.Replace(name, b) }

func (d durableFiles) List() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (d durableFiles) Remove(name string) error { return os.Remove(filepath.Join(d.path, name)) }

// open starts the daemon's part: everything below was closed before.
func (b *bed) open() *store.Store {
	b.t.Helper()
	if b.dir != nil {
		b.dir.Close()
	}
	dir, err := durable.Open(b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	b.dir = dir
	b.t.Cleanup(func() { dir.Close() })
	c := b.config
	c.Files = durableFiles{dir, b.path}
	if b.tpm != nil {
		c.TPM = recording{b.root(), b}
	}
	p := b.launch()
	p.SetFaults(b.faults)
	c.Platform = p
	s, err := store.Open(b.t.Context(), c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(s.Close)
	return s
}

// launch launches the guest, or goes on with one that was launched alike: certificates
// cost more than all of sealing.
func (b *bed) launch() *soft.Platform {
	b.t.Helper()
	if b.running != nil && reflect.DeepEqual(b.launched, b.soft) {
		return b.running
	}
	p, err := soft.New(b.soft)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.Close() })
	b.running, b.launched = p, b.soft
	b.launched.ChipSecret = slices.Clone(b.soft.ChipSecret)
	return p
}

// snapshot copies the files; the result puts them back, and takes away what came since.
func (b *bed) snapshot() (restore func()) {
	kept := b.read()
	return func() {
		for name := range b.read() {
			if err := os.Remove(filepath.Join(b.path, name)); err != nil {
				b.t.Fatal(err)
			}
		}
		for name, content := range kept {
			b.write(name, content)
		}
	}
}

func (b *bed) read() map[string][]byte {
	b.t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(b.path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		out[d.Name()] = content
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bed) write(name string, content []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.path, name), content, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// file finds the blob of a secret, or of an app's root, by what its header claims.
func (b *bed) file(app, name string) (string, []byte) {
	b.t.Helper()
	for file, content := range b.read() {
		blob, err := sealing.ParseBlob(content)
		if err == nil && strings.HasPrefix(file, "blob-") && blob.Claimed.App.Name == app && blob.Claimed.Name == name {
			return file, content
		}
	}
	b.t.Fatalf("no blob of app %s and name %q", app, name)
	return "", nil
}

// field is the place of a field in a blob, found by the specification alone.
type field struct {
	tag        uint16
	start, end int // with tag, length and checksum
}

func (f field) value(b []byte) []byte { return b[f.start+6 : f.end-4] }

// fields walks a blob as docs/sealing.md describes it.
func fields(t testing.TB, b []byte) []field {
	t.Helper()
	var out []field
	for at := 24; at < len(b); {
		size := int(binary.BigEndian.Uint32(b[at+2:]))
		f := field{tag: binary.BigEndian.Uint16(b[at:]), start: at, end: at + 6 + size + 4}
		if f.end > len(b) {
			t.Fatalf("field at %d goes past the end", at)
		}
		out = append(out, f)
		at = f.end
	}
	return out
}

// sum appends the checksum of b.
func sum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// withPrelude puts a prelude with the right length and checksum in front.
func withPrelude(magic string, rest []byte) []byte {
	return append(sum(binary.BigEndian.AppendUint32([]byte(magic), uint32(24+len(rest)))), rest...)
}

// rebuild puts fields with other values together, every checksum and length right.
func rebuild(tags []uint16, values [][]byte) []byte {
	var rest []byte
	for i, v := range values {
		f := binary.BigEndian.AppendUint16(nil, tags[i])
		f = binary.BigEndian.AppendUint32(f, uint32(len(v)))
		rest = append(rest, sum(append(f, v...))...)
	}
	return withPrelude("agentd/sealed/2\n", rest)
}

// change rebuilds blob b after f was given its tags and values.
func change(t testing.TB, b []byte, f func(value func(tag uint16) *[]byte)) []byte {
	t.Helper()
	var tags []uint16
	var values [][]byte
	for _, x := range fields(t, b) {
		tags, values = append(tags, x.tag), append(values, slices.Clone(x.value(b)))
	}
	f(func(tag uint16) *[]byte {
		i := slices.Index(tags, tag)
		if i < 0 {
			t.Fatalf("no field %d", tag)
		}
		return &values[i]
	})
	return rebuild(tags, values)
}

// tcb is what the firmware is committed to from the next start on.
func (b *bed) tcb(v snp.TCB) { b.soft.CommittedTCB, b.soft.TCB = v, v }
