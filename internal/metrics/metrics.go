// SPDX-License-Identifier: Apache-2.0

// Package metrics collects what the parts of a program count, and writes it in the text format
// of OpenMetrics 1.0:
//
//	# TYPE agentd_requests counter
//	# HELP agentd_requests Requests that were answered.
//	agentd_requests_total{socket="client",code="ok"} 17
//	# EOF
//
// Only gauges and counters are written, so that readers of the older text format of Prometheus
// understand it as well.
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

// family is the samples of one name.
type family struct {
	kind, help, suffix string
	samples            bytes.Buffer
}

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
	if s.samples == MaxSamples {
		s.dropped++
		return
	}
	s.samples++
	if s.families == nil {
		s.families = make(map[string]*family)
	}
	f := s.families[name]
	if f == nil {
		f = &family{kind: kind, help: help, suffix: suffix}
		s.families[name] = f
	}
	b := &f.samples
	b.WriteString(name + f.suffix)
	for i, l := range labels {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(l.Name + `="` + escape(l.Value) + `"`)
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

// escape returns a value of a label, or a help text, as the format has it.
func escape(value string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(value, "\ufffd"))
}

// Text returns the set, with families in alphabetical order.
func (s *Set) Text() []byte {
	if s.dropped > 0 {
		s.samples = 0 // room for one more
		s.Gauge("agentd_metrics_dropped", "Samples that did not fit.", float64(s.dropped))
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(s.families)) {
		f := s.families[name]
		out.WriteString("# TYPE " + name + " " + f.kind + "\n# HELP " + name + " " + escape(f.help) + "\n")
		out.Write(f.samples.Bytes())
	}
	out.WriteString("# EOF\n")
	return out.Bytes()
}
