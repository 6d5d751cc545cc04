// SPDX-License-Identifier: Apache-2.0

// Notices prints the licence of this module, and of each module that is linked into its
// programs, as their authors wrote them. A line "== MODULE VERSION" comes before each.
// A module without a licence file is an error.
//
//	notices PACKAGE...
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// module is a module as `go list` describes it.
type module struct {
	Path, Version, Dir string
	Main               bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

func run(packages []string) error {
	if len(packages) == 0 {
		return errors.New("usage: notices PACKAGE...")
	}
	modules, err := linked(packages)
	if err != nil {
		return err
	}
	for _, m := range modules {
		text, err := licence(m)
		if err != nil {
			return err
		}
		fmt.Printf("== %s %s\n\n%s\n\n", m.Path, m.Version, text)
	}
	return nil
}

// linked returns the main module, Go itself, and the other modules that the packages need.
func linked(packages []string) ([]module, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Module"}, packages...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []module
	seen := map[string]module{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct{ Module *module }
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if m := p.Module; m != nil && m.Main && len(all) == 0 {
			all = append(all, *m)
		} else if m != nil && !m.Main {
			seen[m.Path] = *m
		}
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	all = append(all, module{Path: "The Go programming language and its standard library", Version: runtime.Version(), Dir: strings.TrimSpace(string(root))})
	for _, path := range slices.Sorted(maps.Keys(seen)) {
		all = append(all, seen[path])
	}
	return all, nil
}

// licence returns the text of a module's licence and of its notices. The main module may be in a folder of
// its repository, which has the licence.
func licence(m module) (string, error) {
	if _, err := os.Stat(filepath.Join(m.Dir, "LICENSE")); m.Main && err != nil {
		m.Dir = filepath.Dir(m.Dir)
	}
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return "", err
	}
	var texts []string
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !strings.HasPrefix(name, "LICENSE") && !strings.HasPrefix(name, "LICENCE") && !strings.HasPrefix(name, "COPYING") && !strings.HasPrefix(name, "NOTICE") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
		if err != nil {
			return "", err
		}
		texts = append(texts, strings.TrimSpace(string(b)))
	}
	if len(texts) == 0 {
		return "", fmt.Errorf("%s %s has no licence file in %s", m.Path, m.Version, m.Dir)
	}
	return strings.Join(texts, "\n\n"), nil
}
