// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Port returns a port of this machine that was free. It is not one of those that the kernel gives to
// connections by itself (ip_local_port_range begins at 32768): one of these could have it before the
// server does.
func Port(tb testing.TB) int {
	tb.Helper()
	for range 100 {
		l, err := net.Listen("tcp", Local(10240+rand.IntN(32768-10240)))
		if err == nil {
			defer l.Close()
			return l.Addr().(*net.TCPAddr).Port
		}
	}
	tb.Fatal("100 ports are all taken")
	return 0
}

// Local returns the address of a port of this machine.
func Local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// Nginx is a running nginx. It serves the folder Root, and at /status how many connections it has.
type Nginx struct {
	*Process
	Root  string
	Plain string // address of HTTP
	Proxy string // address of HTTP after a header of the PROXY protocol
	// Paths of sockets of the same two.
	PlainSocket, ProxySocket string

	log string
}

const nginxConfig = `daemon off;
pid %[1]s/nginx.pid;
worker_processes 2;
events { worker_connections 1024; }
http {
	log_format real '$proxy_protocol_addr $proxy_protocol_port $remote_addr $status $request_uri';
	access_log %[1]s/access.log real;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		listen unix:%[1]s/plain.sock;
		location / { root %[1]s/www; }
		location /status { stub_status; access_log off; }
	}
	server {
		listen %[3]s proxy_protocol;
		listen unix:%[1]s/proxy.sock proxy_protocol;
		set_real_ip_from 127.0.0.1;
		set_real_ip_from unix:;
		real_ip_header proxy_protocol;
		location / { root %[1]s/www; }
	}
}
`

// StartNginx starts nginx.
func StartNginx(tb testing.TB, program Program) *Nginx {
	tb.Helper()
	dir := Folder(tb)
	n := &Nginx{
		Root: filepath.Join(dir, "www"), Plain: Local(Port(tb)), Proxy: Local(Port(tb)),
		PlainSocket: filepath.Join(dir, "plain.sock"), ProxySocket: filepath.Join(dir, "proxy.sock"),
		log: filepath.Join(dir, "access.log"),
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, n.Plain, n.Proxy), 0o644); err != nil {
		tb.Fatal(err)
	}
	if err := os.Mkdir(n.Root, 0o755); err != nil {
		tb.Fatal(err)
	}
	n.Serve(tb, "index.html", []byte("the site\n"))
	cmd := program.Command("-p", dir, "-c", config, "-e", "stderr")
	if err := Unprivileged(cmd); err != nil {
		tb.Fatal(err)
	}
	n.Process = Start(tb, cmd, syscall.SIGTERM, func() error {
		c, err := net.Dial("tcp", n.Proxy)
		if err == nil {
			c.Close()
		}
		return err
	})
	return n
}

// Serve has nginx serve a file.
func (n *Nginx) Serve(tb testing.TB, name string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(n.Root, name), content, 0o644); err != nil {
		tb.Fatal(err)
	}
}

// Log returns the lines of the access log for a path: address and port in the header of the PROXY
// protocol, the client's address as nginx takes it to be, status, path.
func (n *Nginx) Log(tb testing.TB, path string) (lines []string) {
	tb.Helper()
	b, err := os.ReadFile(n.log)
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); strings.HasSuffix(line, " "+path) {
			lines = append(lines, line)
		}
	}
	return lines
}
