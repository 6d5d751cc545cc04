package keys

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/test/machine"
)

// shared is made once: the commands, and a software platform with the keys of its test
// root, which take seconds to make.
var shared struct{ commands, platform string }

func TestMain(m *testing.M) {
	if program := os.Getenv(withoutHiding); program != "" {
		fmt.Fprintln(os.Stderr, becomeUnhidden(program))
		os.Exit(1)
	}
	code, err := prepared(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func prepared(m *testing.M) (int, error) {
	var done func()
	var err error
	if shared.commands, done, err = machine.Commands(); err != nil {
		return 0, err
	}
	defer done()
	dir, err := os.MkdirTemp("", "agentd-keys-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	first, err := machine.Start(shared.commands, dir, "")
	if errors.Is(err, machine.ErrNoTPM) {
		return m.Run(), nil
	}
	if err != nil {
		return 0, err
	}
	if err := first.Stop(); err != nil {
		return 0, err
	}
	shared.platform = filepath.Join(dir, "platform")
	return m.Run(), nil
}
