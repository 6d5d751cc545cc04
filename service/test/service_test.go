// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/metrics/metricstest"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/pages"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// published are the keys of tokens, as the service publishes them, by their ids.
func (w *worker) published() map[string]ed25519.PublicKey {
	w.t.Helper()
	var set struct {
		Keys []struct{ Kid, Kty, Crv, X string }
	}
	if code, err := ask(w.client, "GET", w.url+"/v1/jwks", nil, &set); err != nil || code != 200 {
		w.t.Fatalf("%d, %v", code, err)
	}
	out := map[string]ed25519.PublicKey{}
	for _, k := range set.Keys {
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || k.Crv != "Ed25519" {
			w.t.Fatalf("%+v, %v", k, err)
		}
		out[k.Kid] = x
	}
	return out
}

// read reads a token as a relying party does, with a library of others.
func (w *worker) read(token, audience string, at time.Time) (*jwt.Token, error) {
	published := w.published()
	return jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithAudience(audience), jwt.WithIssuer("https://verifier.example"), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithTimeFunc(func() time.Time { return at })).Parse(token, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		if published[id] == nil {
			return nil, fmt.Errorf("no key %q", id)
		}
		return published[id], nil
	})
}

// TestSimulatedMachine does what docs/service.md has a client do, over TLS, with the evidence of a
// simulated machine. A library of others accepts the token, and refuses it later and for another party.
func TestSimulatedMachine(t *testing.T) {
	for _, name := range []string{"curl", "jq"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	m := simulated.Run(t)
	b := newBed(t, false)
	root, err := os.ReadFile(m.Root())
	if err != nil {
		t.Fatal(err)
	}
	if b.roots, err = snp.ParseCertificates(root); err != nil {
		t.Fatal(err)
	}
	policy, err := os.ReadFile(m.Policy())
	if err != nil {
		t.Fatal(err)
	}
	w := b.start("one")
	if code, out := w.put(b.alice(), "default", string(policy), "https://vault.example", nil); code != 200 {
		t.Fatalf("%d, %v", code, out)
	}
	page, err := pages.Read("../../docs/service.md")
	if err != nil {
		t.Fatal(err)
	}
	session := ""
	for _, x := range page.Blocks {
		if x.Lang == "sh" && session == "" {
			session = strings.ReplaceAll(x.Text, "/run/agentd/agentd.sock", m.Socket())
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", session)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "SERVICE="+w.url, "CURL_CA_BUNDLE="+w.path("ca.crt"))
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "pass" {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(cmd.Dir + "/token.jwt")
	if err != nil {
		t.Fatal(err)
	}
	token, now := strings.TrimSpace(string(text)), time.Now()
	if x, err := w.read(token, "https://vault.example", now); err != nil || !x.Valid {
		t.Errorf("the token: %v", err)
	}
	for name, err := range map[string]error{
		"later":           second(w.read(token, "https://vault.example", now.Add(2*time.Minute))),
		"another party":   second(w.read(token, "https://other.example", now)),
		"another content": second(w.read(strings.Replace(token, ".", ".e30", 1), "https://vault.example", now)),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func second(_ *jwt.Token, err error) error { return err }

// TestAdministrators: only a certificate with a listed name administrates. Each policy has its own path
// and audience; enrolments count once they are approved; each change has a record that names its maker.
func TestAdministrators(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		w := b.start("one")
		alice := b.alice()
		other := b.ca.issue(t, "mallory")
		stranger := newAuthority(t).issue(t, "alice")
		if code, out := w.put(b.clientWith(&other), "default", easy, "", nil); code != 403 || out["code"] != "not-permitted" {
			t.Errorf("another name: %d, %v", code, out)
		}
		for name, c := range map[string]*http.Client{"no certificate": w.client, "a stranger's": b.clientWith(&stranger)} {
			if code, err := ask(c, "GET", w.admin+"/admin/v1/policies", nil, nil); err == nil {
				t.Errorf("%s: %d", name, code)
			}
		}
		forged, err := http.NewRequest("POST", w.admin+"/admin/v1/enrolments/00/approve", nil)
		if err != nil {
			t.Fatal(err)
		}
		forged.Header.Set("Sec-Fetch-Site", "cross-site")
		if r, err := alice.Do(forged); err != nil || r.StatusCode != 403 {
			t.Errorf("by a page of another origin: %v, %v", r, err)
		} else {
			r.Body.Close()
		}
		if code, err := ask(alice, "GET", w.url+"/admin/v1/policies", nil, nil); err != nil || code != 404 {
			t.Errorf("over the listener of clients: %d, %v", code, err)
		}

		var a answer
		if code, err := ask(w.client, "POST", w.url+"/v1/challenges", nil, &a); err != nil || code != 404 || a.Code != "no-such-path" {
			t.Errorf("without a policy: %d, %v, %+v", code, err, a)
		}
		for i, c := range []struct {
			name, text string
			more       map[string]any
			code       int
			want       string
		}{
			{"default", easy, nil, 200, ""},
			{"default", "version = 9\n", nil, 400, "invalid-value"},
			{"default", easy + "# 2\n", map[string]any{"after": 0}, 409, "conflict"},
			{"default", easy + "# 2\n", map[string]any{"after": 1}, 200, ""},
			{"default", easy, map[string]any{"unknown": 1}, 400, "malformed-json"},
			{"No", easy, nil, 400, "invalid-value"},
			{"default", easy, map[string]any{"audience": strings.Repeat("a", 1025)}, 400, "invalid-value"},
			{"default", easy, map[string]any{"audience": "a\u0007"}, 400, "invalid-value"},
			{"default", easy + strings.Repeat("#", verify.MaxSignedPolicy+verify.MaxSignedPolicy/2+64<<10), nil, 413, "body-too-large"},
			{"enrolled", easy + "outside_enrolments = \"approved\"\nak_origin = \"enrolled\"\n", nil, 200, ""},
		} {
			if code, out := w.put(alice, c.name, c.text, "https://"+c.name+".example", c.more); code != c.code || c.want != "" && out["code"] != c.want {
				t.Errorf("%d: %d, %v", i, code, out)
			}
		}
		code, accepted := w.appraise("/p/default", nil)
		if code != 200 || second(w.read(accepted.Token, "https://default.example", time.Now())) != nil || second(w.read(accepted.Token, "https://enrolled.example", time.Now())) == nil {
			t.Errorf("%d, %+v", code, accepted)
		}

		refused := func(when string) {
			t.Helper()
			if code, a := w.appraise("/p/enrolled", nil); code != 200 || !slices.Contains(a.failed(), "policy.ak") || a.Token != "" {
				t.Errorf("%s: %d, %v", when, code, a.failed())
			}
		}
		ak, err := keys.ParsePublic(evidencetest.New().AK.Public())
		if err != nil {
			t.Fatal(err)
		}
		record := fmt.Sprintf(`{"type":%q,"ek":"000b%064x","ak":%q,"ekIssuer":"none","enrolled":"2031-01-01T00:00:00Z"}`, keys.EnrolmentType, 1, ak.Name())
		change := func(method, path string, body string, want int) {
			t.Helper()
			if code, err := ask(alice, method, w.admin+"/admin/v1/enrolments"+path, []byte(body), nil); err != nil || code != want {
				t.Errorf("%s %s: %d, %v", method, path, code, err)
			}
		}
		refused("without an enrolment")
		change("POST", "", record, 200)
		change("POST", "", record, 409)
		refused("pending")
		change("POST", "/"+ak.Name().String()+"/approve", "", 200)
		if code, a := w.appraise("/p/enrolled", nil); code != 200 || a.Appraisal.Verdict != "pass" || a.Token == "" {
			t.Errorf("approved: %d, %v", code, a.failed())
		}
		change("DELETE", "/"+ak.Name().String(), "", 200)
		change("DELETE", "/"+ak.Name().String(), "", 404)
		refused("removed")

		if code, err := ask(alice, "DELETE", w.admin+"/admin/v1/policies/default", nil, nil); err != nil || code != 200 {
			t.Errorf("withdraw: %d, %v", code, err)
		}
		if code, err := ask(w.client, "POST", w.url+"/v1/challenges", nil, nil); err != nil || code != 404 {
			t.Errorf("withdrawn: %d, %v", code, err)
		}
		var made []string
		for _, e := range w.records() {
			if e.Kind != "appraisal" {
				made = append(made, e.Action+" "+e.By)
			}
		}
		if want := []string{"put alice", "put alice", "put alice", "add alice", "approve alice", "remove alice", "withdraw alice"}; !slices.Equal(made, want) {
			t.Errorf("the changes are %q", made)
		}
		var first struct{ Appraisal struct{ Verdict string } }
		if code, err := ask(alice, "GET", w.admin+"/admin/v1/records/4", nil, &first); err != nil || code != 200 || first.Appraisal.Verdict != "pass" {
			t.Errorf("an appraisal: %d, %v, %+v", code, err, first)
		}
	})
}

// TestReload: keys of tokens go over by overlap, and a configuration that cannot be used changes nothing.
func TestReload(t *testing.T) {
	b := newBed(t, false)
	w := b.start("one")
	w.put(b.alice(), "default", easy, "a", nil)
	first := w.published()
	b.newTokenKey("second.key")
	signed := func() string {
		_, a := w.appraise("", nil)
		x, err := w.read(a.Token, "a", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return x.Header["kid"].(string)
	}
	reload := func(keys int, tokenKeys ...string) {
		w.config(tokenKeys...)
		w.Process.Signal(t, syscall.SIGHUP)
		eventually(t, func() error {
			if n := len(w.published()); n != keys {
				return fmt.Errorf("%d keys are published, want %d\n%s", n, keys, w.Output())
			}
			return nil
		})
	}
	reload(2, "token.key", "second.key")
	if first[signed()] == nil {
		t.Error("another key signs already")
	}
	reload(1, "second.key")
	if first[signed()] != nil {
		t.Error("the first key signs still")
	}
	b.write("broken.key", []byte("no key"))
	w.config("broken.key")
	w.Process.Signal(t, syscall.SIGHUP)
	eventually(t, func() error {
		if !strings.Contains(w.Output(), "broken.key") {
			return fmt.Errorf("the fault is not in the log:\n%s", w.Output())
		}
		return nil
	})
	if first[signed()] != nil || len(w.published()) != 1 {
		t.Error("a broken configuration changed the keys")
	}
	if code, out := w.run("check"); code != 1 || !strings.Contains(out, "broken.key") {
		t.Errorf("check: %d, %s", code, out)
	}
	limits := b.limits
	for _, key := range []string{"connections", "challenges", "machines"} { // which the worker read when it started
		b.limits = limits + key + " = 77\n"
		before := strings.Count(w.Output(), "new start only")
		w.config("second.key")
		w.Process.Signal(t, syscall.SIGHUP)
		eventually(t, func() error {
			if strings.Count(w.Output(), "new start only") == before {
				return fmt.Errorf("the limit %s is said to be in force:\n%s", key, w.Output())
			}
			return nil
		})
	}
	b.limits = limits
	url, database := w.url, b.database
	for what, change := range map[string]func(){ // which it could not exchange while it runs
		"the listener":    func() { w.url = "https://" + servers.Local(servers.Port(t)) },
		"administrators'": func() { w.admin = "https://" + servers.Local(servers.Port(t)) },
		"figures":         func() { w.stats = "http://" + servers.Local(servers.Port(t)) },
		"the database":    func() { b.database += "\nconnections = 3" },
		"traces":          func() { b.tracing = "percent = 3" },
	} {
		admin, stats := w.admin, w.stats
		change()
		before := strings.Count(w.Output(), "new start only")
		w.config("second.key")
		w.url, w.admin, w.stats, b.database, b.tracing = url, admin, stats, database, ""
		w.Process.Signal(t, syscall.SIGHUP)
		eventually(t, func() error {
			if strings.Count(w.Output(), "new start only") == before {
				return fmt.Errorf("%s is said to be in force:\n%s", what, w.Output())
			}
			return nil
		})
	}
	if strings.Contains(w.Output(), "PRIVATE") {
		t.Error("a private key is in the log")
	}
	// A new certificate for new connections.
	b.writePair("server", b.ca.issue(t, "renewed"))
	reload(2, "token.key", "second.key")
	fresh := b.clientWith(nil)
	r, err := fresh.Get(w.url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if name := r.TLS.PeerCertificates[0].Subject.CommonName; name != "renewed" {
		t.Errorf("the certificate is that of %q", name)
	}
}

// TestLimits: what a client takes too much of is refused, and tells it when to come again.
func TestLimits(t *testing.T) {
	b := newBed(t, false)
	b.limits = "rate = 1\nburst = 60\nbody = 65536\nclient_at_once = 1\nat_once = 2\nchallenges = 5\n"
	w := b.start("one")
	w.put(b.alice(), "default", easy, "", nil)
	for _, c := range []struct {
		path string
		body []byte
		code int
		want string
	}{
		{"/v1/appraisals", bytes.Repeat([]byte{' '}, 65537), 413, "body-too-large"},
		{"/v1/challenges", bytes.Repeat([]byte{' '}, 65537), 413, "body-too-large"},
		{"/p/default/v1/appraisals", []byte("{"), 400, "malformed-json"},
		{"/p/other/v1/challenges", nil, 404, "no-such-path"},
		{"/p/default/../v1/challenges", nil, 404, "no-such-path"},
		{"/", nil, 404, "no-such-path"},
	} {
		var a answer
		if code, err := ask(w.client, "POST", w.url+c.path, c.body, &a); err != nil || code != c.code || a.Code != c.want {
			t.Errorf("%s: %d, %v, %+v", c.path, code, err, a)
		}
	}
	// One appraisal at once: while a body is on its way, the next one is refused.
	slow, send := io.Pipe()
	answered := make(chan error, 1)
	go func() {
		r, err := w.client.Post(w.url+"/v1/appraisals", "", slow)
		if err == nil {
			r.Body.Close()
		}
		answered <- err
	}()
	send.Write([]byte("{"))
	eventually(t, func() error {
		var a answer
		if code, err := ask(w.client, "POST", w.url+"/v1/appraisals", []byte("{}"), &a); err != nil || code != 503 || a.Code != "busy" {
			return fmt.Errorf("%d, %v, %+v", code, err, a)
		}
		return nil
	})
	send.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	end := time.Now().Add(servers.Patience)
	for busy := false; !busy; { // the rate, or the challenges that wait
		r, err := w.client.Post(w.url+"/v1/challenges", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		busy = r.StatusCode == 503 && r.Header.Get("Retry-After") != ""
		if r.StatusCode == 429 || time.Now().After(end) {
			t.Fatal("the rate ended before the challenges, or neither ends")
		}
	}
	for code := 0; code != 429; {
		if time.Now().After(end) {
			t.Fatal("the rate does not end")
		}
		var a answer
		var err error
		if code, err = ask(w.client, "GET", w.url+"/v1/jwks", nil, &a); err != nil || code == 429 && a.Code != "throttled" {
			t.Fatalf("%d, %v, %+v", code, err, a)
		}
	}
	if code, err := ask(w.client, "GET", w.url+"/healthz", nil, nil); err != nil || code != 200 {
		t.Errorf("a load balancer is limited: %d, %v", code, err)
	}
}

// TestDrain: a worker that is told to end says so, answers what is under way, and ends well.
func TestDrain(t *testing.T) {
	b := newBed(t, false)
	w := b.start("one")
	w.put(b.alice(), "default", easy, "", nil)
	body := evidence(t, w.challenge(""), nil)
	slow, send := io.Pipe()
	got := make(chan string, 1)
	go func() {
		r, err := w.client.Post(w.url+"/v1/appraisals", "", slow)
		if err != nil {
			got <- err.Error()
			return
		}
		defer r.Body.Close()
		var a answer
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
			got <- err.Error()
		}
		got <- a.Appraisal.Verdict
	}()
	send.Write(body[:100])
	eventually(t, func() error { // it has begun
		if s := w.metrics(); !strings.Contains(s, "agentd_verifier_appraisals_running 1") {
			return fmt.Errorf("%s", s)
		}
		return nil
	})
	w.Process.Signal(t, syscall.SIGTERM)
	eventually(t, func() error {
		if code, err := ask(w.client, "GET", w.url+"/readyz", nil, nil); err != nil || code != 503 {
			return fmt.Errorf("%d, %v", code, err)
		}
		return nil
	})
	send.Write(body[100:])
	send.Close()
	if verdict := <-got; verdict != "pass" {
		t.Errorf("the request under way: %s", verdict)
	}
	if err := w.Process.Wait(t); err != nil {
		t.Errorf("it ended with %v\n%s", err, w.Output())
	}
}

func (w *worker) metrics() string {
	w.t.Helper()
	r, err := http.Get(w.stats + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// TestMetrics: the figures say what was asked and answered, in the format of Prometheus.
func TestMetrics(t *testing.T) {
	b := newBed(t, false)
	w := b.start("one")
	w.put(b.alice(), "default", easy, "", nil)
	w.appraise("", nil)
	w.appraise("", func(r *evidencetest.Recipe) { r.Report.Body = func(b []byte) { b[evidencetest.AtVMPL] = 2 } })
	ask(w.client, "POST", w.url+"/v1/"+strings.Repeat("x", 100), nil, nil)
	text := w.metrics()
	if _, err := metricstest.Parse([]byte(text)); err != nil {
		t.Error(err)
	}
	for _, line := range []string{
		`agentd_verifier_requests_total{path="/v1/appraisals",status="200"} 2`, `agentd_verifier_appraisals_total{policy="default",verdict="pass"} 1`, `agentd_verifier_appraisals_total{policy="default",verdict="fail"} 1`,
		`agentd_verifier_requests_total{path="other",status="404"} 1`, "agentd_verifier_records 3", "agentd_verifier_database_up 1", "agentd_verifier_faults_total 0",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is not in\n%s", line, text)
		}
	}
}
