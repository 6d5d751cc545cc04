// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
)

// bed is what all tunnels of a test share: two servers and the machine that they are on.
type bed struct {
	servers.Machine
	programs map[string]servers.Program
	nginx    *servers.Nginx
	postgres *servers.Postgres
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{programs: servers.Need(t, "nginx", "initdb", "postgres", "psql", "curl")}
	commands, done, err := simulated.Commands()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	b.Machine = servers.Machine{Machine: simulated.Run(t, "--declare-identity-without-checking"), Commands: commands}
	b.nginx = servers.StartNginx(t, b.programs["nginx"])
	b.postgres = servers.StartPostgres(t, b.programs)
	return b
}

// eventually waits until f returns nil.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(servers.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("waited %v in vain until %s: %v", servers.Patience, what, err)
}

// curl asks nginx for a path at an address, and returns the body.
func (b *bed) curl(address, path string, args ...string) ([]byte, error) {
	host := address
	if servers.Network(address) == "unix" {
		host = "localhost"
		args = append(args, "--unix-socket", address)
	}
	cmd := b.programs["curl"].Command(append(args, "--fail", "--silent", "--show-error", "--noproxy", "*", "--max-time", "120", "http://"+host+path)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("curl: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}

// site asks for the first page.
func (b *bed) site(address string) error {
	out, err := b.curl(address, "/")
	if err == nil && string(out) != "the site\n" {
		err = fmt.Errorf("nginx answers %q", out)
	}
	return err
}

// session is an open session of psql.
type session struct {
	in    io.WriteCloser
	out   *bufio.Reader
	ended chan error
	said  *bytes.Buffer
}

// open opens a session.
func (b *bed) open(t *testing.T, address string) *session {
	t.Helper()
	cmd := b.postgres.Psql(address)
	s := &session{ended: make(chan error, 1), said: &bytes.Buffer{}}
	cmd.Stderr = s.said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	s.in, s.out = in, bufio.NewReader(read)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	go func() { s.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		read.Close()
	})
	return s
}

// ask has the session run a command, and returns the one line that it prints.
func (s *session) ask(command string) (string, error) {
	if _, err := io.WriteString(s.in, command+";\n"); err != nil {
		return "", err
	}
	line, err := s.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

// ends returns nil when psql has ended because it lost the connection.
func (s *session) ends(t *testing.T) {
	t.Helper()
	io.WriteString(s.in, "SELECT 1;\n") // psql notices when it uses the connection
	select {
	case err := <-s.ended:
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			t.Fatalf("psql ended with %v: %s", err, s.said)
		}
	case <-time.After(servers.Patience):
		t.Fatal("psql still has its connection")
	}
}
