// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/oci"
)

// runtimes are the runtimes that are looked for by name.
var runtimes = []string{"runc", "crun"}

// folders are where packages install runtimes. The PATH of an engine is not asked.
var folders = []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"}

// execute adds the hook if the arguments make a container, and becomes the runtime.
func (i *invocation) execute() error {
	path, err := i.find()
	if err != nil {
		return err
	}
	bundle, makes, err := bundleOf(i.args)
	if err != nil {
		return fmt.Errorf("the container does not start: %w", err)
	}
	if makes {
		if err := i.addHook(bundle); err != nil {
			return fmt.Errorf("the container does not start: %w", err)
		}
	}
	err = unix.Exec(path, append([]string{path}, i.args...), os.Environ())
	return fmt.Errorf("execute %s: %w", path, err)
}

// find returns the path of the runtime, which is not this program itself.
func (i *invocation) find() (string, error) {
	candidates := []string{i.runtime}
	if !filepath.IsAbs(i.runtime) {
		if !slices.Contains(runtimes, i.runtime) {
			return "", fmt.Errorf("runtime %q is not known: want %s, or an absolute path", i.runtime, strings.Join(runtimes, ", "))
		}
		candidates = nil
		for _, dir := range folders {
			candidates = append(candidates, filepath.Join(dir, i.runtime))
		}
	}
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("find the runtime: %w", err)
	}
	for _, path := range candidates {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && !os.SameFile(info, self) {
			return path, nil
		}
	}
	return "", fmt.Errorf("runtime %s is not installed: none of %s is a program", i.runtime, strings.Join(candidates, ", "))
}

// bundleOf returns the bundle of a command line of runc or crun that makes a container, as
// "create" and "run" do. The first argument that is neither a flag nor the value of one is the
// command. A command line that could be read in two ways is refused.
func bundleOf(args []string) (bundle string, makes bool, err error) {
	rest, command, err := commandOf(args)
	if err != nil || command != "create" && command != "run" {
		return "", false, err
	}
	for n := 0; n < len(rest); n++ {
		arg := rest[n]
		if arg == "--" {
			break
		}
		name, value, joined := strings.Cut(arg, "=")
		switch name {
		case "--console-socket", "-console-socket", "--pid-file", "-pid-file", "--preserve-fds", "-preserve-fds":
			if !joined {
				n++ // what follows is its value, whatever it looks like
			}
		case "--bundle", "-bundle", "-b":
			if !joined {
				if n++; n == len(rest) {
					return "", false, fmt.Errorf("%s has no value", arg)
				}
				value = rest[n]
			}
			if bundle != "" {
				return "", false, errors.New("two bundles are given")
			}
			if bundle = value; bundle == "" {
				return "", false, fmt.Errorf("%s has an empty value", name)
			}
		case "--config", "-config", "-f": // of crun: another file than the one that the agent reads
			return "", false, fmt.Errorf("%s is given: only the %s of the bundle can be measured", name, oci.ConfigName)
		default:
			if strings.HasPrefix(arg, "-b") || strings.HasPrefix(arg, "-f") || shortened(name) { // "-bDIR" and "--bund DIR", as crun takes them
				return "", false, fmt.Errorf("argument %q is ambiguous: write --bundle DIR, and other flags in full", arg)
			}
		}
	}
	if bundle == "" {
		bundle = "."
	}
	bundle, err = filepath.Abs(bundle)
	return bundle, true, err
}

// shortened reports whether a flag is a beginning of one that has a value, which crun takes for the
// whole as long as no other flag begins so.
func shortened(name string) bool {
	begin, long := strings.CutPrefix(name, "--")
	return long && begin != "" && slices.ContainsFunc(valued, func(flag string) bool { return strings.HasPrefix(flag, begin) })
}

// valued are the flags of create and run that have a value.
var valued = []string{"bundle", "config", "console-socket", "pid-file", "preserve-fds"}

// Flags of runc and crun before the command.
var (
	withValue    = []string{"root", "log", "log-format", "log-level", "criu", "rootless", "cgroup-manager"}
	withoutValue = []string{"debug", "systemd-cgroup", "help", "h", "version", "v", "V", "?"}
)

func hasValue(flag string) bool { return slices.Contains(withValue, flag) }

// commandOf returns the command, and the arguments after it.
func commandOf(args []string) (rest []string, command string, err error) {
	for n := 0; n < len(args); n++ {
		arg := args[n]
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			return args[n+1:], arg, nil
		}
		name, _, joined := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		switch {
		case slices.Contains(withoutValue, name), joined && slices.Contains(withValue, name):
		case hasValue(name):
			n++
		default:
			if slices.ContainsFunc(args[n:], func(a string) bool { return a == "create" || a == "run" }) {
				return nil, "", fmt.Errorf("flag %q of the runtime is not known, so it is not clear what is started", arg)
			}
			return nil, "", nil
		}
	}
	return nil, "", nil
}

// addHook adds the hook to the configuration in a bundle, which another process sees as it was or
// with the hook.
func (i *invocation) addHook(path string) error {
	top, err := os.Open("/")
	if err != nil {
		return err
	}
	defer top.Close()
	bundle, err := oci.OpenBundle(top, path)
	if err != nil {
		return err
	}
	defer bundle.Close()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	args := []string{"agentd-container", "hook"}
	if i.socket != "" {
		args = append(args, "--admin-socket", i.socket)
	}
	config, changed, err := oci.AddHook(bundle.Config, oci.Hook{Path: self, Args: append(args, i.engine), Timeout: int(oci.HookTimeout / time.Second)})
	if err != nil || !changed {
		return err
	}
	// No other user can have put another folder there: this one belongs to root, and so do those
	// above it, or root's engine would not have made it there.
	return durable.WriteFile(filepath.Join(path, oci.ConfigName), config, bundle.Mode)
}
