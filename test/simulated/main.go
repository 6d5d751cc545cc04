// SPDX-License-Identifier: Apache-2.0

package simulated

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// sideBySide is how many tests that call t.Parallel run at once for each processor. Machines wait
// for each other, their disk and their TPM most of the time.
const sideBySide = 2

// Main runs the tests of a package that share what takes long to make, and returns the
// exit code for os.Exit. It calls prepare with the folder of the commands and an empty
// folder, and after the tests the stop that prepare returned, if any. Both folders are
// removed. With -short nothing is prepared; if prepare returns ErrNoTPM the tests run
// with what it had made until then. Tests skip if they miss what they need. Without -parallel,
// twice as many tests run side by side as there are processors.
func Main(m *testing.M, prepare func(commands, dir string) (stop func() error, err error)) int {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", strconv.Itoa(sideBySide*runtime.GOMAXPROCS(0))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	code, err := around(m, prepare)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func around(m *testing.M, prepare func(commands, dir string) (stop func() error, err error)) (code int, err error) {
	if testing.Short() {
		return m.Run(), nil
	}
	commands, done, err := Commands()
	if err != nil {
		return 0, err
	}
	defer done()
	dir, err := os.MkdirTemp("", "agentd-") // short: so is the path of a socket
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	stop, err := prepare(commands, dir)
	if stop != nil {
		defer func() { err = errors.Join(err, stop()) }()
	}
	if err != nil && !errors.Is(err, ErrNoTPM) {
		return 0, err
	}
	return m.Run(), nil
}

// Platform makes a software platform in dir, and returns the folder that Start copies:
// the keys of its test root take seconds to make.
func Platform(commands, dir string) (platform string, err error) {
	first, err := Start(commands, dir, "")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "platform"), first.Stop()
}

// Run starts a machine of its own for one test or benchmark, which is skipped where
// there is no TPM, and fails when the machine does not end well.
func Run(tb testing.TB, args ...string) *Machine {
	tb.Helper()
	return RunIn(tb, filepath.Join(tb.TempDir(), "m"), args...)
}

// RunIn does what Run does, in a folder that may contain a configuration.
func RunIn(tb testing.TB, dir string, args ...string) *Machine {
	tb.Helper()
	commands, done, err := Commands()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(done)
	m, err := Start(commands, dir, "", args...)
	if errors.Is(err, ErrNoTPM) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return m
}
