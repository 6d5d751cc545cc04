// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/api"
)

// BenchmarkCredential measures how long systemd waits for a credential of a small app, which the
// agent measures each time, as a multiple of the time of a plain status request (medians). Each is
// a new connection, as those of systemd are. It needs root, as which systemd asks.
func BenchmarkCredential(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("systemd asks as root")
	}
	m := withApp(b)
	if _, err := m.Admin().PutSecret(b.Context(), api.SecretRequest{App: "bench", Name: "token", Data: []byte("secret")}); err != nil {
		b.Fatal(err)
	}
	n := 0
	ask := func() error {
		n++
		from := &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@%x/unit/%s/token", os.Getpid()<<20+n, unit)}
		c, err := net.DialUnix("unix", from, &net.UnixAddr{Net: "unix", Name: filepath.Join(m.Dir, "credentials.sock")})
		if err != nil {
			return err
		}
		defer c.Close()
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if err == nil && string(got) != "secret" {
			err = fmt.Errorf("refused: %d bytes", len(got))
		}
		return err
	}
	client := m.Client()
	status := func() error { _, err := client.Status(b.Context()); return err }
	var ratio float64
	for b.Loop() {
		plain := median(b, 300, status)
		ratio = float64(median(b, 300, ask)) / float64(plain)
	}
	b.ReportMetric(ratio, "credential-of-status")
	b.ReportMetric(0, "ns/op")
}
