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
	s.Gauge("f", "Limits\nof \"numbers\".", math.Inf(1))
	s.Gauge("g", "Large.", 1<<40)
	h := metrics.NewHistogram(0.5, 1, 1e6)
	for _, x := range []float64{0, 0.5, 0.75, 1, 7, 2e6} {
		h.Observe(x)
	}
	s.Histogram("h_seconds", "Times.", h, metrics.Label{Name: "lane", Value: "x"})
	const want = `# HELP a First, by name.
# TYPE a gauge
a 3
# HELP b_seconds_total Time.
# TYPE b_seconds_total counter
b_seconds_total{class="keys"} 1.5
b_seconds_total{class="admin",of="x"} 0.25
# HELP c Yes.
# TYPE c gauge
c 1
# HELP d No.
# TYPE d gauge
d 0
# HELP e Words.
# TYPE e gauge
e{version="a\"b\\c\nd` + "\ufffd" + `{}#,"} 1
# HELP f Limits\nof "numbers".
# TYPE f gauge
f +Inf
# HELP g Large.
# TYPE g gauge
g 1.099511627776e+12
# HELP h_seconds Times.
# TYPE h_seconds histogram
h_seconds_bucket{lane="x",le="0.5"} 2
h_seconds_bucket{lane="x",le="1.0"} 4
h_seconds_bucket{lane="x",le="1e+06"} 5
h_seconds_bucket{lane="x",le="+Inf"} 6
h_seconds_sum{lane="x"} 2.00000925e+06
h_seconds_count{lane="x"} 6
`
	if got := string(s.Text(metrics.Prometheus)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	open := strings.ReplaceAll(want, " b_seconds_total ", " b_seconds ")
	open = strings.Replace(open, `"numbers"`, `\"numbers\"`, 1) + "# EOF\n"
	if got := string(s.Text(metrics.OpenMetrics)); got != open {
		t.Errorf("got\n%s\nwant\n%s", got, open)
	}
	for format, parse := range parsers {
		samples, err := parse(s.Text(format))
		if err != nil || len(samples) != 14 || samples[`e{version="a\"b\\c\nd`+"\ufffd"+`{}#,"}`] != 1 {
			t.Errorf("%s: read as %v, %v", format, samples, err)
		}
	}
	if got := string(new(metrics.Set).Text(metrics.Prometheus)) + string(new(metrics.Set).Text(metrics.OpenMetrics)); got != "# EOF\n" {
		t.Errorf("empty sets: %q", got)
	}
}

var parsers = map[metrics.Format]func([]byte) (map[string]float64, error){
	metrics.Prometheus:  metricstest.Parse,
	metrics.OpenMetrics: metricstest.ParseOpenMetrics,
}

// What a set has at most is bounded, and it says what was left out.
func TestBound(t *testing.T) {
	var s metrics.Set
	for range metrics.MaxSamples + 7 {
		s.Gauge("x", "Many.", 1)
	}
	s.Histogram("y", "Too many.", metrics.NewHistogram())
	text := string(s.Text(metrics.Prometheus))
	if n := strings.Count(text, "\nx 1"); n != metrics.MaxSamples || !strings.Contains(text, "\nagentd_metrics_dropped 10\n") {
		t.Errorf("%d samples, and then %q", n, text[len(text)-100:])
	}
}

// The readers of the tests refuse what the formats do not allow.
func TestParserRefuses(t *testing.T) {
	const help, kind = "# HELP a_total X.\n", "# TYPE a_total counter\n"
	const head = help + kind
	for name, text := range map[string]string{
		"no end of line":      head + "a_total 1",
		"end of the other":    head + "a_total 1\n# EOF\n",
		"no type":             help + "a_total 1\n",
		"no help":             kind + "a_total 1\n",
		"counter of open":     "# HELP a X.\n# TYPE a counter\na_total 1\n",
		"no suffix":           head + "a 1\n",
		"another family":      head + "b_total 1\n",
		"twice":               head + "a_total 1\na_total 1\n",
		"interleaved":         head + "a_total 1\n# HELP b X.\n# TYPE b gauge\nb 1\n" + head + "a_total{x=\"y\"} 1\n",
		"not a number":        head + "a_total x\n",
		"negative counter":    head + "a_total -1\n",
		"no value":            head + "a_total\n",
		"bad name":            "# HELP 1a X.\n# TYPE 1a gauge\n1a 1\n",
		"bad label":           head + "a_total{1=\"x\"} 1\n",
		"label without quote": head + "a_total{x=y} 1\n",
		"label not closed":    head + "a_total{x=\"y} 1\n",
		"bad escape":          head + "a_total{x=\"\\y\"} 1\n",
		"same label twice":    head + "a_total{x=\"1\",x=\"2\"} 1\n",
		"two types":           head + kind + "a_total 1\n",
		"unknown type":        "# HELP a X.\n# TYPE a meter\na 1\n",
		"bucket of a gauge":   "# HELP a X.\n# TYPE a gauge\na_bucket 1\n",
		"empty line":          head + "\na_total 1\n",
		"two spaces":          head + "a_total  1\n",
	} {
		if samples, err := metricstest.Parse([]byte(text)); err == nil {
			t.Errorf("%s: read as %v", name, samples)
		}
	}
	const open = "# HELP a X.\n# TYPE a counter\na_total 1\n"
	for name, text := range map[string]string{
		"no end":        open,
		"after the end": open + "# EOF\nb 2\n",
		"suffix":        head + "a_total 1\n# EOF\n",
	} {
		if samples, err := metricstest.ParseOpenMetrics([]byte(text)); err == nil {
			t.Errorf("OpenMetrics, %s: read as %v", name, samples)
		}
	}
}
