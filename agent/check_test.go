// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// How many configurations are generated, and which of those that are accepted are started with
// a TPM, and by the real command.
const (
	generated = 2000
	withTPM   = 20
	asCommand = 60
)

// generator makes configurations for one folder, all paths of which exist or are missing in it.
type generator struct {
	*rand.Rand
	dir   string
	paths []string
}

func newGenerator(t *testing.T, seed uint64) *generator {
	dir, err := os.MkdirTemp("", "agentd-check-") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), dir: dir}
	at := func(name string) string { return filepath.Join(dir, name) }
	err = errors.Join(
		os.Mkdir(at("private"), 0o700), os.Mkdir(at("readable"), 0o755), os.Mkdir(at("open"), 0o700), os.Chmod(at("open"), 0o777),
		os.WriteFile(at("file"), nil, 0o600), os.Symlink("private", at("link")), os.Symlink("nowhere", at("dangling")),
		syscall.Mkfifo(at("fifo"), 0o600), os.Mkdir(at("c.lock"), 0o700),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"private", "private/s", "readable", "readable/s", "readable/s/deeper", "readable/s.lock", "open", "open/s", "file", "file/s", "link", "link/s",
		"dangling", "dangling/s", "fifo", "c", "c.lock", "missing", "missing/s", "missing/further/s", "é", "with space", "state", "log", "certs", "apps.d", "private/\u202e",
	} {
		g.paths = append(g.paths, at(name))
	}
	g.paths = append(g.paths, "", "/", "relative", dir+"/", dir+"//x", dir+"/./x", dir+"/x/..", at(strings.Repeat("n", 256)), at(strings.Repeat("n", 120)),
		at(strings.Repeat("n/", 1<<11)+"n"), "/proc/self/x", "/dev/null", "/nowhere/x", dir+"/a\x00b", dir+"/a\nb")
	return g
}

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// text returns a configuration of a machine in the folder, with a few keys of which most are
// sound.
func (g *generator) text() string {
	at := func(name string) string { return fmt.Sprintf("%q", filepath.Join(g.dir, name)) }
	set := map[string]string{
		"sockets.client": at("client"), "sockets.admin": at("admin"), "sockets.client_group": `""`,
		"tpm.device": at("tpm"), "report.device": at("report"), "report.certificate_folder": at("certs"), "state.folder": at("state"),
		"measurement.application_folders": "[" + at("apps.d") + "]", "measurement.log_folder": at("log"), "measurement.firmware_log": `""`,
	}
	v := reflect.ValueOf(config.Default())
	for range 1 + g.IntN(3) {
		i := g.IntN(v.NumField())
		if v.Field(i).Kind() != reflect.Struct {
			key := v.Type().Field(i).Tag.Get("toml")
			set[key] = g.value(key, v.Field(i))
			continue
		}
		j := g.IntN(v.Field(i).NumField())
		key := v.Type().Field(i).Tag.Get("toml") + "." + v.Field(i).Type().Field(j).Tag.Get("toml")
		set[key] = g.value(key, v.Field(i).Field(j))
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&b, "%s = %s\n", key, set[key])
	}
	return b.String()
}

func (g *generator) value(key string, v reflect.Value) string {
	quote := func(s string) string { return strings.ReplaceAll(fmt.Sprintf("%+q", s), `\x00`, `\u0000`) }
	if g.IntN(10) == 0 { // of any type
		return pick(g, "1", "-1", "10000000000", "0", "1.5", "true", `"x"`, "[]", "{}", "[1]", "07:32:00", "1979-05-27", "0x10", "1_000", "9223372036854775808", "nan", "")
	}
	switch v.Interface().(type) {
	case config.Duration:
		return quote(pick(g, "2s", "1m30s", "100ms", "0s", "0", "-1s", "10m", "10m1ns", "1h", "9999999h", "1", "", "2 s", "1ns"))
	case bool:
		return pick(g, "true", "false")
	case []string:
		if strings.Contains(key, "recipients") {
			return pick(g, "[]", `["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kudqa9wnq6eht2c"]`, `["age1x"]`, `[""]`)
		}
		var all []string
		for range g.IntN(3) {
			all = append(all, quote(pick(g, g.paths...)))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case platform.Name:
		return quote(pick(g, "auto", "configfs", "azure", "", "AUTO", "another", "auto\n"))
	case string:
		switch key {
		case "tpm.pcrs":
			return quote(pick(g, "sha256:0-15", "sha256:13", "sha384:13", "sha1:13", "sha256:0-7", "sha256:13+sha384:13", "sha256:0-23", "", "sha256", "sha256:24", "sha256:13,13", "md5:13", "sha512:13", "sm3_256:13", "sha3_256:13"))
		case "sockets.client_group":
			return quote(pick(g, "", "root", "no such group", "a\nb", "0", strings.Repeat("g", 300)))
		case "tpm.device":
			return quote(pick(g, "tpm0", "unix:", "unix:relative", "unix:"+pick(g, g.paths...), "fd:3", "fd:1", "fd:x", "fd:", "fd:4294967296", pick(g, g.paths...)))
		}
		return quote(pick(g, g.paths...))
	}
	return pick(g, "0", "1", "2", "3", "4", "7", "13", "14", "15", "16", "23", "24", "64", "1024", "2048", "4096", "65535", "65536", "65537", "1048576", "16777216", "16777217", "-1", "4294967295", "4294967296", "1099511627776", "9223372036854775807")
}

// begin brings an agent up and ends it. The error is that of the start.
func begin(t *testing.T, c config.Config, device func(context.Context) (*tpm.Device, error)) error {
	t.Helper()
	d, err := newDaemon(Options{Config: c, Version: "test", Machine: Machine{
		BootID:          "one boot",
		LogEndsWithBoot: func(*durable.Dir) (bool, error) { return true, nil },
		OpenTPM:         device,
		OpenPlatform:    platform.Always(another{}, platform.Choice{}),
	}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.run(ctx, nil) }()
	select {
	case <-d.supervisor.Tried():
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		return errors.New("not tried after a minute")
	}
	cancel()
	return <-done
}

// TestWhatCheckAcceptsStarts: each generated configuration that the check accepts brings an agent
// up, which then works or says in its status what it waits for, with no TPM and with one.
// Some are given to the real commands too: agentd starts exactly if `agentd --check` ends with 0,
// and if `agentctl doctor` calls the configuration valid.
func TestWhatCheckAcceptsStarts(t *testing.T) {
	commands, done, err := simulated.Commands()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	device := swtpm.Start(t).Listen()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := newGenerator(t, seed)
	none := func(context.Context) (*tpm.Device, error) { return nil, errors.New("no TPM in this test") }
	some := func(ctx context.Context) (*tpm.Device, error) {
		return tpm.Open(ctx, device.Address(), tpm.Options{})
	}
	accepted, refused, ran := 0, 0, map[bool]int{}
	n := generated
	if testing.Short() {
		n /= 10
	}
	for i := range n {
		text := g.text()
		c, err := config.Parse("c.toml", []byte(text), config.Default())
		if err == nil {
			err = Check(c, os.Geteuid())
		}
		if i%(generated/asCommand) == 0 {
			ran[g.command(t, commands, text)]++
		}
		if err != nil {
			refused++
			if !Refused(err) {
				t.Errorf("refused in a way that systemd would try again: %v\n%s", err, text)
			}
			continue
		}
		if accepted++; accepted%(generated/withTPM/2) == 0 {
			err = begin(t, c, some)
		} else {
			err = begin(t, c, none)
		}
		if err != nil {
			t.Errorf("accepted, and does not start: %v\n%s", err, text)
		}
		g.clean(t)
	}
	t.Logf("%d accepted, %d refused; commands %v", accepted, refused, ran)
	if accepted < n/8 || refused < n/8 || !testing.Short() && (ran[true] < asCommand/10 || ran[false] < asCommand/10) {
		t.Error("the generator makes too few of one kind")
	}
}

// clean removes what an agent made in the folder.
func (g *generator) clean(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	keep := []string{"private", "readable", "open", "file", "link", "dangling", "fifo", "c.lock"}
	for _, e := range entries {
		path := filepath.Join(g.dir, e.Name())
		if !slices.Contains(keep, e.Name()) {
			err = errors.Join(err, os.RemoveAll(path))
		} else if e.IsDir() {
			inside, _ := os.ReadDir(path)
			for _, x := range inside {
				err = errors.Join(err, os.RemoveAll(filepath.Join(path, x.Name())))
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// command compares what `agentd --check` says of a configuration with what the start does, and
// reports whether it started.
func (g *generator) command(t *testing.T, commands, text string) (started bool) {
	t.Helper()
	defer g.clean(t)
	file := filepath.Join(g.dir, "config.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	agentd := filepath.Join(commands, "agentd")
	out, err := exec.Command(agentd, "--check", "--config", file).CombinedOutput()
	valid, says := doctor(t, filepath.Join(commands, "agentctl"), file)
	if valid != (err == nil) {
		t.Errorf("the doctor says %q, --check %s\n%s", says, out, text)
	}
	cmd := exec.Command(agentd, "--config", file)
	stderr, open := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if open != nil {
		t.Fatal(open)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	started, code := answers(text, ended)
	if started {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}
	if said, _ := os.ReadFile(stderr.Name()); started != (err == nil) || err != nil && code != 78 {
		t.Errorf("--check says %v, %s\nstarted %v, exit code %d: %s\n%s", err, out, started, code, said, text)
	}
	return started
}

// doctor returns whether the doctor finds nothing wrong with a configuration, and what it says of it.
func doctor(t *testing.T, agentctl, file string) (valid bool, says string) {
	t.Helper()
	out, err := exec.Command(agentctl, "--socket", file+".none", "--admin", file+".none", "doctor", "--json", "--config", file).Output()
	var d struct {
		Findings []struct{ Name, Level, Says string } `json:"findings"`
	}
	if wrong := json.Unmarshal(out, &d); wrong != nil {
		t.Fatalf("doctor: %v, %v: %s", err, wrong, out)
	}
	for _, f := range d.Findings {
		if f.Name == "configuration" {
			return f.Level == "ok", f.Says
		}
	}
	t.Fatalf("doctor says nothing of the configuration: %s", out)
	return false, ""
}

// answers waits until an agent answers on its client socket or ends.
func answers(text string, ended <-chan error) (bool, int) {
	c, _ := config.Parse("c.toml", []byte(text), config.Default())
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); ; {
		select {
		case err := <-ended:
			if x, ok := errors.AsType[*exec.ExitError](err); ok {
				return false, x.ExitCode()
			}
			return false, 0
		case <-late:
			return false, -1
		case <-tick.C:
			if c, err := net.Dial("unix", c.Sockets.Client); err == nil {
				c.Close()
				return true, 0
			}
		}
	}
}
