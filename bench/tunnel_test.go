// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
)

// A way leads to the server of serveBytes.
type way struct {
	name    string
	address string
}

func (w way) open() (net.Conn, error) { return net.Dial("tcp", w.address) }

// relay passes connections on, each to one that dial opens.
func relay(b *testing.B, l net.Listener, dial dial) string {
	b.Helper()
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer from.Close()
				to, err := dial()
				if err != nil {
					return
				}
				defer to.Close()
				go func() {
					io.Copy(to, from)
					to.Close()
				}()
				io.Copy(from, to)
			}()
		}
	}()
	return l.Addr().String()
}

// ways starts tunnels to one server: ours, continuing evidence and with a quote for each connection,
// stunnel with and without resumption of sessions, and two relays in this process that use crypto/tls
// and nothing else.
func ways(b *testing.B, m *simulated.Machine) []way {
	b.Helper()
	stunnel, err := servers.Find("stunnel")
	if err != nil {
		b.Skip(err)
	}
	commands, done, err := simulated.Commands()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(done)
	l := listenOn(b)
	serveBytes(b, l)
	to := l.Addr().String()
	roots, certificate := relying.Leaf(b, "server.example")
	server := tls.NewListener(listenOn(b), &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	serve := relay(b, server, func() (net.Conn, error) { return net.Dial("tcp", to) })
	plain := relay(b, listenOn(b), func() (net.Conn, error) {
		return tls.Dial("tcp", serve, &tls.Config{RootCAs: roots, ServerName: "server.example", MinVersion: tls.VersionTLS13})
	})
	on := servers.Machine{Machine: m, Commands: commands}
	return []way{
		{"tunnel", on.Tunnel(b, to, servers.Options{AnyCaller: true, Connect: "continue = \"10m\"\n"}).Connect.Address},
		{"tunnel-quotes", on.Tunnel(b, to, servers.Options{AnyCaller: true}).Connect.Address},
		{"stunnel", servers.StartStunnel(b, stunnel, certificate, to, true)},
		{"stunnel-full", servers.StartStunnel(b, stunnel, certificate, to, false)},
		{"go-tls", plain},
	}
}

// reportWays reports a figure of each way, and that of the first as a multiple of the others.
func reportWays(b *testing.B, all []way, unit string, figures []float64) {
	b.Helper()
	for i, w := range all {
		b.ReportMetric(figures[i], unit+"-"+w.name)
		if i > 0 {
			b.ReportMetric(figures[0]/figures[i], "x-"+w.name)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkTunnel measures `agentctl tunnel` beside stunnel and relays with crypto/tls, in turns of
// one run: how long a new connection takes until the first byte of an answer, with an anchor at
// hand, and how much comes through an open one.
func BenchmarkTunnel(b *testing.B) {
	m := busyMachine(b)
	for _, atOnce := range []int{1, 16} {
		b.Run(fmt.Sprintf("new/clients=%d", atOnce), func(b *testing.B) {
			all := ways(b, m)
			took := make([][]time.Duration, len(all))
			for _, w := range all {
				opened(b, w.open, 10, 1) // the anchor is made, and chains are known
			}
			for b.Loop() {
				for i, w := range all {
					took[i] = append(took[i], opened(b, w.open, 20*atOnce, atOnce)...)
				}
			}
			figures := make([]float64, len(all))
			for i := range all {
				figures[i] = middle(took[i]).Seconds() * 1000
			}
			reportWays(b, all, "ms-p50", figures)
		})
	}
	b.Run("throughput", func(b *testing.B) {
		all := ways(b, m)
		open := make([]net.Conn, len(all))
		for i, w := range all {
			var err error
			if open[i], err = w.open(); err != nil {
				b.Fatal(err)
			}
			defer open[i].Close()
		}
		const size = 27 // 128 MiB
		took := make([]time.Duration, len(all))
		for b.Loop() {
			for i, c := range open {
				begin := time.Now()
				if err := receive(c, size); err != nil {
					b.Fatal(err)
				}
				took[i] += time.Since(begin)
			}
		}
		figures := make([]float64, len(all))
		for i := range all {
			figures[i] = float64(b.N) * (1 << size) / 1e6 / took[i].Seconds()
		}
		reportWays(b, all, "MB/s", figures)
	})
}
