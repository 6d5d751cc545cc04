// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// sealedBlobs is the number of secrets of the machine with many.
const sealedBlobs = 2000

// BenchmarkStartWithSealedBlobs measures the time from exec until the store answers, in
// turn with many sealed blobs and without any. For comparison it reports the time to open
// every blob: their number times the median time to unseal one over the socket.
func BenchmarkStartWithSealedBlobs(b *testing.B) {
	commands, done, err := simulated.Commands()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(done)
	dir := b.TempDir()
	platform := filepath.Join(dir, "none", "platform")
	none, _ := storeStart(b, commands, filepath.Join(dir, "none"), "")
	stop(b, none)
	many, _ := storeStart(b, commands, filepath.Join(dir, "many"), platform)
	secret := make([]byte, 64)
	rand.Read(secret)
	for i := range sealedBlobs {
		if _, err := many.Client().Seal(b.Context(), api.SealRequest{Name: fmt.Sprint(i), Data: secret}); err != nil {
			b.Fatal(err)
		}
	}
	one := median(b, 100, func() error {
		_, err := many.Client().Unseal(b.Context(), api.UnsealRequest{Name: "7"})
		return err
	})
	stop(b, many)

	var without, with []time.Duration
	for b.Loop() {
		m, took := storeStart(b, commands, filepath.Join(dir, "none"), platform)
		stop(b, m)
		without = append(without, took)
		m, took = storeStart(b, commands, filepath.Join(dir, "many"), platform)
		if s, err := m.Admin().Store(b.Context()); err != nil || s.Status.Blobs < sealedBlobs {
			b.Fatalf("%+v, %v", s, err)
		}
		stop(b, m)
		with = append(with, took)
	}
	slices.Sort(without)
	slices.Sort(with)
	x, y := without[len(without)/2], with[len(with)/2]
	b.ReportMetric(float64(x.Microseconds())/1000, "ms/none")
	b.ReportMetric(float64(y.Microseconds())/1000, fmt.Sprintf("ms/%d-blobs", sealedBlobs))
	b.ReportMetric(float64(y)/float64(x), "x-none")
	b.ReportMetric(float64(sealedBlobs*one)/float64(y-x), "x-cheaper-than-opening-all")
	b.ReportMetric(0, "ns/op")
}

// storeStart starts a machine with one application, and returns when its store is open.
func storeStart(b *testing.B, commands, dir, platform string) (*simulated.Machine, time.Duration) {
	b.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "apps.d"), 0o700); err != nil {
		b.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	files := map[string]string{
		program:                                 "program",
		filepath.Join(dir, "config.toml"):       fmt.Sprintf("[keys]\nsecrets_per_app = %d\nwrites_per_minute = 65536\n", sealedBlobs),
		filepath.Join(dir, "apps.d/bench.toml"): fmt.Sprintf("unit = %q\nuser = \"root\"\nfiles = [%q]\n", unit, program),
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	begin := time.Now()
	m, err := simulated.Start(commands, dir, platform, "--declare-identity-without-checking")
	if err == simulated.ErrNoTPM {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Kill)
	for {
		s, err := m.Client().Status(b.Context())
		switch {
		case err != nil:
			b.Fatal(err)
		case s.Keys.State == api.StateOK:
			return m, time.Since(begin)
		case time.Since(begin) > 5*time.Minute:
			b.Fatalf("the store is not open: %s", s.Keys.Reason)
		}
		time.Sleep(time.Millisecond)
	}
}

func stop(b *testing.B, m *simulated.Machine) {
	b.Helper()
	if err := m.Stop(); err != nil {
		b.Fatal(err)
	}
}
