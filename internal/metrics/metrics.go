// SPDX-License-Identifier: Apache-2.0

// Package metrics collects what the parts of a program count, and writes it in the text format
// of Prometheus, version 0.0.4:
//
//	# HELP agentd_requests_total Requests that were answered.
//	# TYPE agentd_requests_total counter
//	agentd_requests_total{socket="client",code="ok"} 17
//
// or in that of OpenMetrics 1.0, which names the family of a counter without its suffix and ends
// with a line "# EOF". The lines with values are the same.
//
// Nothing is registered: the part that shows the figures makes a [Set] and passes it to each
// [Source].
// So a part that counts knows no other part, and costs nothing while no program asks.
//
// What has figures for each of many things is bounded by its source: never by what a client
// sends, and never by uid. A Set drops what is beyond [MaxSamples], and says so.
package metrics

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// MaxSamples is how many lines with a value a [Set] has at most.
const MaxSamples = 8192

// A Source adds what it counts to a set. It does not wait for a device.
type Source interface{ Metrics(*Set) }

// A Label tells samples of one family apart.
type Label struct{ Name, Value string }

// A Set is the figures of one moment. The zero value is empty.
type Set struct {
	families map[string]*family
	samples  int
	dropped  int
}

// family is the samples of one name, without the suffix of the samples.
type family struct {
	kind, help, suffix string
	samples            bytes.Buffer
}

// A Format is one of the text formats.
type Format string

const (
	Prometheus  Format = "prometheus"
	OpenMetrics Format = "openmetrics"
)

// Gauge adds a value that can go up and down. The text in help is one sentence.
func (s *Set) Gauge(name, help string, value float64, labels ...Label) {
	s.add(name, "gauge", help, "", value, labels)
}

// Flag adds a gauge of 1 or 0.
func (s *Set) Flag(name, help string, value bool, labels ...Label) {
	number := 0.0
	if value {
		number = 1
	}
	s.Gauge(name, help, number, labels...)
}

// Counter adds a value that only grows while the program runs. Its sample gets the suffix
// "_total".
func (s *Set) Counter(name, help string, value float64, labels ...Label) {
	s.add(name, "counter", help, "_total", value, labels)
}

func (s *Set) add(name, kind, help, suffix string, value float64, labels []Label) {
	if s.full(1) {
		return
	}
	f := s.family(name, kind, help, suffix)
	f.sample(name+suffix, value, labels...)
}

// full reports whether n samples more do not fit, and counts them then.
func (s *Set) full(n int) bool {
	if s.samples+n > MaxSamples {
		s.dropped += n
		return true
	}
	s.samples += n
	return false
}

func (s *Set) family(name, kind, help, suffix string) *family {
	if s.families == nil {
		s.families = make(map[string]*family)
	}
	f := s.families[name]
	if f == nil {
		f = &family{kind: kind, help: help, suffix: suffix}
		s.families[name] = f
	}
	return f
}

func (f *family) sample(name string, value float64, labels ...Label) {
	b := &f.samples
	b.WriteString(name)
	for i, l := range labels {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(l.Name + `="` + escape(l.Value) + `"`)
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	b.WriteString(" " + number(value) + "\n")
}

// number returns a value in the spelling that both formats have.
func number(value float64) string {
	if math.IsInf(value, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(value, 'g', -1, 64)
}

// escape returns the value of a label as the formats have it.
func escape(value string) string {
	return escaper.Replace(strings.ToValidUTF8(value, "\ufffd"))
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// Text returns the set in a format, with families in alphabetical order.
func (s *Set) Text(format Format) []byte {
	if s.dropped > 0 {
		dropped := s.dropped
		s.samples, s.dropped = 0, 0 // room for one more
		s.Gauge("agentd_metrics_dropped", "Samples that did not fit.", float64(dropped))
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(s.families)) {
		f := s.families[name]
		if format == Prometheus {
			name += f.suffix
		}
		out.WriteString("# HELP " + name + " " + helpText(f.help, format) + "\n# TYPE " + name + " " + f.kind + "\n")
		out.Write(f.samples.Bytes())
	}
	if format == OpenMetrics {
		out.WriteString("# EOF\n")
	}
	return out.Bytes()
}

// helpText returns a help text in a format: that of Prometheus does not escape quotation marks.
func helpText(help string, format Format) string {
	if format == Prometheus {
		return strings.ReplaceAll(escape(help), `\"`, `"`)
	}
	return escape(help)
}
