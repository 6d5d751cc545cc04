// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

const stunnelConfig = `foreground = yes
pid =
syslog = no
[%[1]s]
client = %[2]s
accept = %[3]s
connect = %[4]s
sslVersion = TLSv1.3
TIMEOUTclose = 0
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
`

// StartStunnel starts both ends of a tunnel of stunnel to an address, and returns the address that
// leads there. The connecting end verifies the certificate, which vouches for itself, and its name.
// resume says whether it resumes sessions, as it does by default.
func StartStunnel(tb testing.TB, program Program, certificate tls.Certificate, to string, resume bool) string {
	tb.Helper()
	dir := Folder(tb)
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			tb.Fatal(err)
		}
		return path
	}
	leaf := file("leaf.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})), 0o644)
	private := file("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})), 0o600)
	serve, connect := Local(Port(tb)), Local(Port(tb))
	verifies := fmt.Sprintf("CAfile = %s\nverifyChain = yes\ncheckHost = %s\nsni = %[2]s\n", leaf, certificate.Leaf.DNSNames[0])
	if !resume {
		verifies += "sessionResume = no\n"
	}
	for _, c := range []struct{ name, client, accept, connect, lines string }{
		{"serve", "no", serve, to, fmt.Sprintf("cert = %s\nkey = %s\n", leaf, private)},
		{"connect", "yes", connect, serve, verifies},
	} {
		config := file(c.name+".conf", fmt.Sprintf(stunnelConfig, c.name, c.client, c.accept, c.connect)+c.lines, 0o644)
		Start(tb, program.Command(config), syscall.SIGTERM, func() error {
			conn, err := net.Dial("tcp", c.accept)
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	return connect
}
