// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spiffe/spire-plugin-sdk/plugintest"
	agentv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	serverv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/spire/internal/node"
	"github.com/cvm-agentd/agentd/spire/internal/nodeagent"
	"github.com/cvm-agentd/agentd/spire/internal/nodeserver"
	"github.com/cvm-agentd/agentd/spire/internal/workload"
	"github.com/cvm-agentd/agentd/test/simulated"
)

const (
	domain  = "example.org"
	unit    = "spire-agent.service"
	declare = "AGENTD_SIM_DECLARED_UNIT"
)

// shared is made once: the programs of the main module, and a platform, since making the keys of a test root
// takes seconds.
var shared struct{ commands, platform string }

// TestMain becomes a process of the unit of SPIRE's agent to simulated machines, which look at the
// variables that a process was started with.
func TestMain(m *testing.M) {
	if os.Getenv(declare) != unit {
		if err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), declare+"="+unit)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(simulated.Main(m, func(commands, dir string) (stop func() error, err error) {
		shared.commands = commands
		first, err := simulated.Start(commands, dir, "")
		if err != nil {
			return nil, err
		}
		shared.platform = filepath.Join(dir, "platform")
		return nil, first.Stop()
	}))
}

// program is the file of the app of the machine in a folder. It is in no folder of the test: tests make
// more of these beside each other, and the agent then records that one may have been another one for a
// moment.
func program(dir string) string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("agentd-app-%x", sha256.Sum256([]byte(dir)))[:40], "bin", "program")
}

// machine starts a simulated machine in a folder, with an app.
func machine(t *testing.T, dir string) *simulated.Machine {
	t.Helper()
	apps := filepath.Join(dir, "apps.d")
	program := program(dir)
	if err := errors.Join(os.MkdirAll(apps, 0o700), os.MkdirAll(filepath.Dir(program), 0o700)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(filepath.Dir(program))) })
	for path, content := range map[string]string{
		filepath.Join(dir, "config.toml"):   "[sockets]\nclient_group = \"\"\n\n[processes]\naskers = [\"" + unit + "\"]\n",
		filepath.Join(apps, "billing.toml"): "unit = \"billing.service\"\nuser = \"root\"\nfiles = [\"" + program + "\"]\n",
		program:                             "#!/bin/sh\n",
	} {
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := simulated.Start(shared.commands, dir, shared.platform, "--declare-identity-without-checking")
	if errors.Is(err, simulated.ErrNoTPM) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	agent := client.Admin{Socket: m.AdminSocket()}
	defer agent.Close()
	eventually(t, "the app is measured", func() bool {
		all, err := agent.Apps(t.Context())
		return err == nil && len(all) == 1 && all[0].State == api.AppMeasured
	})
	return m
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func configure(t *testing.T, c *configv1.ConfigServiceClient, domain, text string) error {
	t.Helper()
	_, err := c.Configure(t.Context(), &configv1.ConfigureRequest{CoreConfiguration: &configv1.CoreConfiguration{TrustDomain: domain}, HclConfiguration: text})
	return err
}

// agent loads the agent's side, for the daemon of a machine.
func agent(t *testing.T, m *simulated.Machine, domain string) *agentv1.NodeAttestorPluginClient {
	t.Helper()
	p, c, conf := new(nodeagent.Plugin), new(agentv1.NodeAttestorPluginClient), new(configv1.ConfigServiceClient)
	plugintest.ServeInBackground(t, plugintest.Config{
		PluginServer: agentv1.NodeAttestorPluginServer(p), PluginClient: c,
		ServiceServers: serviceServers(configv1.ConfigServiceServer(p)), ServiceClients: serviceClients(conf),
	})
	if err := configure(t, conf, domain, fmt.Sprintf("socket = %q", m.Socket())); err != nil {
		t.Fatal(err)
	}
	return c
}

// server loads the server's side.
type server struct {
	*serverv1.NodeAttestorPluginClient
	conf  *configv1.ConfigServiceClient
	state string
}

func newServer(t *testing.T, settings string) (*server, error) {
	t.Helper()
	p := new(nodeserver.Plugin)
	s := &server{new(serverv1.NodeAttestorPluginClient), new(configv1.ConfigServiceClient), filepath.Join(t.TempDir(), "state")}
	// The agent is told only the class of a refusal.
	logger := hclog.New(&hclog.LoggerOptions{Name: "server", Output: t.Output(), Level: hclog.Info})
	plugintest.ServeInBackground(t, plugintest.Config{
		Logger:       logger,
		PluginServer: serverv1.NodeAttestorPluginServer(p), PluginClient: s.NodeAttestorPluginClient,
		ServiceServers: serviceServers(configv1.ConfigServiceServer(p)), ServiceClients: serviceClients(s.conf),
	})
	return s, configure(t, s.conf, domain, fmt.Sprintf("state = %q\n%s", s.state, settings))
}

// policy writes a policy of a machine with more rules, and returns the settings of a server by it.
func policy(t *testing.T, m *simulated.Machine, change func(string) string) (settings, path string) {
	t.Helper()
	b, err := os.ReadFile(m.Policy())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b) + "\n[caller]\nunit = \"" + unit + "\"\n"
	if change != nil {
		text = change(text)
	}
	path = filepath.Join(t.TempDir(), "policy.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("policy = %q\ntrust_test_root_that_vouches_for_no_hardware = %q\n", path, m.Root()), path
}

// attest does what SPIRE does between the two sides. Change may change the answer on its way.
func attest(t *testing.T, a *agentv1.NodeAttestorPluginClient, s *server, change func([]byte) []byte) (*serverv1.AgentAttributes, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	from, err := a.AidAttestation(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first, err := from.Recv()
	if err != nil {
		return nil, err
	}
	to, challenge, err := begin(ctx, t, s, string(first.GetPayload()))
	if err != nil {
		return nil, err
	}
	if err := from.Send(&agentv1.Challenge{Challenge: challenge}); err != nil {
		return nil, err
	}
	answer, err := from.Recv()
	if err != nil {
		return nil, err
	}
	document := answer.GetChallengeResponse()
	if change != nil {
		document = change(document)
	}
	return finish(to, document)
}

func begin(ctx context.Context, t *testing.T, s *server, payload string) (serverv1.NodeAttestor_AttestClient, []byte, error) {
	t.Helper()
	to, err := s.Attest(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := to.Send(&serverv1.AttestRequest{Request: &serverv1.AttestRequest_Payload{Payload: []byte(payload)}}); err != nil {
		return nil, nil, err
	}
	r, err := to.Recv()
	if err != nil {
		return nil, nil, err
	}
	return to, r.GetChallenge(), nil
}

func finish(to serverv1.NodeAttestor_AttestClient, document []byte) (*serverv1.AgentAttributes, error) {
	if err := to.Send(&serverv1.AttestRequest{Request: &serverv1.AttestRequest_ChallengeResponse{ChallengeResponse: document}}); err != nil {
		return nil, err
	}
	r, err := to.Recv()
	if err != nil {
		return nil, err
	}
	if r.GetAgentAttributes() == nil {
		return nil, errors.New("a second challenge")
	}
	return r.GetAgentAttributes(), nil
}

// TestNode: a machine that the policy accepts becomes an agent, as often as it comes, and the same one. What
// must be refused is.
func TestNode(t *testing.T) {
	m := machine(t, t.TempDir())
	settings, _ := policy(t, m, nil)
	s, err := newServer(t, settings)
	if err != nil {
		t.Fatal(err)
	}
	a := agent(t, m, domain)
	var old []byte // an earlier answer
	first, err := attest(t, a, s, func(b []byte) []byte { old = slices.Clone(b); return b })
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first.SpiffeId, "spiffe://example.org/spire/agent/agentd/000b") || !first.CanReattest {
		t.Errorf("got %v", first)
	}
	t.Logf("%s %q", first.SpiffeId, first.SelectorValues)
	for _, want := range []string{"binding:guest-asserted", "product:", "measurement:", "ak:000b", "ak-origin:", "basis:guest", "app:billing", "app-digest:billing:", "agentd:", "root:test", "signer:vcek"} {
		if !slices.ContainsFunc(first.SelectorValues, func(v string) bool { return strings.HasPrefix(v, want) }) {
			t.Errorf("no selector %s in %q", want, first.SelectorValues)
		}
	}
	again, err := attest(t, a, s, nil)
	if err != nil || again.SpiffeId != first.SpiffeId {
		t.Errorf("again: %v, %v", again, err)
	}

	other := agent(t, m, "other.org")
	for _, c := range []struct {
		name   string
		agent  *agentv1.NodeAttestorPluginClient
		change func([]byte) []byte
		want   codes.Code
	}{
		{"replayed", a, func([]byte) []byte { return old }, codes.PermissionDenied},
		{"for another trust domain", other, nil, codes.PermissionDenied},
		{"changed", a, func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"statement":"`, `"statement":"AAAA`, 1))
		}, codes.PermissionDenied},
		{"nothing", a, func([]byte) []byte { return nil }, codes.InvalidArgument},
		{"not evidence", a, func([]byte) []byte { return []byte("{}") }, codes.PermissionDenied},
		{"too large", a, func([]byte) []byte { return make([]byte, node.MaxDocument+1) }, codes.InvalidArgument},
	} {
		if got, err := attest(t, c.agent, s, c.change); status.Code(err) != c.want {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
	}
	if _, _, err := begin(t.Context(), t, s, "join"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another beginning: %v", err)
	}

	// Evidence over the right nonce and audience, which another program asked for in another way.
	to, challenge, err := begin(t.Context(), t, s, node.Payload)
	if err != nil {
		t.Fatal(err)
	}
	c, err := node.ParseChallenge(challenge)
	if err != nil {
		t.Fatal(err)
	}
	direct := client.Client{Socket: m.Socket()}
	defer direct.Close()
	document, err := direct.Evidence(t.Context(), api.EvidenceRequest{Nonce: c.Nonce, Audience: node.Audience(domain)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := finish(to, document); status.Code(err) != codes.PermissionDenied {
		t.Errorf("without the user data: %v", err)
	}
}

// TestNodePolicy: what the policy does not accept becomes no agent, and a policy that does not protect is
// not taken. A policy that is replaced counts from the next machine on.
func TestNodePolicy(t *testing.T) {
	m := machine(t, t.TempDir())
	a := agent(t, m, domain)
	more := func(rule string) func(string) string { return func(s string) string { return s + rule } }
	for name, change := range map[string]func(string) string{
		"another unit": func(s string) string { return strings.Replace(s, unit, "shop.service", 1) },
		"another launch": func(s string) string {
			return regexp.MustCompile(`measurement = "[0-9a-f]{96}"`).ReplaceAllString(s, `measurement = "`+strings.Repeat("1", 96)+`"`)
		},
		"old TCB":     more("\n[tcb.milan]\nreported = { bootloader = 255, tee = 255, snp = 255, microcode = 255 }\n"),
		"another app": more("\n[[app]]\nname = \"billing\"\ndigests = [\"" + strings.Repeat("1", 64) + "\"]\n"),
	} {
		settings, _ := policy(t, m, change)
		s, err := newServer(t, settings)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := attest(t, a, s, nil); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "policy") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	settings, _ := policy(t, m, func(s string) string { return strings.Replace(s, "\n[caller]\nunit = \""+unit+"\"\n", "", 1) })
	if _, err := newServer(t, settings); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "caller") {
		t.Errorf("a policy without a caller: %v", err)
	}

	settings, path := policy(t, m, nil)
	s, err := newServer(t, settings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attest(t, a, s, nil); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		want codes.Code
	}{
		{strings.Replace(string(good), unit, "shop.service", 1), codes.PermissionDenied},
		{"version = 1\nnothing = 1\n", codes.Internal}, // and not the policy of before
		{string(good) + "\n# again\n", codes.OK},
	} {
		if err := os.WriteFile(path+".new", []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		if _, err := attest(t, a, s, nil); status.Code(err) != c.want {
			t.Errorf("after a change: %v, want %v", err, c.want)
		}
	}
}

// TestNodeLate: a challenge ends if no answer comes.
func TestNodeLate(t *testing.T) {
	m := machine(t, t.TempDir())
	settings, _ := policy(t, m, nil)
	s, err := newServer(t, settings+"challenge_timeout = \"1s\"\n")
	if err != nil {
		t.Fatal(err)
	}
	to, _, err := begin(t.Context(), t, s, node.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

// clone starts two machines with one vTPM. The second is "the same" guest to the processor, as if its
// snapshot went on elsewhere, or "another", or another whose vTPM was reset once more ("rebooted").
func clone(t *testing.T, guest string) (one, two *simulated.Machine) {
	t.Helper()
	dir := t.TempDir()
	m := machine(t, filepath.Join(dir, "a"))
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", filepath.Join(dir, "a"), filepath.Join(dir, "b")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if guest != "the same" {
		if err := os.Remove(filepath.Join(dir, "b", "platform", "launch")); err != nil {
			t.Fatal(err)
		}
	}
	one, two = machine(t, filepath.Join(dir, "a")), machine(t, filepath.Join(dir, "b"))
	if guest == "rebooted" {
		if err := two.Stop(); err != nil {
			t.Fatal(err)
		}
		two = machine(t, two.Dir)
	}
	return one, two
}

// TestSecondHistory: a log is refused that is another one than that of the same boot, by the processor's name
// for it or by the count of the vTPM.
func TestSecondHistory(t *testing.T) {
	for _, guest := range []string{"the same", "another"} {
		one, two := clone(t, guest)
		settings, _ := policy(t, one, nil)
		s, err := newServer(t, settings)
		if err != nil {
			t.Fatal(err)
		}
		a, b := agent(t, one, domain), agent(t, two, domain)
		if _, err := attest(t, a, s, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := attest(t, b, s, nil); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "binding") {
			t.Errorf("another history, %s guest: %v, %v", guest, got, err)
		}
		if _, err := attest(t, a, s, nil); err != nil {
			t.Errorf("the first goes on: %v", err)
		}
	}
}

// TestClonedTPM: of two machines with one vTPM, none is accepted any more when the first comes back after the
// second was. An operator decides, and the files of the state say so also after a restart of the server.
func TestClonedTPM(t *testing.T) {
	one, two := clone(t, "rebooted")
	settings, _ := policy(t, one, nil)
	s, err := newServer(t, settings)
	if err != nil {
		t.Fatal(err)
	}
	a, b := agent(t, one, domain), agent(t, two, domain)
	first, err := attest(t, a, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := attest(t, b, s, nil) // it might be the first after a boot
	if err != nil || second.SpiffeId != first.SpiffeId {
		t.Fatalf("the clone: %v, %v", second, err)
	}
	if _, err := attest(t, a, s, nil); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "two machines") {
		t.Errorf("the first again: %v", err)
	}
	for name, x := range map[string]*agentv1.NodeAttestorPluginClient{"the first": a, "the clone": b} {
		if _, err := attest(t, x, s, nil); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "another machine") {
			t.Errorf("%s later: %v", name, err)
		}
	}
	marks, err := filepath.Glob(filepath.Join(s.state, "*.disputed"))
	if err != nil || len(marks) != 1 {
		t.Fatalf("marks %q, %v", marks, err)
	}
	if err := os.Remove(marks[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := attest(t, b, s, nil); err != nil {
		t.Errorf("after the operator decided: %v", err)
	}
}

// TestWorkload: a process of a measured app has selectors that say so, and others have not.
func TestWorkload(t *testing.T) {
	m := machine(t, t.TempDir())
	p, c, conf := new(workload.Plugin), new(workloadattestorv1.WorkloadAttestorPluginClient), new(configv1.ConfigServiceClient)
	plugintest.ServeInBackground(t, plugintest.Config{
		PluginServer: workloadattestorv1.WorkloadAttestorPluginServer(p), PluginClient: c,
		ServiceServers: serviceServers(configv1.ConfigServiceServer(p)), ServiceClients: serviceClients(conf),
	})
	if _, err := c.Attest(t.Context(), &workloadattestorv1.AttestRequest{Pid: 1}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("before it is configured: %v", err)
	}
	if err := configure(t, conf, domain, fmt.Sprintf("socket = %q", m.Socket())); err != nil {
		t.Fatal(err)
	}
	selectors := func(pid int) []string {
		t.Helper()
		r, err := c.Attest(t.Context(), &workloadattestorv1.AttestRequest{Pid: int32(pid)})
		if err != nil {
			t.Fatal(err)
		}
		return r.SelectorValues
	}
	of := func(unit string) *exec.Cmd {
		cmd := exec.Command("sleep", "600")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), declare + "=" + unit}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		eventually(t, "the process of "+unit+" runs", func() bool { return slices.Contains(selectors(cmd.Process.Pid), "unit:"+unit) })
		return cmd
	}
	has := func(values []string, prefix string) bool {
		return slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(v, prefix) })
	}
	billing, shop := of("billing.service"), of("shop.service")
	got := selectors(billing.Process.Pid)
	t.Logf("%q", got)
	for _, want := range []string{"measured:yes", "app:billing", "digest:", "uid:0", "gid:0", "unit:billing.service", "executable:sha256:"} {
		if !has(got, want) {
			t.Errorf("no selector %s in %q", want, got)
		}
	}
	if got := selectors(shop.Process.Pid); has(got, "measured:") || has(got, "app:") || has(got, "digest:") {
		t.Errorf("of no app: %q", got)
	}
	// Its files change: the process runs what they were.
	program := program(m.Dir)
	if err := errors.Join(os.WriteFile(program+".new", []byte("#!/bin/sh\nexit 1\n"), 0o600), os.Rename(program+".new", program)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is not measured any more", func() bool { return !has(selectors(billing.Process.Pid), "measured:") })
	if got := selectors(billing.Process.Pid); has(got, "app:") || has(got, "digest:") {
		t.Errorf("after a change: %q", got)
	}
	eventually(t, "a new process is", func() bool { return has(selectors(of("billing.service").Process.Pid), "measured:yes") })
	billing.Process.Kill()
	billing.Wait()
	if _, err := c.Attest(t.Context(), &workloadattestorv1.AttestRequest{Pid: int32(billing.Process.Pid)}); status.Code(err) != codes.NotFound {
		t.Errorf("a process that ended: %v", err)
	}
	if _, err := c.Attest(t.Context(), &workloadattestorv1.AttestRequest{Pid: -1}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("not a process: %v", err)
	}
}

// TestSettings: what would be ignored, or cannot protect, is refused.
func TestSettings(t *testing.T) {
	m := machine(t, t.TempDir())
	settings, _ := policy(t, m, nil)
	for _, bad := range []string{
		"challenge_timeot = \"1s\"", "challenge_timeout = \"0s\"", "challenge_timeout = \"1h\"", "collateral = \"relative\"", "collateral = \"/nonexistent\"",
		"agent_path_template = \"{{ .Measurement }}\"", "agent_path_template = \"{{ .Machine }}\"", "agent_path_template = \"{{ .AK }}/..\"", "agent_path_template = \"{{ .AK }}//x\"", "agent_path_template = \"{{\"",
		"agent_path_template = \"{{ slice .AK 0 8 }}\"", "x { }", "=",
	} {
		if _, err := newServer(t, settings+bad+"\n"); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", bad, err)
		}
	}
	s, err := newServer(t, settings+"agent_path_template = \"{{ .Product }}/{{ .AK }}\"\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := attest(t, agent(t, m, domain), s, nil)
	if err != nil || strings.Count(got.GetSpiffeId(), "/") != 7 {
		t.Errorf("%v, %v", got, err)
	}
	// A second server would not know what the first one learns.
	other, err := newServer(t, settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := configure(t, other.conf, domain, fmt.Sprintf("state = %q\n%s", s.state, settings)); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a folder of another server: %v", err)
	}
	if _, err := attest(t, agent(t, m, domain), other, nil); err != nil {
		t.Errorf("after a configuration that was refused: %v", err)
	}
}
