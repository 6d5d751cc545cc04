// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// unit is the unit that the benchmarks declare for themselves.
const unit = "bench.service"

// TestMain starts the benchmarks again with their unit declared in the environment: the
// agent reads the environment that the kernel keeps from the start of a process.
func TestMain(m *testing.M) {
	if os.Getenv(declared.Variable) == "" {
		err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), declared.Variable+"="+unit, declared.SystemdVariable+"=1"))
		panic(err)
	}
	os.Exit(m.Run())
}

// median returns the median time of n calls.
func median(b *testing.B, n int, f func() error) time.Duration {
	b.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		begin := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	return took[n/2]
}

// BenchmarkKeys measures derive, sign and unseal with warm roots, one request after the other, as
// multiples of the time of a plain status request (medians).
func BenchmarkKeys(b *testing.B) {
	m := withApp(b)
	c := m.Client()
	secret := make([]byte, 1024)
	rand.Read(secret)
	if _, err := c.Seal(b.Context(), api.SealRequest{Name: "token", Data: secret}); err != nil {
		b.Fatal(err)
	}
	status := func() error { _, err := c.Status(b.Context()); return err }
	sign := func(a api.SigningAlgorithm) func() error {
		return func() error {
			_, err := c.Sign(b.Context(), api.SignRequest{Label: "host", Algorithm: a, Message: secret[:64]})
			return err
		}
	}
	for _, x := range []struct {
		name string
		ask  func() error
	}{
		{"derive", func() error {
			_, err := c.Derive(b.Context(), api.DeriveRequest{Label: "disk", Length: 32})
			return err
		}},
		{"sign ed25519", sign(api.SignEd25519)},
		{"sign ecdsa-p256", sign(api.SignP256)},
		{"sign ecdsa-p384", sign(api.SignP384)},
		{"unseal", func() error {
			_, err := c.Unseal(b.Context(), api.UnsealRequest{Name: "token"})
			return err
		}},
		{"seal", func() error {
			_, err := c.Seal(b.Context(), api.SealRequest{Name: "token", Data: secret})
			return err
		}},
	} {
		b.Run(x.name, func(b *testing.B) {
			base := median(b, 200, status)
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				begin := time.Now()
				if err := x.ask(); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			p50 := took[len(took)/2]
			b.ReportMetric(float64(p50.Microseconds()), "p50-µs")
			b.ReportMetric(float64(p50)/float64(base), "x-status")
		})
	}
}

// withApp starts a machine on which the app "bench" is declared and measured, for as long as b runs.
func withApp(b *testing.B) *simulated.Machine {
	b.Helper()
	commands, done, err := simulated.Commands()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(done)
	dir := filepath.Join(b.TempDir(), "m")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte("[keys]\nwrites_per_minute = 60000\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	m, err := simulated.Start(commands, dir, "", "--declare-identity-without-checking")
	if err == simulated.ErrNoTPM {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Kill)
	program := filepath.Join(b.TempDir(), "program")
	if err := os.WriteFile(program, []byte("program"), 0o600); err != nil {
		b.Fatal(err)
	}
	if err := m.Declare("bench", program); err != nil {
		b.Fatal(err)
	}
	if _, err := m.Admin().Reload(b.Context()); err != nil {
		b.Fatal(err)
	}
	return m
}
