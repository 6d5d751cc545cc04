// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Postgres is a running server of PostgreSQL.
type Postgres struct {
	*Process
	Address string
	Socket  string // path of its socket

	psql     Program
	postgres Program
	settings []string
	port     int
	dir      string
}

// StartPostgres makes an empty database and starts its server. The programs are those of [Need]:
// initdb, postgres and psql. Settings, such as "fsync=on", count in
// place of those that make it fast.
func StartPostgres(tb testing.TB, programs map[string]Program, settings ...string) *Postgres {
	tb.Helper()
	dir := Folder(tb)
	data := filepath.Join(dir, "data")
	cmd := programs["initdb"].Command("-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.Dir = dir
	if err := Unprivileged(cmd); err != nil {
		tb.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	p := &Postgres{psql: programs["psql"], postgres: programs["postgres"], settings: settings, port: Port(tb), dir: dir}
	p.Address, p.Socket = Local(p.port), filepath.Join(dir, SocketName(p.port))
	p.Run(tb)
	return p
}

// Run starts the server of a database, also again after it ended.
func (p *Postgres) Run(tb testing.TB) {
	tb.Helper()
	args := []string{"-D", filepath.Join(p.dir, "data"), "-k", p.dir, "-p", strconv.Itoa(p.port)}
	for _, s := range append([]string{"listen_addresses=127.0.0.1", "max_connections=300", "fsync=off", "jit=off"}, p.settings...) {
		args = append(args, "-c", s) // of two, the later one counts
	}
	cmd := p.postgres.Command(args...)
	cmd.Dir = p.dir
	if err := Unprivileged(cmd); err != nil {
		tb.Fatal(err)
	}
	p.Process = Start(tb, cmd, syscall.SIGINT, func() error {
		_, err := p.Ask(p.Address, "SELECT 1")
		return err
	})
}

// SocketName is the name that clients of PostgreSQL give to the socket of a port.
func SocketName(port int) string { return ".s.PGSQL." + strconv.Itoa(port) }

// Psql returns a command of psql that connects to an address, or to a socket with the name that
// [SocketName] gives, runs commands of SQL and prints what they return.
func (p *Postgres) Psql(address string, commands ...string) *exec.Cmd {
	host, port, _ := strings.Cut(address, ":")
	if filepath.IsAbs(address) {
		host, port = filepath.Dir(address), strings.TrimPrefix(filepath.Base(address), SocketName(0)[:len(SocketName(0))-1])
	}
	args := []string{"-X", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "tester", "-d", "postgres"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	cmd := p.psql.Command(args...)
	cmd.Env = append(cmd.Env, "PGCONNECT_TIMEOUT=120")
	return cmd
}

// Ask runs psql, and returns what it printed.
func (p *Postgres) Ask(address string, commands ...string) (string, error) {
	cmd := p.Psql(address, commands...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
