// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// thief is an attacker in the network with a copy of a leaf's private key. It speaks TLS with both
// ends, passes all on, and reads it.
type thief struct {
	address string
	read    printed // in the clear
}

// steals starts a thief between those who connect to it and a real end.
func steals(t *testing.T, to string, config *tls.Config) *thief {
	t.Helper()
	th := new(thief)
	l := service(t, anyPort, func(c net.Conn) {
		real, err := tls.Dial("tcp", to, config)
		if err != nil {
			return
		}
		defer real.Close()
		victim := tls.Server(c, config)
		go func() {
			defer real.CloseWrite()
			io.Copy(io.MultiWriter(&th.read, real), victim)
		}()
		io.Copy(io.MultiWriter(&th.read, victim), real)
	})
	th.address = l.Addr().String()
	return th
}

// Messages of attested-tls.md, section 4, as far as an end needs them that verifies and does not attest.
type (
	anyMessage struct {
		Type     string `json:"type"`
		Document []byte `json:"document,omitempty"`
	}
	asking struct {
		Type   string `json:"type"`
		Verify wish   `json:"verify"`
	}
	wish struct {
		Role      string `json:"role"`
		Nonce     []byte `json:"nonce"`
		Freshness string `json:"freshness"`
	}
	ruled struct {
		Type     string `json:"type"`
		Evidence []byte `json:"evidence"`
		Confirm  []byte `json:"confirm"`
	}
)

// put sends a message in a frame.
func put(w io.Writer, m any) error {
	b, err := json.Marshal(m)
	if err == nil {
		_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	}
	return err
}

// take reads the message that is due.
func take(r io.Reader, due string) (m anyMessage, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return m, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil || m.Type != due {
		return m, fmt.Errorf("want a message %q: %w: %.200s", due, errors.Join(err), b)
	}
	return m, nil
}

// keyOnly is the double of an end that verifies, and binds evidence to the key of the
// certificate alone: the nonce is its own, and the evidence names the key that the connection shows. The
// exporter it does not look at. All else it does as the protocol says.
func keyOnly(c *tls.Conn, v *verify.Verifier, isClient bool) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	other := "client"
	if isClient {
		other = "server"
	}
	random := make([]byte, 64)
	rand.Read(random)
	nonce, confirm := random[:32], random[32:]
	mine := asking{"hello", wish{other, nonce, "anchored"}}
	if isClient {
		if err := put(c, mine); err != nil {
			return err
		}
	}
	if _, err := take(c, "hello"); err != nil {
		return err
	}
	if !isClient {
		if err := put(c, mine); err != nil {
			return err
		}
	}
	shown, err := take(c, "evidence")
	if err != nil {
		return err
	}
	key := c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo
	if _, err := v.Verify(shown.Document, verify.Expect{Nonce: nonce, PublicKey: key}, time.Now()); err != nil {
		return err
	}
	digest := sha256.Sum256(shown.Document)
	if err := errors.Join(put(c, ruled{"verdict", digest[:], confirm}), put(c, anyMessage{Type: "start"})); err != nil {
		return err
	}
	_, err = take(c, "start")
	return err
}

// verifierOf returns a verifier of machine m under its own policy.
func verifierOf(t *testing.T, m *simulated.Machine) *verify.Verifier {
	t.Helper()
	v, err := verify.New(relying.Policy(t, m), relying.Trust(t, m))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRelay: an attacker in the network has a copy of the private key of the certificate. It passes on
// the evidence of the real machine. Through it, an end that binds the key alone is led to the tunnel, or
// lets the attacker into it, and the attacker reads what passes. Ours refuses, in both roles, and says
// which. Case 129.
func TestRelay(t *testing.T) {
	here, there := machines(t)
	own, roots, stolen := leaf(t, "server.example")
	config := &tls.Config{RootCAs: stolen.roots, ServerName: "server.example", Certificates: []tls.Certificate{stolen.pair}, NextProtos: []string{attestedtls.Protocol}, ClientAuth: tls.RequestClientCert}
	var heard atomic.Int64
	l := service(t, anyPort, func(c net.Conn) { heard.Add(1); echo(c) })
	succeeded := func(t *testing.T, th *thief, c net.Conn) {
		t.Helper()
		c.SetDeadline(time.Now().Add(patience))
		if err := exchange(c); err != nil || heard.Swap(0) != 1 || strings.Count(th.read.String(), "hello\n") != 2 {
			t.Errorf("the attack on a double that binds the key alone is not what it was meant to be: %v\n%q", err, th.read.String())
		}
	}
	failed := func(t *testing.T, th *thief) {
		t.Helper()
		if n := heard.Load(); n > 0 || strings.Contains(th.read.String(), "hello\n") {
			t.Errorf("the service heard of %d connections of the attacker, who read %q", n, th.read.String())
		}
	}

	t.Run("the client verifies", func(t *testing.T) {
		inside := serves(t, there, l.Addr().String(), own...)
		th := steals(t, inside.address, config)
		c, err := tls.Dial("tcp", th.address, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if err := keyOnly(c, verifierOf(t, there), true); err != nil {
			t.Fatalf("a double that binds the key alone refuses: %v", err)
		}
		succeeded(t, th, c)

		if err := exchange(dialed(t, "tcp", connects(t, there, inside.address, roots...).address)); err != nil {
			t.Fatalf("ours without an attacker: %v", err)
		}
		heard.Store(0)
		th = steals(t, inside.address, config)
		outside := connects(t, there, th.address, roots...)
		program := dialed(t, "tcp", outside.address)
		io.WriteString(program, "hello\n")
		wasReset(t, "through an attacker", program)
		outside.says("refused: attested TLS: exporter: ", 1)
		inside.says("the other end refused (exporter)", 1)
		failed(t, th)
	})

	t.Run("the server verifies", func(t *testing.T) {
		client := &attestedtls.Client{TLS: config, Attester: &attestedtls.Attester{Agent: here.Client()}, Timeout: patience}
		v := verifierOf(t, here)
		double := service(t, anyPort, func(inner net.Conn) {
			c := tls.Server(inner, config)
			c.SetDeadline(time.Now().Add(patience))
			if err := keyOnly(c, v, false); err != nil {
				t.Errorf("a double that binds the key alone refuses: %v", err)
				return
			}
			to, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer to.Close()
			go io.Copy(to, c)
			io.Copy(c, to)
		})
		th := steals(t, double.Addr().String(), config)
		c, err := client.Dial(t.Context(), "tcp", th.address)
		if err != nil {
			t.Fatal(err)
		}
		succeeded(t, th, c)
		c.Close()

		inside := serves(t, there, l.Addr().String(), append(append([]string{"--attest=false"}, own...), verifies(here)...)...)
		if c, err = client.Dial(t.Context(), "tcp", inside.address); err != nil {
			t.Fatalf("ours without an attacker: %v", err)
		}
		c.SetDeadline(time.Now().Add(patience))
		if err := exchange(c); err != nil {
			t.Errorf("ours without an attacker: %v", err)
		}
		c.Close()
		heard.Store(0)
		th = steals(t, inside.address, config)
		if _, err := client.Dial(t.Context(), "tcp", th.address); !errors.Is(err, attestedtls.CodeExporter) {
			t.Errorf("the client says %v, want %s", err, attestedtls.CodeExporter)
		}
		inside.says("refused: attested TLS: exporter: ", 1)
		failed(t, th)
	})
}
