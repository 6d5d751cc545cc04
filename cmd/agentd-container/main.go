// SPDX-License-Identifier: Apache-2.0

// Agentd-container has containers measured before their first program runs. Engines of containers
// start it: as a hook of podman and CRI-O, and as the runtime of docker and containerd, which then
// gets the hook into the configuration of the container. The agent does the measuring. If it
// refuses, or does not answer, the container does not start.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/version"
)

const usage = `Usage: agentd-container hook [--admin-socket PATH] ENGINE
       agentd-container runtime [--admin-socket PATH] ENGINE RUNTIME [ARGUMENT]...
       ENGINE-RUNTIME [ARGUMENT]...

Has containers measured before their first program runs. Engines start it; "agentctl
container enable" sets them up. If the agent refuses, or does not answer, the container
does not start, and the engine shows why.

  hook       a hook of the stage createRuntime, with the state of the container on
             standard input; a container of a user without root is passed over
  runtime    for create and run, adds that hook to the config.json of the bundle; then
             RUNTIME, which is runc, crun or a path, is executed with the arguments

A link with the name ENGINE-RUNTIME, as docker-runc, is the second with the agent's own
socket.

  --admin-socket PATH  admin socket of the agent (default /run/agentd/admin.sock)
  --version            print the version and end

Examples:
  agentd-container hook podman <state.json
  agentd-container runtime docker runc create --bundle /run/bundle 4f1c
`

// errUsage is returned for a command line that is not one of ours.
var errUsage = errors.New("want a hook or a runtime: `agentd-container --help` shows both")

// An invocation is what the command line says.
type invocation struct {
	hook    bool
	socket  string // as it was given; empty: the default
	engine  string
	runtime string   // name or path
	args    []string // of the runtime
}

// maxReason is how long a reason is at most: runtimes and engines wrap it several times.
const maxReason = 1024

func main() {
	i, err := run(os.Args)
	if err == nil {
		return
	}
	i.tell("agentd: " + text.Fit(err.Error(), maxReason))
	os.Exit(1)
}

func run(args []string) (i invocation, err error) {
	if len(args) == 2 && filepath.Base(args[0]) == "agentd-container" {
		switch args[1] {
		case "--help", "-h":
			fmt.Print(usage)
			return i, nil
		case "--version":
			fmt.Println("agentd-container", version.Version)
			return i, nil
		}
	}
	if i, err = parse(args); err != nil {
		return i, err
	}
	if i.hook {
		return i, i.measure(os.Stdin)
	}
	return i, i.execute()
}

// parse reads the command line, with the name that the program was started by.
func parse(args []string) (i invocation, err error) {
	if len(args) == 0 {
		return i, errUsage
	}
	name, args := filepath.Base(args[0]), args[1:]
	if engine, runtime, ok := linked(name); ok {
		return invocation{engine: engine, runtime: runtime, args: args}, nil
	}
	if len(args) == 0 || args[0] != "hook" && args[0] != "runtime" {
		return i, errUsage
	}
	i.hook, args = args[0] == "hook", args[1:]
	if len(args) >= 2 && args[0] == "--admin-socket" {
		i.socket, args = args[1], args[2:]
		if !filepath.IsAbs(i.socket) {
			return i, fmt.Errorf("--admin-socket %q: want an absolute path, such as %s", i.socket, api.AdminSocket)
		}
	}
	if len(args) == 0 || !slices.Contains(evidence.Engines, args[0]) {
		return i, fmt.Errorf("want the name of an engine: %s", strings.Join(evidence.Engines, ", "))
	}
	i.engine, args = args[0], args[1:]
	if i.hook {
		if len(args) > 0 {
			return i, fmt.Errorf("unexpected argument %q", args[0])
		}
		return i, nil
	}
	if len(args) == 0 || args[0] == "" || strings.HasPrefix(args[0], "-") {
		return i, errors.New("want the name or the path of a runtime, such as runc")
	}
	i.runtime, i.args = args[0], args[1:]
	return i, nil
}

// linked returns the engine and the runtime that the name of a link stands for.
func linked(name string) (engine, runtime string, ok bool) {
	for _, engine := range evidence.Engines {
		if runtime, ok := strings.CutPrefix(name, engine+"-"); ok && slices.Contains(runtimes, runtime) {
			return engine, runtime, true
		}
	}
	return "", "", false
}
