// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

const logUsage = `Usage: agentctl log [--start N] [--format text|cel-json|cel-tlv] [--json]

Show the measurement log as the agent has it. This command does not verify the log;
verifying evidence does.

  --start N             number of the first record (default 0)
  --format text         for people (default)
  --format cel-json     TCG Canonical Event Log, JSON encoding
  --format cel-tlv      the same in TLV, the bytes that the log head covers
  --json                one object for each record

Examples:
  agentctl log
  agentctl log --format cel-tlv > log.cel
`

func logCommand(t *terminal, s *sockets) *cobra.Command {
	var start uint64
	var format string
	c := command("log", logUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if !slices.Contains([]string{"text", string(api.LogCELJSON), string(api.LogTLV)}, format) {
			return misuse(fmt.Errorf("--format %q is not known: want text, cel-json or cel-tlv", format)).withHint(helpHint(c))
		}
		if t.json && format == string(api.LogTLV) {
			return misuse(errors.New("--format cel-tlv is not JSON: leave --json out, or use cel-json")).withHint(helpHint(c))
		}
		agent := s.clientSocket()
		if format == string(api.LogCELJSON) {
			b, err := agent.LogCELJSON(c.Context(), start)
			if err != nil {
				return failed(err)
			}
			if t.screen {
				b = onlyPrintable(b)
			}
			return t.writeOutput("-", append(b, '\n'))
		}
		l, err := agent.Log(c.Context(), start)
		if err != nil {
			return failed(err)
		}
		switch {
		case format == string(api.LogTLV):
			return t.writeOutput("-", l.Records)
		case t.json:
			lines, err := logLines(l)
			if err != nil {
				return misuse(err)
			}
			return t.writeJSON(lines)
		}
		return t.printLog(l)
	})
	c.Flags().Uint64Var(&start, "start", 0, "")
	c.Flags().StringVar(&format, "format", "text", "")
	return c
}

func (t *terminal) printLog(l *evidence.Log) error {
	records, err := pcr.DecodeLog(l.Records, l.Start)
	for _, r := range records {
		e, err := r.Event()
		if err != nil {
			return misuse(fmt.Errorf("record %d: %w", r.Number, err))
		}
		text, details := describeEvent(e)
		n := &node{text: cleanLine(fmt.Sprintf("%d: %s", r.Number, text))}
		for _, d := range details {
			n.add("%s", d)
		}
		n.draw(t.out)
	}
	if err != nil {
		return misuse(err)
	}
	return nil
}

// parseLog parses --log of attest.
func parseLog(s string) (api.LogMode, uint64, error) {
	switch s {
	case "whole":
		return api.LogWhole, 0, nil
	case "none":
		return api.LogNone, 0, nil
	}
	start, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return "", 0, misuse(fmt.Errorf("--log %q: want whole, none or the number of a record", s))
	}
	return api.LogFrom, start, nil
}
