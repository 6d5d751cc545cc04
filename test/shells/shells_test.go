// SPDX-License-Identifier: Apache-2.0

package shells

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is the longest time for a shell to answer, also on a machine with other work.
const patience = time.Minute

// scripts are the places of the completion scripts in a package.
var scripts = map[string]string{
	"bash": "usr/share/bash-completion/completions/agentctl",
	"zsh":  "usr/share/zsh/vendor-completions/_agentctl",
	"fish": "usr/share/fish/vendor_completions.d/agentctl.fish",
}

// TestTab: in each shell, what is typed before TAB leads to the words that fit. With
// AGENTD_TEST_PACKAGE, the tree of an unpacked package, program and scripts are those of
// the package. A key TAB offers nothing that a file or an agent has put there for a shell
// to execute.
func TestTab(t *testing.T) {
	if testing.Short() {
		t.Skip("builds agentctl and starts shells: not with -short")
	}
	tree := os.Getenv("AGENTD_TEST_PACKAGE")
	if tree == "" {
		tree = build(t)
	}
	image := machine(t)
	env := append(os.Environ(), "PATH="+filepath.Join(tree, "usr/bin")+":"+os.Getenv("PATH"), "AGENTD_ADMIN_SOCKET="+agent(t),
		"HOME="+t.TempDir(), "TERM=xterm", "LC_ALL=C.UTF-8", "PS1=> ", "HISTFILE=/dev/null")
	for shell, script := range scripts {
		t.Run(shell, func(t *testing.T) {
			program, err := exec.LookPath(shell)
			if err != nil {
				t.Skip(shell + " is not installed")
			}
			if _, err := os.Stat(bashCompletion); shell == "bash" && err != nil {
				t.Skip("bash-completion is not installed")
			}
			for _, c := range []struct{ typed, want string }{
				{"agentctl ", "app attest collateral completion doctor enroll export help key log measure policy seal self show status unseal verify version"},
				{"agentctl key r", "recipients recover replace-ak require-digest retire rewrap rotate rotate-store-key"},
				{"agentctl app ", "add disable enable list reload show"},
				{"agentctl help enroll ", "activate challenge finish request"},
				{"agentctl verify --p", "--pcrs --policy --public-key"},
				{"agentctl verify --c", "--certificate --collateral --crl revocation"}, // with what each is for
				{"agentctl app add --root " + image + " ", "first.service third.service"},
				{"agentctl app enable --root " + image + " ", "first.service second.service"},
				{"agentctl app show ", "billing web"},
				{"agentctl measure --app ", "billing web"},
				{"agentctl key show billing ", "cookie token"},
				{"agentctl unseal --name ", "cookie token"},
				{"agentctl completion ", "bash fish zsh"},
			} {
				if missing := offered(t, shell, program, filepath.Join(tree, script), env, c.typed, strings.Fields(c.want)); missing != "" {
					t.Fatalf("%q: %s", c.typed, missing) // the others would wait as long
				}
			}
		})
	}
}

const bashCompletion = "/usr/share/bash-completion/bash_completion"

// offered asks a shell, and returns what it does not offer.
func offered(t *testing.T, shell, program, script string, env []string, typed string, want []string) string {
	t.Helper()
	switch shell {
	case "fish":
		cmd := exec.CommandContext(t.Context(), program, "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", "--", script, typed)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return missing(string(out), want)
	case "zsh":
		return press(t, exec.CommandContext(t.Context(), program, "-f", "-i"), env,
			"fpath=("+filepath.Dir(script)+" $fpath); autoload -U compinit; compinit -D -u; LISTMAX=0; setopt no_beep", typed+"\t", want)
	}
	return press(t, exec.CommandContext(t.Context(), program, "--norc", "--noprofile", "-i"), env,
		"source "+bashCompletion+"; source "+script+"; bind 'set page-completions off'; bind 'set completion-query-items 0'", typed+"\t\t", want)
}

// controls are what moves the cursor and colours text.
var controls = regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|.)|[\x07\x08]`)

// missing returns the words that are not in what a shell shows.
func missing(shown string, want []string) string {
	words := strings.Fields(controls.ReplaceAllString(shown, " "))
	for _, w := range want {
		found := false
		for _, s := range words {
			found = found || s == w
		}
		if !found {
			return fmt.Sprintf("%q is not offered in %q", w, shown)
		}
	}
	return ""
}

// press starts a shell on a terminal, has it run a line, types, and waits until it shows
// the words.
func press(t *testing.T, cmd *exec.Cmd, env []string, prepare, typed string, want []string) string {
	t.Helper()
	terminal, far := pseudoTerminal(t)
	defer terminal.Close()
	cmd.Dir = t.TempDir()
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, far, far, far
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	far.Close()
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var lock sync.Mutex
	var shown strings.Builder
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := terminal.Read(b)
			lock.Lock()
			shown.Write(b[:n])
			lock.Unlock()
			if err != nil {
				return
			}
		}
	}()
	after := func() string {
		lock.Lock()
		defer lock.Unlock()
		_, rest, _ := strings.Cut(shown.String(), "ready42")
		return rest
	}
	// The shell shows the line as it was typed too, so the word is computed.
	if _, err := terminal.WriteString(prepare + "; echo ready$((6*7))\n"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for after() == "" && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := terminal.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	for missing(after(), want) != "" && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := os.Lstat(filepath.Join(cmd.Dir, "pwned")); err == nil {
		return "the shell executed a name"
	}
	return missing(after(), want)
}

// pseudoTerminal returns both ends of a terminal that is wide enough for all words.
func pseudoTerminal(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal: %v", err)
	}
	fd := int(near.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0),
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 200, Col: 300}))
	if err != nil {
		t.Fatal(err)
	}
	far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

// build makes what a package would contain.
func build(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	agentctl := filepath.Join(tree, "usr/bin/agentctl")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", agentctl, "../../cmd/agentctl")
	if built := os.Getenv("AGENTD_TEST_BINARIES"); built != "" {
		cmd = exec.CommandContext(t.Context(), "install", "-D", filepath.Join(built, "agentctl"), agentctl)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for shell, script := range scripts {
		b, err := exec.CommandContext(t.Context(), agentctl, "completion", shell).Output()
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(tree, script), string(b))
	}
	return tree
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// machine returns the folder of a machine with units and declarations.
func machine(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"etc/systemd/system/first.service":          "[Service]\nExecStart=/bin/true\n",
		"usr/lib/systemd/system/third.service":      "[Service]\nExecStart=/bin/true\n",
		"etc/systemd/system/$(touch pwned).service": "[Service]\n",
		"etc/agentd/apps.d/a.toml":                  "unit = \"first.service\"\nuser = \"root\"\nfiles = [\"/bin/true\"]\n",
		"etc/agentd/apps.d/b.toml":                  "unit = \"second.service\"\nuser = \"root\"\nfiles = [\"/bin/true\"]\n",
	} {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

// agent serves what completion asks, and returns its socket.
func agent(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, body := range map[string]string{
		"/v1/apps":  `{"apps":[{"name":"billing","state":"measured"},{"name":"web","state":"measured"}]}`,
		"/v1/store": `{"status":{"state":"ok"},"blobs":[{"app":"billing","kind":"secret","name":"token"},{"app":"billing","kind":"secret","name":"cookie"},{"app":"billing","kind":"secret","name":"$(touch pwned)"}]}`,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(body)) })
	}
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return socket
}
