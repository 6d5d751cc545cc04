// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/declared"
)

// sshAgent starts an ssh-agent of billing with one key, and returns its socket.
func (a *agent) sshAgent(t *testing.T, name string, key string) (socket string) {
	t.Helper()
	socket = filepath.Join(filepath.Dir(a.Dir), name)
	cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), "ssh-agent", "--listen", socket, "--key", key, "--socket", a.Socket())
	cmd.Env = append(os.Environ(), declared.Variable+"=billing.service")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("ssh-agent %s said: %s", name, said.String())
		}
	})
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Lstat(socket); err == nil {
			return socket
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("ssh-agent %s ended: %v", name, err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("ssh-agent %s makes no socket", name)
		}
	}
}

// publicLine returns the public half of a key of billing, as ssh has it.
func (a *agent) publicLine(t *testing.T, key string) string {
	t.Helper()
	out, err := a.run("billing.service", "key", "public", "--ssh", "--key", key)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// sshd returns the command line of an sshd for one connection, on standard input and output.
// As root it wants a folder in /run, which it gets in a mount namespace of its own.
func sshd(t *testing.T, program, config string) string {
	t.Helper()
	serve := program + " -i -e -f " + config
	if os.Geteuid() != 0 {
		return serve
	}
	inside := "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec " + serve
	if out, err := exec.Command("unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run").CombinedOutput(); err != nil {
		if _, err := os.Stat("/run/sshd"); err != nil {
			t.Skipf("sshd as root needs /run/sshd, and a mount namespace cannot be made: %s", out)
		}
		return serve
	}
	return "unshare --mount sh -c '" + inside + "'"
}

// write writes a file that only this user can write.
func write(t *testing.T, path, text string) string {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// TestSSH checks that ssh logs in to sshd with a user key that stays in the agent, and that sshd
// shows a host key that stays in the agent: for each algorithm, and before and after a restart of the
// agent. Another key is refused by either side.
func TestSSH(t *testing.T) {
	program, err := exec.LookPath("sshd")
	if err != nil {
		if program = "/usr/sbin/sshd"; exec.Command(program, "-V").Run() != nil {
			if _, err := os.Stat(program); err != nil {
				t.Skip("sshd is not installed")
			}
		}
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is not installed")
	}
	who, err := user.Current()
	must(t, err)
	a := start(t)
	for _, algorithm := range api.SigningAlgorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			dir := t.TempDir()
			hostKey, userKey := "host:"+string(algorithm), "deploy:"+string(algorithm)
			hostAgent, userAgent := a.sshAgent(t, "h-"+string(algorithm), hostKey), a.sshAgent(t, "u-"+string(algorithm), userKey)
			line := a.publicLine(t, hostKey)
			host := write(t, filepath.Join(dir, "host.pub"), line)
			authorized := write(t, filepath.Join(dir, "authorized_keys"), a.publicLine(t, userKey))
			config := write(t, filepath.Join(dir, "sshd_config"), fmt.Sprintf("HostKeyAgent %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n", hostAgent, host, authorized))
			known := write(t, filepath.Join(dir, "known_hosts"), "guest "+line)
			other := write(t, filepath.Join(dir, "other_hosts"), "guest "+a.publicLine(t, "other:"+string(algorithm)))
			login := func(known, agent string) (string, error) {
				cmd := exec.Command("ssh", "-F", "/dev/null", "-T", "-o", "ProxyCommand="+sshd(t, program, config), "-o", "IdentityAgent="+agent,
					"-o", "IdentityFile=none", "-o", "UserKnownHostsFile="+known, "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes",
					"-o", "BatchMode=yes", "-o", "ConnectTimeout=60", who.Username+"@guest", "echo logged in")
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := login(known, userAgent); err != nil || !strings.Contains(out, "logged in\n") {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := login(other, userAgent); err == nil || strings.Contains(out, "logged in\n") {
				t.Errorf("a host with another key was taken for the known one:\n%s", out)
			}
			if out, err := login(known, hostAgent); err == nil || strings.Contains(out, "logged in\n") {
				t.Errorf("a user with another key was let in:\n%s", out)
			}
			if algorithm != api.SignEd25519 {
				return
			}
			a.restart(t)
			if out, err := login(known, userAgent); err != nil || !strings.Contains(out, "logged in\n") {
				t.Errorf("after a restart of the agent: %v\n%s", err, out)
			}
		})
	}
	// ssh-add shows the key, and changes nothing.
	socket := a.sshAgent(t, "add", "deploy")
	add := func(args ...string) (string, error) {
		cmd := exec.Command("ssh-add", args...)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if _, err := exec.LookPath("ssh-add"); err != nil {
		t.Skip("ssh-add is not installed")
	}
	want := a.publicLine(t, "deploy")
	for _, refused := range [][]string{{"-D"}, {"-d", write(t, filepath.Join(t.TempDir(), "k.pub"), want)}} {
		if out, err := add(refused...); err == nil {
			t.Errorf("ssh-add %v: %s", refused, out)
		}
	}
	if out, err := add("-L"); err != nil || out != want {
		t.Errorf("%v\n%s, want %s", err, out, want)
	}
}
