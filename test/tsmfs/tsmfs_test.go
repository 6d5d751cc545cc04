// SPDX-License-Identifier: Apache-2.0

package tsmfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	"github.com/cvm-agentd/agentd/test/hangfs"
)

// What this program is, if it is not the test: a server or a client of the file system. A
// process must not use the file system that it serves.
const role = "AGENTD_TEST_TSMFS"

// Users of the test: the agent, and another.
const (
	agent   = 65532
	another = 65533
)

func TestMain(m *testing.M) {
	if err := hangfs.OwnNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var err error
	switch words := strings.Fields(os.Getenv(role)); {
	case len(words) == 0:
		code := m.Run()
		_ = os.RemoveAll(keys())
		os.Exit(code)
	case words[0] == "serve":
		err = serve(words[1], words[2], words[3])
	case words[0] == "ask":
		err = ask(words[1], words[2])
	case words[0] == "write":
		err = write(words[1])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// serve serves at path until its input ends, with the keys of a folder. If fault is an attribute,
// it never answers for that.
func serve(path, fault, keys string) error {
	p, err := soft.New(soft.Options{Directory: keys})
	if err != nil {
		return err
	}
	end, err := Mount(path, tsm.Options{Firmware: p.Transport(), Before: func(_ *tsm.Entry, _ bool, name string) error {
		if name == fault {
			select {}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return end()
}

// ask asks for reports by an entry, each over other data, until its input ends or one is wrong. It
// prints the outcome of each.
func ask(path, patience string) error {
	wait, err := time.ParseDuration(patience)
	if err != nil {
		return err
	}
	d, err := snp.New(configfs.New(configfs.Dir(path), nil), snp.Options{WithoutKeys: true})
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var data [64]byte
		copy(data[:], lines.Text())
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		r, err := d.Report(ctx, platform.Fixed(data))
		cancel()
		switch {
		case err == nil && [64]byte(r.Bytes[0x50:]) != data:
			return errors.New("the report of another request")
		case err == nil && len(r.Certificates) != 3:
			return fmt.Errorf("%d certificates, %w", len(r.Certificates), r.TableError)
		case err == nil:
			fmt.Println("good")
		default:
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
		}
	}
	return nil
}

// write writes to the entry as another program does, until it is killed.
func write(path string) error {
	e := configfs.Dir(path)
	for {
		if err := e.Write(configfs.InBlob, make([]byte, 64)); err != nil {
			return err
		}
		if _, err := e.Read(configfs.OutBlob, 4096); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
}

// process starts this program in a role, as a user.
func process(t *testing.T, uid uint32, words ...string) (c *exec.Cmd, in io.WriteCloser, out *bufio.Reader) {
	t.Helper()
	c = exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), role+"="+strings.Join(words, " "))
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if uid != 0 {
		c.Dir = "/"
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, in, bufio.NewReader(pipe)
}

// keys returns the folder with the keys of the software platform, which take long to make.
var keys = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "tsmfs-keys")
	if err != nil {
		panic(err)
	}
	return dir
})

// mount serves the file system in a process of its own, and returns its folder.
func mount(t *testing.T, fault string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("there is no /dev/fuse")
	}
	dir, err := os.MkdirTemp("", "tsmfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c, in, out := process(t, 0, "serve", dir, fault, keys())
	t.Cleanup(func() {
		_ = in.Close()
		_ = c.Process.Kill()
		_ = c.Wait()
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	line, err := out.ReadString('\n')
	if strings.Contains(line, "operation not permitted") || strings.Contains(line, "permission denied") {
		t.Skip("mounting is not permitted: ", line)
	}
	if line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return dir
}

// commands returns what the unit runs at its start, for an entry in dir that is the agent's.
func commands(t *testing.T, dir string) (all [][]string) {
	t.Helper()
	b, err := os.ReadFile("../../systemd/agentd-configfs.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ExecCondition" && key != "ExecStart" {
			continue
		}
		value = strings.ReplaceAll(value, filepath.Dir(configfs.Entry), dir)
		all = append(all, strings.Fields(strings.ReplaceAll(value, "agentd:agentd", fmt.Sprintf("%d:%d", agent, agent))))
	}
	if len(all) != 2 || !slices.Contains(all[0], filepath.Join(dir, filepath.Base(configfs.Entry))) {
		t.Fatalf("the unit runs %q", all)
	}
	return all
}

// start runs what the unit runs.
func start(t *testing.T, dir string) {
	t.Helper()
	for _, words := range commands(t, dir) {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", words, err, out)
		}
	}
}

// asker is a process that asks for reports.
type asker struct {
	t    *testing.T
	c    *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	asks int
}

func newAsker(t *testing.T, uid uint32, dir, patience string) *asker {
	c, in, out := process(t, uid, "ask", filepath.Join(dir, filepath.Base(configfs.Entry)), patience)
	a := &asker{t: t, c: c, in: in, out: out}
	t.Cleanup(func() { go a.end() }) // it may hang until the server ends
	return a
}

// end kills the process, and waits for its end.
func (a *asker) end() {
	_ = a.in.Close()
	_ = a.c.Process.Kill()
	_ = a.c.Wait()
}

// send asks for a report, and does not wait for it.
func (a *asker) send() {
	a.asks++
	if _, err := fmt.Fprintf(a.in, "request %d of %d\n", a.asks, os.Getpid()); err != nil {
		a.t.Fatal(err)
	}
}

// ask asks for a report, and returns the outcome.
func (a *asker) ask() string {
	a.t.Helper()
	a.send()
	line, err := a.out.ReadString('\n')
	if err != nil {
		a.t.Fatalf("%q, %v", line, err)
	}
	return strings.TrimSpace(line)
}

// TestHandedOver: what the unit runs hands one entry over, to one user.
func TestHandedOver(t *testing.T) {
	dir := mount(t, "none")
	if got := newAsker(t, agent, dir, "2m").ask(); !strings.Contains(got, "does not exist") || !strings.Contains(got, "agentd-configfs.service") {
		t.Errorf("before: %s", got)
	}
	start(t, dir)
	mine := newAsker(t, agent, dir, "2m")
	for range 3 {
		if got := mine.ask(); got != "good" {
			t.Errorf("the agent: %s", got)
		}
	}
	if got := newAsker(t, another, dir, "2m").ask(); !strings.Contains(got, "permission denied") || !strings.Contains(got, "not handed over") {
		t.Errorf("another user: %s", got)
	}
	for _, uid := range []uint32{agent, another} {
		for _, words := range [][]string{{"mkdir", dir + "/second"}, {"mkdir", dir + "/agentd/second"}, {"rmdir", dir + "/agentd"}, {"chmod", "0777", dir}} {
			c := exec.Command(words[0], words[1:]...)
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			if out, err := c.CombinedOutput(); err == nil {
				t.Errorf("user %d: %q succeeded: %s", uid, words, out)
			}
		}
	}
	// Root makes the entry anew: a process that uses it goes on.
	if out, err := exec.Command("rmdir", dir+"/agentd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := mine.ask(); !strings.Contains(got, "does not exist") {
		t.Errorf("without the entry: %s", got)
	}
	start(t, dir)
	if got := mine.ask(); got != "good" {
		t.Errorf("with a new entry: %s", got)
	}
}

// TestKilled: case 117. Twenty kills of what the unit runs, and twenty of the agent in the middle of a
// request, leave one entry, and it works.
func TestKilled(t *testing.T) {
	dir := mount(t, "none")
	all := commands(t, dir)
	for range 20 {
		words := all[rand.IntN(len(all))]
		c := exec.Command(words[0], words[1:]...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(rand.N(3 * time.Millisecond)) // wherever it is then
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	start(t, dir)
	for range 20 {
		a := newAsker(t, agent, dir, "2m")
		if got := a.ask(); got != "good" {
			t.Fatalf("after kills: %s", got)
		}
		a.send()
		<-time.After(rand.N(3 * time.Millisecond))
		a.end()
	}
	names, err := exec.Command("ls", dir).Output()
	if err != nil || string(names) != "agentd\n" {
		t.Errorf("entries %q, %v", names, err)
	}
	if got := newAsker(t, agent, dir, "2m").ask(); got != "good" {
		t.Errorf("after kills: %s", got)
	}
}

// TestAnotherWriter: case 117. While root writes to the entry without a pause, each report is that of its
// own request, or none.
func TestAnotherWriter(t *testing.T) {
	dir := mount(t, "none")
	start(t, dir)
	c, _, _ := process(t, 0, "write", filepath.Join(dir, filepath.Base(configfs.Entry)))
	defer func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	a := newAsker(t, agent, dir, "2m")
	outcomes := map[string]int{}
	for range 50 {
		got := a.ask()
		if got != "good" && !strings.Contains(got, "another program") {
			t.Fatal(got)
		}
		outcomes[strings.Fields(got)[0]]++
	}
	t.Log(outcomes)
}

// TestHung: case 117. A kernel that never answers holds up a request for as long as its caller waits.
func TestHung(t *testing.T) {
	for _, name := range []string{configfs.OutBlob, configfs.AuxBlob, configfs.InBlob, configfs.Generation} {
		dir := mount(t, name)
		start(t, dir)
		a := newAsker(t, agent, dir, "300ms")
		begin := time.Now()
		for range 2 {
			if got := a.ask(); !strings.Contains(got, "timed out") {
				t.Errorf("%s: %s", name, got)
			}
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s: %v for two requests of 300ms", name, took)
		}
	}
}
