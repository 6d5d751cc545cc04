// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
)

// order is a script to execute, and report its result; one JSON line each.
type order struct {
	ID     uint64 `json:"id"`
	Script string `json:"script"`
}

type report struct {
	ID     uint64 `json:"id"`
	Code   int    `json:"code"`
	Output string `json:"output"` // standard output and error
}

// drive executes orders, one after the other.
func drive(port string) error {
	f, err := os.OpenFile(port, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	out := json.NewEncoder(f)
	if err := out.Encode(report{Output: "ready"}); err != nil {
		return err
	}
	in := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		var o order
		if json.Unmarshal(line, &o) != nil || o.ID == 0 {
			continue // an order that was sent before the machine restarted
		}
		cmd := exec.Command("/bin/bash", "-c", o.Script)
		cmd.Dir = "/root"
		b, err := cmd.CombinedOutput()
		r := report{ID: o.ID, Output: string(b)}
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit):
			r.Code = exit.ExitCode()
		case err != nil:
			r.Code, r.Output = 255, r.Output+err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}
