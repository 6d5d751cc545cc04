// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// TestEnableMeasuresFirst: a drop-in is written only if the agent, asked at once, measures
// the application under the name of the drop-in. Each way in which the unit would not start
// is refused.
func TestEnableMeasuresFirst(t *testing.T) {
	d := &declaration.Declaration{}
	d.Name, d.Unit, d.File = "billing", "billing.service", "/etc/agentd/apps.d/billing.toml"
	measured := `{"name":"billing","state":"measured","files":2,"bytes":9,"unit":"billing.service"}`
	problem := func(c api.Code) answer {
		return answer{c.Info().Status, `{"type":"about:blank","title":"x","status":` + "400" + `,"code":"` + string(c) + `","detail":"told why"}`}
	}
	reloaded := answer{200, `{"apps":{"declared":1,"measured":1}}`}
	for name, c := range map[string]struct {
		reload, measure answer
		code            int // exit code
		says            string
	}{
		"measured":             {reloaded, answer{200, measured}, exitOK, ""},
		"another one is wrong": {answer{200, `{"apps":{"declared":1,"measured":1},"errors":[{"source":"/etc/agentd/apps.d/x.toml","reason":"line 1"}]}`}, answer{200, measured}, exitOK, ""},
		"refused declaration":  {answer{200, `{"apps":{"declared":0,"measured":0},"errors":[{"source":"/etc/agentd/apps.d/billing.toml","reason":"line 3: no such user"}]}`}, answer{200, measured}, exitMisuse, "line 3: no such user"},
		"another folder":       {reloaded, problem(api.CodeNoSuchApp), api.CodeNoSuchApp.Info().Exit, "told why"},
		"a file is missing":    {reloaded, problem(api.CodeMeasureFailed), api.CodeMeasureFailed.Info().Exit, "told why"},
		"no TPM":               {reloaded, problem(api.CodeTPM), api.CodeTPM.Info().Exit, "told why"},
		"no reload":            {problem(api.CodeLogFull), answer{200, measured}, api.CodeLogFull.Info().Exit, "told why"},
		"another unit":         {reloaded, answer{200, strings.ReplaceAll(measured, "billing.service", "other.service")}, exitMisuse, "other.service"},
	} {
		t.Run(name, func(t *testing.T) {
			agent := &client.Admin{Socket: fakeAgent(t, map[string]answer{"/v1/reload": c.reload, "/v1/apps/billing/measure": c.measure})}
			defer agent.Close()
			checkRefused(t, new(terminal).measuring(t, agent, d), c.code, c.says)
		})
	}
	t.Run("no agent", func(t *testing.T) {
		agent := &client.Admin{Socket: filepath.Join(t.TempDir(), "none")}
		checkRefused(t, new(terminal).measuring(t, agent, d), exitUnavailable, "none")
	})
}

func (t *terminal) measuring(tt *testing.T, agent *client.Admin, d *declaration.Declaration) error {
	t.out, t.err = new(bytes.Buffer), new(bytes.Buffer)
	bytes, err := t.measureOnce(tt.Context(), agent, d)
	if err == nil && bytes != 9 {
		tt.Errorf("%d bytes, want 9", bytes)
	}
	return err
}

func checkRefused(t *testing.T, err error, code int, says string) {
	t.Helper()
	if code == exitOK {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	x, ok := err.(*exitError)
	if !ok || x.code != code {
		t.Fatalf("got %v, want exit code %d", err, code)
	}
	for _, want := range []string{"nothing was written", says} {
		if !strings.Contains(x.Error(), want) {
			t.Errorf("%q does not say %q", x.Error(), want)
		}
	}
}

// answer is a status of HTTP and a body.
type answer struct {
	status int
	body   string
}

// fakeAgent serves answers by path, and returns its socket.
func fakeAgent(t *testing.T, answers map[string]answer, asked ...func(path string)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, f := range asked {
			f(r.URL.Path)
		}
		a, ok := answers[r.URL.Path]
		if !ok {
			a = answer{404, "{}"}
		}
		if a.status >= 400 {
			w.Header().Set("Content-Type", api.ProblemType)
		}
		w.WriteHeader(a.status)
		w.Write([]byte(a.body))
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return socket
}

// TestEnableWritesNothingUnmeasured: if the agent cannot measure the application, the unit gets no
// drop-in. With one it would not start.
func TestEnableWritesNothingUnmeasured(t *testing.T) {
	root := folder(t, map[string][]byte{
		"etc/systemd/system/billing.service": []byte("[Service]\nExecStart=/bin/true\n"),
		"etc/agentd/apps.d/billing.toml":     []byte("unit = \"billing.service\"\nuser = \"root\"\nfiles = [\"/bin/true\"]\n"),
	})
	fails := errors.New("the agent cannot measure it")
	for _, err := range []error{fails, nil} {
		u := &unitFlags{root: root, yes: true, size: func(*declaration.Declaration) (uint64, bool, error) { return 0, err == nil, err }}
		x := new(terminal)
		x.out, x.err = new(bytes.Buffer), new(bytes.Buffer)
		if got := x.enableUnit("billing.service", u); !errors.Is(got, err) {
			t.Fatalf("got %v, want %v", got, err)
		}
		_, missing := unitfile.Read(root, "billing.service")
		if errors.Is(missing, fs.ErrNotExist) != (err != nil) {
			t.Errorf("after %v: the drop-in: %v", err, missing)
		}
	}
}
