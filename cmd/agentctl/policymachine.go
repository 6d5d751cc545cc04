// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"strings"
)

// machines has a policy to begin with for each known kind of machine. It says what is true there and
// what cannot be, and refuses everything until what it marks is filled in.
//
//go:embed machines/*.toml
var machines embed.FS

// machineNames lists the kinds, in alphabetical order.
func machineNames() (names []string) {
	files, err := machines.ReadDir("machines")
	if err != nil {
		panic(err) // it is part of the program
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), path.Ext(f.Name())))
	}
	return names
}

// machinePolicy returns the policy of a kind of machine.
func machinePolicy(name string) ([]byte, error) {
	text, err := machines.ReadFile("machines/" + name + ".toml")
	if err != nil || strings.ContainsAny(name, "/.") {
		return nil, fmt.Errorf("--machine %q is not known: want one of %s", name, strings.Join(machineNames(), ", "))
	}
	return text, nil
}

// errBoth is returned for a draft of two things.
var errBoth = errors.New("--from drafts a policy from a machine, --machine begins one for a kind of machine: give one of them")
