// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
)

// dial opens one connection that is ready for the application.
type dial func() (net.Conn, error)

// kinds of connections to one kind of server: it sends as much as a client asks for in one byte, as a
// power of two. Continued ones rest on the evidence of an earlier connection.
const (
	plain = iota
	attested
	continued
	plainMutual // clients have certificates
	mutual
	kinds
)

var kindNames = [kinds]string{"plain", "attested", "continued", "plain-mutual", "mutual-continued"}

// beside is the kind that each is compared with.
var beside = [kinds]int{attested: plain, continued: plain, mutual: plainMutual}

type connections [kinds]dial

// serveBytes answers each byte n of a connection with 2^n bytes.
func serveBytes(b *testing.B, l net.Listener) {
	b.Helper()
	b.Cleanup(func() { l.Close() })
	zeros := make([]byte, 64<<10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var n [1]byte
				for {
					if _, err := io.ReadFull(c, n[:]); err != nil {
						return
					}
					for left := 1 << n[0]; left > 0; left -= len(zeros) {
						if _, err := c.Write(zeros[:min(left, len(zeros))]); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
}

// listenOn returns a listener of this machine.
func listenOn(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// newConnections starts a server of each kind. All have one certificate.
func newConnections(b *testing.B, m *simulated.Machine) connections {
	b.Helper()
	roots, certificate := relying.Leaf(b, "server.example")
	policy := relying.Policy(b, m)
	var c connections
	for kind := range c {
		l := listenOn(b)
		address := l.Addr().String()
		if kind == plain || kind == plainMutual {
			server := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
			client := &tls.Config{RootCAs: roots, ServerName: "server.example", MinVersion: tls.VersionTLS13}
			if kind == plainMutual {
				server.ClientAuth, client.Certificates = tls.RequireAnyClientCert, server.Certificates
			}
			serveBytes(b, tls.NewListener(l, server))
			c[kind] = func() (net.Conn, error) { return tls.Dial("tcp", address, client) }
			continue
		}
		options := attestedtls.VerifierOptions{Config: relying.Trust(b, m), AcceptAnyCaller: true}
		if kind != attested {
			options.Continue = 10 * time.Minute
		}
		verifier := func() *attestedtls.Verifier {
			v, err := attestedtls.NewVerifier(policy, options)
			if err != nil {
				b.Fatal(err)
			}
			return v
		}
		attester := func() *attestedtls.Attester { return &attestedtls.Attester{Agent: m.Client()} }
		client := &attestedtls.Client{TLS: &tls.Config{RootCAs: roots, ServerName: "server.example"}, Verifier: verifier()}
		server := &attestedtls.Server{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, Attester: attester()}
		if kind == mutual {
			client.Attester, server.Verifier = attester(), verifier()
		}
		serveBytes(b, server.Listener(l))
		c[kind] = func() (net.Conn, error) { return client.Dial(b.Context(), "tcp", address) }
	}
	return c
}

// opened returns how long connections take until the first byte of an answer.
func opened(b *testing.B, open dial, n, atOnce int) (took []time.Duration) {
	b.Helper()
	turns := make(chan struct{}, n)
	for range n {
		turns <- struct{}{}
	}
	close(turns)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for range turns {
				begin := time.Now()
				c, err := open()
				if err == nil {
					err = receive(c, 0)
				}
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(begin))
				mu.Unlock()
				c.Close()
			}
		})
	}
	all.Wait()
	return took
}

// receive has the server send 2^n bytes.
func receive(c net.Conn, n byte) error {
	if _, err := c.Write([]byte{n}); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, 1<<n)
	return err
}

// BenchmarkAttestedTLS measures attested connections beside connections of crypto/tls, in turns of
// one run: how long a new one takes, with an anchor at hand or with evidence to continue, and how much
// goes through an open one.
func BenchmarkAttestedTLS(b *testing.B) {
	m := busyMachine(b)
	for _, atOnce := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("new/clients=%d", atOnce), func(b *testing.B) {
			c := newConnections(b, m)
			for _, open := range c {
				opened(b, open, 10, 1) // the anchor is made, and chains are known
			}
			var took [kinds][]time.Duration
			for b.Loop() {
				for kind, open := range c {
					took[kind] = append(took[kind], opened(b, open, 20*atOnce, atOnce)...)
				}
			}
			for kind, name := range kindNames {
				at := middle(took[kind])
				b.ReportMetric(at.Seconds()*1000, "ms-p50-"+name)
				if kind != plain && kind != plainMutual {
					b.ReportMetric(at.Seconds()/middle(took[beside[kind]]).Seconds(), "x-"+name)
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
	b.Run("throughput", func(b *testing.B) {
		c := newConnections(b, m)
		var open [kinds]net.Conn
		for kind, d := range c {
			var err error
			if open[kind], err = d(); err != nil {
				b.Fatal(err)
			}
			defer open[kind].Close()
		}
		const size = 26 // 64 MiB
		var took [kinds]time.Duration
		for b.Loop() {
			for kind, conn := range open {
				begin := time.Now()
				if err := receive(conn, size); err != nil {
					b.Fatal(err)
				}
				took[kind] += time.Since(begin)
			}
		}
		rate := func(d time.Duration) float64 { return float64(b.N) * (1 << size) / 1e6 / d.Seconds() }
		for kind, name := range kindNames {
			b.ReportMetric(rate(took[kind]), "MB/s-"+name)
			if kind != plain && kind != plainMutual {
				b.ReportMetric(rate(took[kind])/rate(took[beside[kind]]), "x-"+name)
			}
		}
		b.ReportMetric(0, "ns/op")
	})
}
