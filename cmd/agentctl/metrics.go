// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

const metricsUsage = `Usage: agentctl metrics [--client] [--json]

Print what the agent counts, in the text format of Prometheus: its limits and what was
refused because of them, who waits for what, requests by code, applications, measurement
log, TPM and platform. That needs the admin socket. docs/operating.md says how to have
it collected.

Flags:
  --client  ask the client socket, which leaves out what tells of other users and
            applications
  --json    print one object, from names and labels to numbers

Examples:
  agentctl metrics
  agentctl metrics | grep '^agentd_limit'
  agentctl metrics --client
  agentctl metrics --json | jq .agentd_evidence_ready
`

func metricsCommand(t *terminal, s *sockets) *cobra.Command {
	var shared bool
	c := command("metrics", metricsUsage, arguments(), func(c *cobra.Command, _ []string) error {
		ask := s.adminSocket().Metrics
		if shared {
			ask = s.clientSocket().Metrics
		}
		b, err := ask(c.Context())
		if err != nil {
			return failed(err)
		}
		if t.json {
			all, err := samples(string(b))
			if err != nil {
				return misuse(err)
			}
			return t.writeJSON(all)
		}
		if t.screen {
			b = onlyPrintable(b)
		}
		return t.writeOutput("-", b)
	})
	c.Flags().BoolVar(&shared, "client", false, "")
	return c
}

// rounded returns v with at most 15 significant digits if it has a fraction. A sum of times may have
// 17, and JSON of this project has no number with so many digits in a row.
func rounded(v float64) float64 {
	if v == math.Trunc(v) { // infinite ones too
		return v
	}
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 15, 64), 64)
	if err != nil {
		return v
	}
	return short
}

// samples returns the value of each sample of a text for Prometheus, by its name and labels.
func samples(text string) (map[string]float64, error) {
	all := make(map[string]float64)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[end+1:], 64)
		if err != nil || end < 0 {
			return nil, fmt.Errorf("the agent answered %q, want a metric: install the same version of agentctl and agentd", line)
		}
		all[line[:end]] = rounded(value)
	}
	return all, nil
}
