// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// examples is the folder of the files that operators copy.
const examples = "../../docs/example/prometheus"

// shared is one simulated machine for all tests.
var shared *simulated.Machine

func TestMain(m *testing.M) {
	os.Exit(simulated.Main(m, func(commands, dir string) (func() error, error) {
		var err error
		if shared, err = simulated.Start(commands, dir, ""); err != nil {
			return nil, err
		}
		return shared.Stop, nil
	}))
}

// worked has the machine do each kind of work once, so that most metrics have samples.
func worked(t *testing.T) {
	t.Helper()
	if shared == nil {
		t.Skip(simulated.ErrNoTPM)
	}
	for _, freshness := range []evidence.Freshness{evidence.Fresh, evidence.Anchored} {
		nonce := make([]byte, 32)
		rand.Read(nonce)
		if _, err := shared.Client().Evidence(t.Context(), api.EvidenceRequest{Nonce: nonce, Freshness: freshness}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := shared.Client().Evidence(t.Context(), api.EvidenceRequest{Nonce: []byte{1}}); err == nil {
		t.Fatal("a nonce of one byte is accepted")
	}
}

// scrapes returns what each socket answers.
func scrapes(t *testing.T) map[string][]byte {
	t.Helper()
	worked(t)
	ofClient, err := shared.Client().Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	admin := &client.Admin{Socket: shared.AdminSocket()}
	defer admin.Close()
	ofAdmin, err := admin.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"client": ofClient, "admin": ofAdmin}
}

// TestCheckMetrics does what "promtool check metrics" does, with what both sockets answer.
func TestCheckMetrics(t *testing.T) {
	for socket, text := range scrapes(t) {
		problems, err := promlint.New(bytes.NewReader(text)).Lint()
		if err != nil {
			t.Fatalf("%s socket: %v", socket, err)
		}
		for _, p := range problems {
			t.Errorf("%s socket: %s: %s", socket, p.Metric, p.Text)
		}
		p := expfmt.NewTextParser(model.LegacyValidation)
		families, err := p.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil || len(families) < 15 {
			t.Fatalf("%s socket: %d families, %v", socket, len(families), err)
		}
		for name, f := range families {
			if f.GetType() == dto.MetricType_UNTYPED {
				t.Errorf("%s socket: %s has no type", socket, name)
			}
		}
	}
}

// TestCheckRules does what "promtool check rules" does, and checks that each metric of an
// expression exists in what the admin socket answers, with the labels that it selects by.
func TestCheckRules(t *testing.T) {
	path := filepath.Join(examples, "agentd.rules.yml")
	groups, errs := rulefmt.ParseFile(path, false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if len(groups.Groups) != 1 || len(groups.Groups[0].Rules) < 10 {
		t.Fatalf("%d groups", len(groups.Groups))
	}
	text := string(scrapes(t)["admin"])
	seen := map[string]bool{}
	for _, r := range groups.Groups[0].Rules {
		if seen[r.Alert] || r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
			t.Errorf("alert %s: there twice, or without summary or severity", r.Alert)
		}
		seen[r.Alert] = true
		x, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr)
		if err != nil {
			t.Fatal(err)
		}
		for _, matchers := range parser.ExtractSelectors(x) {
			if name := selected(t, text, matchers); name != "" {
				t.Errorf("alert %s: the agent has no sample %s", r.Alert, name)
			}
		}
	}
}

// seldom are families that have no sample before what they count happens, or of other programs.
var seldom = []string{"node_textfile_mtime_seconds"}

// selected returns a selector that finds no sample in text, "" if there is one. A metric that an
// alert misspells never fires.
func selected(t *testing.T, text string, matchers []*labels.Matcher) string {
	t.Helper()
	var name string
	rest := matchers[:0:0]
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel {
			name = m.Value
		} else {
			rest = append(rest, m)
		}
	}
	if slices.Contains(seldom, name) {
		return ""
	}
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, name+" ") && !strings.HasPrefix(line, name+"{") {
			continue
		}
		fits := true
		for _, m := range rest {
			value := regexp.MustCompile(`[{,]` + m.Name + `="([^"]*)"`).FindStringSubmatch(line)
			fits = fits && value != nil && m.Matches(value[1])
		}
		if fits {
			return ""
		}
	}
	return name + " " + fmtMatchers(rest)
}

func fmtMatchers(all []*labels.Matcher) string {
	var out []string
	for _, m := range all {
		out = append(out, m.String())
	}
	return strings.Join(out, ",")
}

// TestCheckConfig does what "promtool check config" does with the example, whose rules are there.
func TestCheckConfig(t *testing.T) {
	c, err := config.LoadFile(filepath.Join(examples, "scrape.yml"), false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.ScrapeConfigs) != 1 || len(c.RuleFiles) != 1 {
		t.Fatalf("%d jobs, %d files of rules", len(c.ScrapeConfigs), len(c.RuleFiles))
	}
	if _, err := os.Stat(c.RuleFiles[0]); err != nil {
		t.Error(err)
	}
}

// promtool runs the real program, of $PROMTOOL or of the path, with text for its input. It skips
// the test if there is none.
func promtool(t *testing.T, text []byte, args ...string) (string, error) {
	t.Helper()
	name := os.Getenv("PROMTOOL")
	if name == "" {
		var err error
		if name, err = exec.LookPath("promtool"); err != nil {
			t.Skip("promtool is not installed: scripts/setup.sh test gets it, and PROMTOOL names one elsewhere")
		}
	}
	c := exec.CommandContext(t.Context(), name, args...)
	c.Stdin = bytes.NewReader(text)
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestPromtool: the real program finds nothing in what both sockets answer, nor in the examples. It
// does find what is wrong with each, so that its silence means something.
func TestPromtool(t *testing.T) {
	for socket, text := range scrapes(t) {
		if out, err := promtool(t, text, "check", "metrics"); err != nil || strings.TrimSpace(out) != "" {
			t.Errorf("%s socket: %v\n%s", socket, err, out)
		}
		if out, err := promtool(t, append([]byte("# TYPE agentd_bad counter\nagentd_bad 1\n"), text...), "check", "metrics"); err == nil || !strings.Contains(out, "agentd_bad") {
			t.Errorf("%s socket: a counter without help, named otherwise than counters are, is fine: %v\n%s", socket, err, out)
		}
	}
	for _, c := range []struct{ check, file, damage, by string }{
		{"rules", "agentd.rules.yml", "expr: ", "expr: ((("}, {"config", "scrape.yml", "scrape_interval: 15s", "scrape_interval: soon"},
	} {
		path := filepath.Join(examples, c.file)
		if out, err := promtool(t, nil, "check", c.check, path); err != nil || strings.Contains(out, "FAILED") {
			t.Errorf("%s: %v\n%s", c.file, err, out)
		}
		good, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(good), c.damage) {
			t.Fatalf("%s: %v", c.file, err)
		}
		bad := filepath.Join(t.TempDir(), c.file)
		if err := os.WriteFile(bad, []byte(strings.Replace(string(good), c.damage, c.by, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := promtool(t, nil, "check", c.check, bad); err == nil {
			t.Errorf("%s: what is damaged is fine:\n%s", c.file, out)
		}
	}
}
