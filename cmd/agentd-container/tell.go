// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// tell writes why a container does not start to where the engine shows it.
//
// runc shows what a hook wrote to standard error, and engines show what a runtime wrote. crun gives a
// hook /dev/null, and says of a hook that failed only that it did. So the reason goes to crun's own
// standard error, of which podman shows what it has if the log of crun is not a single object: the
// reason is written there too, before crun writes that the hook failed.
func (i *invocation) tell(reason string) {
	fmt.Fprintln(os.Stderr, reason)
	if i.hook && discards(os.Stderr) {
		_ = tellRuntime(filepath.Join("/proc", strconv.Itoa(os.Getppid())), reason) // the reason is in the journal too
	}
}

// discards reports whether what is written to f is lost.
func discards(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) // null(4)
}

// maxCommand is how many bytes of the command line of a runtime are read.
const maxCommand = 256 << 10

// tellRuntime writes a reason to the standard error of a runtime, by its folder in /proc, and to its
// log, if it has one in JSON.
func tellRuntime(proc, reason string) error {
	command, err := durable.ReadFile(filepath.Join(proc, "cmdline"), maxCommand)
	if err != nil {
		return err
	}
	if err := addTo(filepath.Join(proc, "fd/2"), 0, reason+"\n"); err != nil {
		return err
	}
	log, format := logOf(strings.Split(string(command), "\x00"))
	if log == "" || format != "json" {
		return nil
	}
	line, err := strictjson.Encode(map[string]string{"level": "error", "msg": reason, "time": time.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	return addTo(log, unix.O_NOFOLLOW, string(line)+"\n")
}

// addTo adds text to a file that is there. It does not wait for a reader.
func addTo(path string, flags int, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK|unix.O_NOCTTY|flags, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// logOf returns log and format of the log of a runtime from its command line, empty if none is given
// before its command. Its path must be absolute.
func logOf(args []string) (path, format string) {
	for n := 1; n < len(args) && strings.HasPrefix(args[n], "-"); n++ {
		name, value, joined := strings.Cut(strings.TrimLeft(args[n], "-"), "=")
		if !joined && hasValue(name) {
			if n++; n == len(args) {
				break
			}
			value = args[n]
		}
		switch name {
		case "log":
			path = value
		case "log-format":
			format = value
		}
	}
	if !filepath.IsAbs(path) {
		path = ""
	}
	return path, format
}
