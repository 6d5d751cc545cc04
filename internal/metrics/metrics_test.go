// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"math"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/metrics/metricstest"
)

func TestText(t *testing.T) {
	var s metrics.Set
	s.Counter("b_seconds", "Time.", 1.5, metrics.Label{Name: "class", Value: "keys"})
	s.Gauge("a", "First, by name.", 3)
	s.Counter("b_seconds", "Time.", 0.25, metrics.Label{Name: "class", Value: "admin"}, metrics.Label{Name: "of", Value: "x"})
	s.Flag("c", "Yes.", true)
	s.Flag("d", "No.", false)
	s.Gauge("e", "Words.", 1, metrics.Label{Name: "version", Value: "a\"b\\c\nd\xff{}#,"})
	s.Gauge("f", "Limits\nof numbers.", math.Inf(1))
	s.Gauge("g", "Large.", 1<<40)
	const want = `# TYPE a gauge
# HELP a First, by name.
a 3
# TYPE b_seconds counter
# HELP b_seconds Time.
b_seconds_total{class="keys"} 1.5
b_seconds_total{class="admin",of="x"} 0.25
# TYPE c gauge
# HELP c Yes.
c 1
# TYPE d gauge
# HELP d No.
d 0
# TYPE e gauge
# HELP e Words.
e{version="a\"b\\c\nd` + "\ufffd" + `{}#,"} 1
# TYPE f gauge
# HELP f Limits\nof numbers.
f +Inf
# TYPE g gauge
# HELP g Large.
g 1.099511627776e+12
# EOF
`
	if got := string(s.Text()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	samples, err := metricstest.Parse(s.Text())
	if err != nil || len(samples) != 8 || samples[`e{version="a\"b\\c\nd`+"\ufffd"+`{}#,"}`] != 1 {
		t.Errorf("read as %v, %v", samples, err)
	}
	if got := string(new(metrics.Set).Text()); got != "# EOF\n" {
		t.Errorf("an empty set: %q", got)
	}
}

// What a set has at most is bounded, and it says what was left out.
func TestBound(t *testing.T) {
	var s metrics.Set
	for range metrics.MaxSamples + 7 {
		s.Gauge("x", "Many.", 1)
	}
	text := string(s.Text())
	if n := strings.Count(text, "\nx 1"); n != metrics.MaxSamples || !strings.Contains(text, "\nagentd_metrics_dropped 7\n") {
		t.Errorf("%d samples, and then %q", n, text[len(text)-100:])
	}
}

// The reader of the tests refuses what the format does not allow.
func TestParserRefuses(t *testing.T) {
	const head = "# TYPE a counter\n# HELP a X.\n"
	for name, text := range map[string]string{
		"no end":              head + "a_total 1\n",
		"after the end":       head + "a_total 1\n# EOF\na_total 2\n",
		"no type":             "a_total 1\n# EOF\n",
		"no suffix":           head + "a 1\n# EOF\n",
		"another family":      head + "b_total 1\n# EOF\n",
		"twice":               head + "a_total 1\na_total 1\n# EOF\n",
		"interleaved":         head + "a_total 1\n# TYPE b gauge\n# HELP b X.\nb 1\n" + head + "a_total{x=\"y\"} 1\n# EOF\n",
		"not a number":        head + "a_total x\n# EOF\n",
		"negative counter":    head + "a_total -1\n# EOF\n",
		"no value":            head + "a_total\n# EOF\n",
		"bad name":            "# TYPE 1a gauge\n# HELP 1a X.\n1a 1\n# EOF\n",
		"bad label":           head + "a_total{1=\"x\"} 1\n# EOF\n",
		"label without quote": head + "a_total{x=y} 1\n# EOF\n",
		"label not closed":    head + "a_total{x=\"y} 1\n# EOF\n",
		"bad escape":          head + "a_total{x=\"\\y\"} 1\n# EOF\n",
		"same label twice":    head + "a_total{x=\"1\",x=\"2\"} 1\n# EOF\n",
		"no help":             "# TYPE a gauge\na 1\n# EOF\n",
		"unknown type":        "# TYPE a meter\n# HELP a X.\na 1\n# EOF\n",
		"empty line":          head + "\na_total 1\n# EOF\n",
		"two spaces":          head + "a_total  1\n# EOF\n",
	} {
		if samples, err := metricstest.Parse([]byte(text)); err == nil {
			t.Errorf("%s: read as %v", name, samples)
		}
	}
}
