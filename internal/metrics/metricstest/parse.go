// SPDX-License-Identifier: Apache-2.0

// Package metricstest reads the text format of OpenMetrics 1.0 for tests, strictly: only what
// package metrics may write.
package metricstest

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	name   = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	sample = regexp.MustCompile(`^([^{ ]+)(\{.*\})? ([^ ]+)$`)
	label  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"`)
)

// suffixes of the samples of a type.
var suffixes = map[string]string{"gauge": "", "counter": "_total"}

// Parse returns the value of each sample, by its name and labels as they are written.
func Parse(text []byte) (map[string]float64, error) {
	body, ok := strings.CutSuffix(string(text), "# EOF\n")
	if !ok {
		return nil, errors.New("it does not end with # EOF")
	}
	r := reader{samples: make(map[string]float64), families: make(map[string]bool)}
	for line := range strings.Lines(body) {
		if err := r.line(strings.TrimSuffix(line, "\n")); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return r.samples, nil
}

type reader struct {
	family, kind string // of the lines that are read
	helped       bool
	families     map[string]bool
	samples      map[string]float64
}

func (r *reader) line(line string) error {
	if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
		var found bool
		r.family, r.kind, found = strings.Cut(rest, " ")
		if _, known := suffixes[r.kind]; !found || !known || !name.MatchString(r.family) {
			return errors.New("not a type")
		}
		if r.families[r.family] {
			return errors.New("the family was there before")
		}
		r.families[r.family], r.helped = true, false
		return nil
	}
	if rest, ok := strings.CutPrefix(line, "# HELP "+r.family+" "); ok && rest != "" && !r.helped {
		r.helped = true
		return nil
	}
	parts := sample.FindStringSubmatch(line)
	if parts == nil || !r.helped || parts[1] != r.family+suffixes[r.kind] {
		return errors.New("not a sample of the family")
	}
	if err := labels(parts[2]); err != nil {
		return err
	}
	value, err := strconv.ParseFloat(parts[3], 64)
	if err != nil || r.kind != "gauge" && value < 0 {
		return fmt.Errorf("the value %q: %w", parts[3], errors.Join(err, errors.New("not one of a "+r.kind)))
	}
	if _, twice := r.samples[parts[1]+parts[2]]; twice {
		return errors.New("the sample was there before")
	}
	r.samples[parts[1]+parts[2]] = value
	return nil
}

// labels checks "{a="x",b="y"}", or nothing.
func labels(text string) error {
	if text == "" {
		return nil
	}
	seen := make(map[string]bool)
	rest := strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}")
	for {
		m := label.FindStringSubmatch(rest)
		if m == nil || seen[m[1]] {
			return fmt.Errorf("the labels %q", rest)
		}
		seen[m[1]] = true
		if rest = rest[len(m[0]):]; rest == "" {
			return nil
		}
		if rest, _ = strings.CutPrefix(rest, ","); rest == "" {
			return errors.New("a comma at the end")
		}
	}
}
