// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/internal/delivery"
)

// forms are the ways in which a secret could be written down.
func forms(secret []byte) map[string][]byte {
	return map[string][]byte{
		"as it is":       secret,
		"in hexadecimal": []byte(hex.EncodeToString(secret)),
		"in base64":      []byte(base64.RawStdEncoding.EncodeToString(secret)),
		"quoted":         []byte(strings.Trim(strconv.Quote(string(secret)), `"`)),
		"as Go prints":   fmt.Appendf(nil, "%v", secret)[1:60],
	}
}

// sought is a secret, and what looks for it.
func sought(t *testing.T) (secret []byte, look func(where string, content []byte)) {
	secret = make([]byte, 48)
	rand.Read(secret)
	needles := forms(secret)
	return secret, func(where string, content []byte) {
		t.Helper()
		for form, needle := range needles {
			if bytes.Contains(content, needle) {
				t.Errorf("%s: the secret is there %s", where, form)
			}
		}
	}
}

// TestSecretIsNowhere: case 130. The secret is in no log, argument, environment, file, message or core of
// either side, also after messages that were refused.
func TestSecretIsNowhere(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	secret, look := sought(t)
	b.ticket("d", "token")

	// The sender waits for the secret, and shows what it is while it has one.
	sender := b.command(b.sending("d", "token")...)
	to, err := sender.StdinPipe()
	must(t, err)
	var message, said bytes.Buffer
	sender.Stdout, sender.Stderr = &message, &said
	must(t, sender.Start())
	proc := fmt.Sprintf("/proc/%d/", sender.Process.Pid)
	until(t, "the sender leaves no core", func() bool {
		filter, err := os.ReadFile(proc + "coredump_filter")
		must(t, err)
		limits, err := os.ReadFile(proc + "limits")
		must(t, err)
		return strings.Trim(string(filter), "0\n") == "" && noCore(limits)
	})
	_, err = to.Write(secret)
	must(t, err)
	look("the sender's process", process(t, proc))
	must(t, to.Close())
	must(t, sender.Wait())
	look("what the sender says", said.Bytes())
	look("the message", message.Bytes())

	changed := bytes.Clone(message.Bytes())
	changed[len(changed)-9] ^= 1
	_, stderr, code := b.run("", "secret", "receive", b.file("changed", changed))
	if code != 1 {
		t.Errorf("a changed message: exit code %d", code)
	}
	look("the refusal", []byte(stderr))
	receipt, stderr, code := b.run("", "secret", "receive", b.file("message", message.Bytes()))
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	look("the receipt, and what is said of it", append(receipt, stderr...))
	if got := b.loaded("billing.service", "token"); got != string(secret) {
		t.Errorf("the unit gets %q", got)
	}
	if _, stderr, code := b.run(string(secret), b.sending("d", "token")...); code != 1 {
		t.Errorf("a second secret: exit code %d\n%s", code, stderr)
	} else {
		look("the refusal of a second secret", []byte(stderr))
	}

	b.nowhere(look)
	if !strings.Contains(b.Output(), "a delivered secret is refused") {
		t.Errorf("no refusal was logged that could be looked at:\n%s", b.Output())
	}
}

// nowhere ends the agent with all that it shows, and looks at that and at all files.
func (b *bed) nowhere(look func(string, []byte)) {
	t := b.t
	t.Helper()
	agent := fmt.Sprintf("/proc/%d/", b.PID())
	look("the agent's process", process(t, agent))
	limits, err := os.ReadFile(agent + "limits")
	must(t, err)
	filter, err := os.ReadFile(agent + "coredump_filter")
	must(t, err)
	if !noCore(limits) || strings.Trim(string(filter), "0\n") != "" {
		t.Errorf("the agent leaves a core: filter %s\n%s", filter, limits)
	}
	must(t, syscall.Kill(b.PID(), syscall.SIGABRT)) // with the stacks of all goroutines
	until(t, "the agent has ended", b.Ended)
	if !strings.Contains(b.Output(), "a delivered secret was stored") {
		t.Errorf("nothing was logged that could be looked at:\n%s", b.Output())
	}
	look("log of the agent", []byte(b.Output()))
	files := 0
	must(t, filepath.WalkDir(filepath.Dir(b.Dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		look(path, content)
		files++
		return err
	}))
	if files < 10 {
		t.Errorf("looked at %d files", files)
	}
}

// TestSecretIsNowhereOnTheWay: case 130. The same over a connection; the process that carries has the secret not
// even in its memory.
func TestSecretIsNowhereOnTheWay(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	secret, look := sought(t)
	c := b.serve(delivery.Unit)
	sender := b.command(b.over(c.address, "--delivery", "d")...)
	to, err := sender.StdinPipe()
	must(t, err)
	var said bytes.Buffer
	sender.Stdout, sender.Stderr = &said, &said
	must(t, sender.Start())
	proc := fmt.Sprintf("/proc/%d/", sender.Process.Pid)
	until(t, "there is a ticket", func() bool { return strings.Contains(c.output(), "a ticket was made") })
	limits, err := os.ReadFile(proc + "limits")
	must(t, err)
	if filter, err := os.ReadFile(proc + "coredump_filter"); err != nil || strings.Trim(string(filter), "0\n") != "" || !noCore(limits) {
		t.Errorf("the sender leaves a core: filter %s\n%s", filter, limits)
	}
	_, err = to.Write(secret)
	must(t, err)
	look("the sender's process", process(t, proc))
	must(t, to.Close())
	if err := sender.Wait(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &said, c.output())
	}
	look("what the sender says", said.Bytes())
	if got := b.loaded("billing.service", "token"); got != string(secret) {
		t.Errorf("the unit gets %q", got)
	}
	carrier := fmt.Sprintf("/proc/%d/", c.cmd.Process.Pid)
	look("the carrier's process", process(t, carrier))
	all := memory(t, carrier)
	look("the carrier's memory", all)
	if !bytes.Contains(all, []byte("agentd/delivery/sealed/1")) {
		t.Error("what was read is not the memory of a carrier")
	}
	look("log of the carrier", []byte(c.output()))
	b.nowhere(look)
}

// memory is all memory of a process that it can write.
func memory(t *testing.T, proc string) (all []byte) {
	t.Helper()
	maps, err := os.ReadFile(proc + "maps")
	must(t, err)
	mem, err := os.Open(proc + "mem")
	must(t, err)
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var may string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &may); err != nil || !strings.HasPrefix(may, "rw") || to-from > 1<<30 {
			continue
		}
		b, _ := io.ReadAll(io.NewSectionReader(mem, from, to-from)) // what there is of it
		all = append(all, b...)
	}
	return all
}

// process is what other processes see of one: arguments and environment.
func process(t *testing.T, proc string) (all []byte) {
	t.Helper()
	for _, name := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(proc + name)
		must(t, err)
		all = append(all, b...)
	}
	return all
}

// noCore reports whether limits of a process leave no core.
func noCore(limits []byte) bool {
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			return strings.Join(strings.Fields(rest), " ") == "0 0 bytes"
		}
	}
	return false
}
