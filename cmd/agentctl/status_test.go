// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// TestStatusShows: the status shows how full the log is, what is being read, and whether changes
// are noticed; its exit code is that of the next request for evidence, whatever else it says.
func TestStatusShows(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var st api.Status
	asked := ""
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var out any = &st
		switch r.URL.Path {
		case api.CallApps.Path:
			out = api.Apps{Apps: []api.App{{Name: "billing", Reading: &api.Reading{Since: 12, Bytes: 1 << 20, Of: 4 << 20, Path: "/srv/billing/big"}}, {Name: "quiet"}}}
		case api.CallStatus.Path:
			asked = r.URL.RawQuery
		}
		b, err := strictjson.Encode(out)
		if err != nil {
			t.Error(err)
		}
		w.Write(b)
	})}
	defer server.Close()
	go server.Serve(l)
	ready := api.EvidenceStatus{Ready: true}
	for name, c := range map[string]struct {
		change func()
		code   int
		want   []string
	}{
		"ready": {func() { st.Evidence = ready }, exitOK, []string{"evidence: ready", "billing is being read: ", "(37 % full)"}},
		"not ready although every part is": {func() { st.Evidence = api.EvidenceStatus{Code: api.CodeLogFull, Reason: "what was found"} }, exitUnavailable,
			[]string{"evidence: NOT ready: The log takes no more records", "what was found"}},
		"machine": {func() {
			st.Evidence = ready
			st.Platform.Machine, st.Platform.Source, st.Platform.Why = "gcp", "configfs", "what was found"
		}, exitOK, []string{"machine gcp, reports by configfs: what was found"}},
		"nearly full": {func() { st.Evidence, st.Ledger.Bytes = ready, 80 }, exitOK, []string{"(80 % full)", "NEARLY FULL"}},
		"not watched": {func() { st.Evidence, st.Watch = ready, api.WatchStatus{State: api.StateDegraded, Reason: "no inotify"} }, exitOK,
			[]string{"watching of files: DEGRADED", "no inotify"}},
	} {
		st = api.Status{
			TPM: api.TPMStatus{State: api.StateOK}, Platform: api.PlatformStatus{State: api.StateOK}, Keys: api.KeyStatus{State: api.StateOK},
			Ledger: api.LedgerStatus{Synchronised: true, Bytes: 37, Limit: 100}, Watch: api.WatchStatus{State: api.StateOK},
		}
		c.change()
		code, stdout, stderr := agentctl(t, "status", "--socket", socket, "--admin", socket)
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, c.code, stdout, stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: no %q in\n%s", name, want, stdout)
			}
		}
		if asked != "check=now" {
			t.Errorf("%s: the agent was asked with %q", name, asked)
		}
	}
}
