// SPDX-License-Identifier: Apache-2.0

// Package metricstest reads the text formats of package metrics for tests, strictly: only what
// that package may write.
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
var suffixes = map[string][]string{"gauge": {""}, "counter": {"_total"}, "histogram": {"_bucket", "_sum", "_count"}}

// Parse returns the value of each sample of a text in the format of Prometheus, by its name and
// labels as they are written.
func Parse(text []byte) (map[string]float64, error) {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		return nil, errors.New("it does not end with the end of a line")
	}
	return parse(string(text), false)
}

// ParseOpenMetrics returns the same of a text in the format of OpenMetrics 1.0.
func ParseOpenMetrics(text []byte) (map[string]float64, error) {
	body, ok := strings.CutSuffix(string(text), "# EOF\n")
	if !ok {
		return nil, errors.New("it does not end with # EOF")
	}
	return parse(body, true)
}

func parse(body string, open bool) (map[string]float64, error) {
	r := reader{open: open, samples: make(map[string]float64), families: make(map[string]bool)}
	for line := range strings.Lines(body) {
		if err := r.line(strings.TrimSuffix(line, "\n")); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return r.samples, nil
}

type reader struct {
	open         bool   // OpenMetrics: counters have a suffix that their family lacks
	family, kind string // of the lines that are read; kind is empty before the type
	families     map[string]bool
	samples      map[string]float64
}

func (r *reader) line(line string) error {
	if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
		family, help, _ := strings.Cut(rest, " ")
		if help == "" || !name.MatchString(family) {
			return errors.New("not a help text")
		}
		if r.families[family] {
			return errors.New("the family was there before")
		}
		r.families[family], r.family, r.kind = true, family, ""
		return nil
	}
	if rest, ok := strings.CutPrefix(line, "# TYPE "+r.family+" "); ok && r.kind == "" {
		if _, known := suffixes[rest]; !known {
			return errors.New("not a type")
		}
		if r.kind = rest; rest == "counter" && strings.HasSuffix(r.family, "_total") == r.open {
			return errors.New("the suffix of a counter is that of the other format")
		}
		return nil
	}
	parts := sample.FindStringSubmatch(line)
	if parts == nil || r.kind == "" || !r.named(parts[1]) {
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

// named reports whether a sample of the family may have this name.
func (r *reader) named(sample string) bool {
	for _, suffix := range suffixes[r.kind] {
		if sample == strings.TrimSuffix(r.family, "_total")+suffix {
			return true
		}
	}
	return false
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
