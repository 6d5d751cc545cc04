// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
)

func request(f evidence.Freshness) api.EvidenceRequest {
	return api.EvidenceRequest{Nonce: newNonce(), Freshness: f, Log: api.LogNone}
}

func newNonce() []byte {
	nonce := make([]byte, 32)
	rand.Read(nonce) // never fails
	return nonce
}

// BenchmarkEvidence measures requests for evidence, one after the other and 64 at once, as
// multiples of the time of a plain status request on the same machine.
func BenchmarkEvidence(b *testing.B) {
	m := busyMachine(b)
	status := time.Duration(0)
	{
		c := m.Client()
		const rounds = 200
		begin := time.Now()
		for range rounds {
			if _, err := c.Status(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		status = time.Since(begin) / rounds
	}
	for _, f := range []evidence.Freshness{evidence.Fresh, evidence.Anchored} {
		b.Run(string(f)+"/clients=1", func(b *testing.B) {
			c := m.Client()
			for b.Loop() {
				if _, err := c.Evidence(b.Context(), request(f)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(status), "x-status")
		})
		b.Run(string(f)+"/clients=64", func(b *testing.B) {
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			b.ResetTimer()
			for range 64 {
				all.Go(func() {
					c := &client.Client{Socket: m.Socket()}
					defer c.Close()
					for left.Add(-1) >= 0 {
						if _, err := c.Evidence(b.Context(), request(f)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "evidence/s")
		})
	}
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(rss(b, m.PID()), "MB-RSS")
		b.ReportMetric(0, "ns/op")
	})
}
