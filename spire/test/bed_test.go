// SPDX-License-Identifier: Apache-2.0

package test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
)

const (
	asked   = "AGENTD_TEST_SPIRE" // folder with spire-server and spire-agent
	domain  = "example.org"
	unit    = "spire-agent.service"
	declare = "AGENTD_SIM_DECLARED_UNIT"
	ttl     = time.Minute // of the SVIDs of agents and programs
	// patience is how long anything may take. SPIRE renews after half of the time of an SVID, and asks its
	// server every five seconds.
	patience = 4 * time.Minute
)

// built is the folder of our programs, empty until a test has needed them.
var built string

// programs are ours, built once.
var programs = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "agentd-spire-"); err != nil {
		return "", err
	}
	built = dir
	for _, b := range []struct{ in, what string }{{"..", "./cmd/agentd-spire"}, {"../..", "./cmd/agentd-sim"}} {
		cmd := exec.Command("go", "build", "-o", dir+"/", b.what)
		cmd.Dir = b.in
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("build %s: %w\n%s", b.what, err, out)
		}
	}
	return dir, nil
})

func removePrograms() {
	if built != "" {
		os.RemoveAll(built)
	}
}

// bed is a trust domain: servers on one database, and machines.
type bed struct {
	t     *testing.T
	dir   string // paths of sockets are short
	spire string // folder of SPIRE's programs
	ours  string

	platform string // of the first machine
	policy   string
	root     string
	database string // that of PostgreSQL which all servers of SPIRE have
	shared   bool   // the plugins of all servers have their state there too

	servers  []*server
	bundle   string
	entrance *entrance
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, spire: os.Getenv(asked)}
	if b.spire == "" {
		t.Skip("runs servers and agents of SPIRE: run `make test-spire`")
	}
	var err error
	if b.ours, err = programs(); err != nil {
		t.Fatal(err)
	}
	if b.dir, err = os.MkdirTemp("", "agentd-s-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(b.dir) })
	debian := make(map[string]servers.Program)
	for _, name := range []string{"initdb", "postgres", "psql"} {
		if debian[name], err = servers.Find(name); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := strings.Cut(servers.StartPostgres(t, debian).Address, ":")
	b.database = fmt.Sprintf("dbname=postgres user=tester host=%s port=%s sslmode=disable", host, port)
	for _, name := range []string{"billing", "shop"} {
		b.write(name, "#!/bin/sh\n# "+name+"\n")
	}
	b.entrance = newEntrance(t)
	return b
}

func (b *bed) write(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// plugin is the path of our plugins.
func (b *bed) plugin() string { return filepath.Join(b.ours, "agentd-spire") }

// digest returns the SHA-256 of a file.
func (b *bed) digest(path string) string {
	b.t.Helper()
	all, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(all))
}

// inside has a program of SPIRE keep the sockets of its plugins in the folder of the bed.
func (b *bed) inside(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(os.Environ(), "TMPDIR="+b.dir)
	return cmd
}

func (b *bed) eventually(what string, is func() error) {
	b.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = is(); err == nil {
			return
		}
	}
	b.t.Fatalf("not in time: %s: %v", what, err)
}

// machine starts a simulated machine with the apps billing and shop. The first one makes the policy, which
// asks for a newer firmware than simulated machines have without --raise-tcb.
func (b *bed) machine(name string, args ...string) *simulated.Machine {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Join(dir, "apps.d"), 0o700); err != nil {
		b.t.Fatal(err)
	}
	b.write(name+"/config.toml", "[sockets]\nclient_group = \"\"\n\n[processes]\naskers = [\""+unit+"\"]\n")
	for _, app := range []string{"billing", "shop"} {
		b.write(name+"/apps.d/"+app+".toml", fmt.Sprintf("unit = \"%s.service\"\nuser = \"root\"\nfiles = [%q]\n", app, filepath.Join(b.dir, app)))
	}
	m, err := simulated.Start(b.ours, dir, b.platform, append([]string{"--declare-identity-without-checking"}, args...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(m.Kill)
	b.digests(m)
	if b.platform == "" {
		b.platform, b.root = filepath.Join(dir, "platform"), m.Root()
		text, err := os.ReadFile(m.Policy())
		if err != nil {
			b.t.Fatal(err)
		}
		b.policy = b.write("policy.toml", string(text)+"\n[caller]\nunit = \""+unit+"\"\n\n[tcb.milan]\nreported = { bootloader = 4, tee = 0, snp = 25, microcode = 219 }\n")
	}
	return m
}

// newer is the argument of a machine with the firmware that the policy asks for.
const newer = "--raise-tcb=1"

// digests returns the digests of the apps of a machine, once they are measured.
func (b *bed) digests(m *simulated.Machine) map[string]string {
	b.t.Helper()
	admin := m.Admin()
	defer admin.Close()
	out := make(map[string]string)
	b.eventually("apps are measured", func() error {
		all, err := admin.Apps(b.t.Context())
		if err != nil {
			return err
		}
		for _, a := range all {
			if a.State != api.AppMeasured {
				return fmt.Errorf("%s: %s", a.Name, a.State)
			}
			out[a.Name] = a.Digest.String()
		}
		return nil
	})
	return out
}

// entrance is the address that agents know. It leads to the first server that runs.
type entrance struct {
	listener net.Listener

	mu sync.Mutex
	to []string // with mu
}

func newEntrance(t *testing.T) *entrance {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	e := &entrance{listener: l}
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go e.serve(c, n)
		}
	}()
	return e
}

func (e *entrance) port() int { return e.listener.Addr().(*net.TCPAddr).Port }

func (e *entrance) add(address string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.to = append(e.to, address)
}

// serve connects c to a server, each time another one first.
func (e *entrance) serve(c net.Conn, n int) {
	defer c.Close()
	e.mu.Lock()
	to := slices.Clone(e.to)
	e.mu.Unlock()
	for i := range to {
		s, err := net.Dial("tcp", to[(n+i)%len(to)])
		if err != nil {
			continue
		}
		defer s.Close()
		go func() {
			io.Copy(s, c)
			s.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(c, s)
		return
	}
}

// server is a server of SPIRE.
type server struct {
	b    *bed
	name string
	cmd  func() *exec.Cmd
	*servers.Process
}

// server starts another one on the database.
func (b *bed) server() *server {
	b.t.Helper()
	name := fmt.Sprintf("server%d", len(b.servers))
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	port := servers.Port(b.t)
	state := fmt.Sprintf("state = %q", filepath.Join(dir, "state"))
	if b.shared {
		state = fmt.Sprintf("database = %q", b.database)
	}
	conf := b.write(name+"/server.conf", fmt.Sprintf(`server {
  bind_address = "127.0.0.1"
  bind_port = "%d"
  socket_path = "%s/api.sock"
  trust_domain = "%s"
  data_dir = "%s"
  log_level = "INFO"
  agent_ttl = "%v"
  default_x509_svid_ttl = "%v"
}
plugins {
  DataStore "sql" {
    plugin_data {
      database_type = "postgres"
      connection_string = "%s"
    }
  }
  KeyManager "disk" {
    plugin_data {
      keys_path = "%s/keys.json"
    }
  }
  NodeAttestor "agentd" {
    plugin_cmd = "%s"
    plugin_args = ["node-server"]
    plugin_checksum = "%s"
    plugin_data {
      policy = "%s"
      %s
      trust_test_root_that_vouches_for_no_hardware = "%s"
    }
  }
}
`, port, dir, domain, dir, ttl, ttl, b.database, dir, b.plugin(), b.digest(b.plugin()), b.policy, state, b.root))
	s := &server{b: b, name: name, cmd: func() *exec.Cmd {
		return b.inside(exec.Command(filepath.Join(b.spire, "spire-server"), "run", "-config", conf))
	}}
	s.run()
	b.servers = append(b.servers, s)
	b.entrance.add(servers.Local(port))
	// An agent knows its servers by this bundle.
	b.bundle = b.write("bundle.pem", s.ask("bundle", "show"))
	return s
}

// run starts it, also again.
func (s *server) run() {
	s.b.t.Helper()
	s.Process = servers.Start(s.b.t, s.cmd(), syscall.SIGTERM, func() error {
		_, err := s.try("healthcheck")
		return err
	})
}

func (s *server) try(args ...string) (string, error) {
	words := 1
	if args[0] != "healthcheck" {
		words = 2
	}
	args = slices.Concat(args[:words], []string{"-socketPath", filepath.Join(s.b.dir, s.name, "api.sock")}, args[words:])
	out, err := exec.Command(filepath.Join(s.b.spire, "spire-server"), args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("spire-server %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (s *server) ask(args ...string) string {
	s.b.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.b.t.Fatalf("%v\n%s", err, s.Output())
	}
	return out
}

// joined is what a server knows of an agent.
type joined struct {
	ID struct {
		Path string `json:"path"`
	} `json:"id"`
	Expires   int64 `json:"x509svid_expires_at,string"`
	Reattests bool  `json:"can_reattest"`
	Selectors []struct {
		Value string `json:"value"`
	} `json:"selectors"`
}

func (s *server) agents() map[string]joined {
	s.b.t.Helper()
	text := s.ask("agent", "list", "-output", "json")
	var all struct {
		Agents []joined `json:"agents"`
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		s.b.t.Fatalf("%v: %s", err, text)
	}
	out := make(map[string]joined)
	for _, a := range all.Agents {
		out[a.ID.Path] = a
	}
	return out
}

// agent is SPIRE's agent of a machine.
type agent struct {
	b      *bed
	socket string
	conf   string
	*servers.Process
}

// agent starts one, and waits for it if it is to join. Args are those of the agent's side of the node
// attestor, of agentd-spire unless program names another.
func (b *bed) agent(m *simulated.Machine, joins bool, program string, args ...string) *agent {
	b.t.Helper()
	if program == "" {
		program, args = b.plugin(), []string{"node-agent"}
	}
	dir, err := os.MkdirTemp(m.Dir, "spire")
	if err != nil {
		b.t.Fatal(err)
	}
	a := &agent{b: b, socket: filepath.Join(dir, "api.sock"), conf: filepath.Join(dir, "agent.conf")}
	if err := os.WriteFile(a.conf, fmt.Appendf(nil, `agent {
  data_dir = "%s"
  log_level = "INFO"
  server_address = "127.0.0.1"
  server_port = "%d"
  socket_path = "%s"
  trust_bundle_path = "%s"
  trust_domain = "%s"
}
plugins {
  NodeAttestor "agentd" {
    plugin_cmd = "%s"
    plugin_args = ["%s"]
    plugin_checksum = "%s"
    plugin_data {
      socket = "%s"
    }
  }
  KeyManager "memory" {
    plugin_data {}
  }
  WorkloadAttestor "agentd" {
    plugin_cmd = "%s"
    plugin_args = ["workload"]
    plugin_checksum = "%s"
    plugin_data {
      socket = "%s"
    }
  }
}
`, dir, b.entrance.port(), a.socket, b.bundle, domain, program, strings.Join(args, `", "`), b.digest(program), m.Socket(), b.plugin(), b.digest(b.plugin()), m.Socket()), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cmd := b.inside(exec.Command(filepath.Join(b.spire, "spire-agent"), "run", "-config", a.conf))
	cmd.Env = append(cmd.Env, declare+"="+unit)
	a.Process = servers.Start(b.t, cmd, syscall.SIGTERM, func() error {
		if !joins {
			return nil
		}
		_, err := os.Stat(a.socket)
		return err
	})
	return a
}

// svid returns the newest certificate that a process of a unit gets, nil if it gets none.
func (a *agent) svid(of string) (id string, certificate *x509.Certificate, err error) {
	cmd := exec.Command(filepath.Join(a.b.spire, "spire-agent"), "api", "fetch", "x509", "-socketPath", a.socket, "-timeout", "10s", "-output", "json")
	cmd.Env = append(os.Environ(), declare+"="+of)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return "", nil, fmt.Errorf("%w: %s", err, text)
	}
	var got struct {
		SVIDs []struct {
			ID    string `json:"spiffe_id"`
			Chain []byte `json:"x509_svid"`
		} `json:"svids"`
	}
	if err := json.Unmarshal(text, &got); err != nil || len(got.SVIDs) != 1 {
		return "", nil, fmt.Errorf("%d SVIDs, %v: %s", len(got.SVIDs), err, text)
	}
	chain, err := x509.ParseCertificates(got.SVIDs[0].Chain)
	if err != nil {
		return "", nil, err
	}
	return got.SVIDs[0].ID, chain[0], nil
}

// noIdentity is what SPIRE's agent says to a process that no entry is for.
const noIdentity = "no identity issued"

// refused says that a process of a unit gets no SVID because no entry is for it.
func (a *agent) refused(of string) error {
	id, _, err := a.svid(of)
	if err == nil {
		return fmt.Errorf("it is %s", id)
	}
	if !strings.Contains(err.Error(), noIdentity) {
		return err
	}
	return nil
}
