// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// answering is an agent whose status is st. It refuses evidence with code.
func answering(t *testing.T, st *api.Status) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var out any = st
		if r.URL.Path != api.CallStatus.Path {
			info := st.Evidence.Code.Info()
			out = &api.Problem{Type: "about:blank", Title: "x", Status: 503, Code: info.Code, Detail: "refused"}
			w.Header().Set("Content-Type", api.ProblemType)
			w.WriteHeader(503)
		}
		b, err := strictjson.Encode(out)
		if err != nil {
			t.Error(err)
		}
		w.Write(b)
	})}
	t.Cleanup(func() { server.Close() })
	go server.Serve(l)
	return socket
}

// TestDoctorNamesTheCause: for each cause, exactly one finding is bad and follows from nothing;
// what follows from it is below it, without advice of its own. Names are unique, and the verdict
// comes last and names the cause.
func TestDoctorNamesTheCause(t *testing.T) {
	well := api.Status{
		TPM: api.TPMStatus{State: api.StateOK}, Platform: api.PlatformStatus{State: api.StateOK},
		Ledger: api.LedgerStatus{Synchronised: true, Records: 3, Bytes: 30, Limit: 100}, Apps: api.AppCounts{Declared: 1, Measured: 1},
		Watch: api.WatchStatus{State: api.StateOK}, Keys: api.KeyStatus{State: api.StateOK},
	}
	not := func(s *api.Status, code api.Code) {
		s.Evidence = api.EvidenceStatus{Code: code, Reason: "a reason"}
		s.Keys = api.KeyStatus{State: api.StateDegraded, Code: api.CodeRootUnavailable, Reason: "keys"}
	}
	for name, c := range map[string]struct {
		change  func(*api.Status)
		root    string
		follows []string
	}{
		"no TPM": {func(s *api.Status) {
			not(s, api.CodeTPM)
			s.TPM, s.Ledger = api.TPMStatus{State: api.StateAbsent, Reason: "open TPM /dev/tpmrm0: no such file"}, api.LedgerStatus{Reason: "no TPM"}
			s.Apps = api.AppCounts{Declared: 1, Unmeasured: 1}
			s.Platform = api.PlatformStatus{State: api.StateUnknown, Reason: "the TPM is not up yet"}
		}, deviceOfTPM, []string{agentsTPM, agentsReports, agentsLog, "evidence", "applications", "sealed blobs"}},
		"another TPM than the one here": {func(s *api.Status) {
			not(s, api.CodeTPM)
			s.TPM = api.TPMStatus{State: api.StateAbsent, Reason: "open TPM unix:/elsewhere: no answer"}
		}, agentsTPM, []string{agentsLog, "evidence", "sealed blobs", tried}},
		"no device for reports": {func(s *api.Status) {
			not(s, api.CodePlatformAbsent)
			s.Platform = api.PlatformStatus{State: api.StateAbsent, Reason: "open /dev/sev-guest: no such file"}
		}, deviceOfReports, []string{agentsReports, "evidence", "sealed blobs"}},
		"the firmware refuses": {func(s *api.Status) {
			not(s, api.CodePlatformRefused)
			s.Platform = api.PlatformStatus{State: api.StateDegraded, Reason: "0x16"}
		}, agentsReports, []string{"evidence", "sealed blobs"}},
		"the TPM hangs": {func(s *api.Status) {
			not(s, api.CodeTPMTimeout)
			s.TPM = api.TPMStatus{State: api.StateDegraded, Reason: "late"}
		}, agentsTPM, []string{agentsLog, "evidence", "sealed blobs"}},
		"desynchronised": {func(s *api.Status) {
			not(s, api.CodeDesynchronised)
			s.Keys.State = api.StateOK
			s.Ledger.Synchronised, s.Ledger.Reason = false, "reset"
			s.Apps = api.AppCounts{Declared: 1, Unmeasured: 1}
		}, agentsLog, []string{"evidence", "applications"}},
		"full": {func(s *api.Status) {
			not(s, api.CodeLogFull)
			s.Keys.State = api.StateOK
			s.Ledger.Full = true
		}, agentsLog, []string{"evidence"}},
		"the disk is full": {func(s *api.Status) {
			not(s, api.CodeDiskFull)
			s.Keys.State = api.StateOK
		}, "evidence", nil},
	} {
		t.Run(name, func(t *testing.T) {
			st := well
			c.change(&st)
			socket := answering(t, &st)
			plain := folder(t, map[string][]byte{"plain.toml": []byte("[sockets]\nclient_group = \"\"\n")})
			args := []string{"doctor", "--config", filepath.Join(plain, "plain.toml"), "--socket", socket, "--admin", socket}
			code, stdout, stderr := agentctl(t, append(args, "--json")...)
			var out diagnosis
			if err := json.Unmarshal([]byte(stdout), &out); err != nil || code != exitMisuse || out.OK {
				t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
			}
			names := map[string]bool{}
			var roots, follows []string
			for _, f := range out.Findings {
				if names[f.Name] {
					t.Errorf("%s occurs twice", f.Name)
				}
				names[f.Name] = true
				switch {
				case f.Because != "":
					follows = append(follows, f.Name)
					if f.Todo != "" {
						t.Errorf("%s has advice of its own: %s", f.Name, f.Todo)
					}
				case f.Level == levelBad:
					roots = append(roots, f.Name)
					if f.Todo == "" {
						t.Errorf("%s says nothing to do", f.Name)
					}
				}
			}
			if !slices.Equal(roots, []string{c.root}) || !strings.Contains(out.Verdict, c.root) {
				t.Errorf("causes %q, want %q; %s", roots, c.root, out.Verdict)
			}
			for _, f := range c.follows {
				if !slices.Contains(follows, f) {
					t.Errorf("%s does not follow: %q", f, follows)
				}
			}
			_, text, _ := agentctl(t, args...)
			if n := strings.Count(text, "BAD "); n != 1 || !strings.HasSuffix(strings.TrimSpace(text), out.Verdict) {
				t.Errorf("%d are bad:\n%s", n, text)
			}
		})
	}
}

// TestDoctorSaysWhichWay: the doctor says what the machine is, and does not advise to load a driver
// that the agent does not need.
func TestDoctorSaysWhichWay(t *testing.T) {
	for source, advises := range map[string]bool{"": true, "sev-guest": true, "configfs": false, "paravisor": false, "svsm": false} {
		st := &api.Status{TPM: api.TPMStatus{State: api.StateOK}, Platform: api.PlatformStatus{State: api.StateOK, Source: source}}
		if source != "" {
			st.Platform.Machine, st.Platform.Why = "a-machine", "what was found"
		}
		d := &doctor{absent: make(map[string]string)}
		d.note(deviceOfReports, "load the driver", "no such file"+elsewhere)
		d.lookAtStatus(st)
		if x := d.find(deviceOfReports); (x.Todo != "") != advises || strings.Contains(x.Says, "reports come by") == advises {
			t.Errorf("%q: %+v", source, x)
		}
		if x := d.find("platform"); (x != nil) != (source != "") || x != nil && !strings.Contains(x.Says, "machine a-machine, reports by "+source+": what was found") {
			t.Errorf("%q: %+v", source, x)
		}
	}
}

// TestDoctorOnALateEntry: an agent that chose before its entry of configfs-tsm was there goes on by
// the device. The doctor says so, and warns if that costs the binding of an SVSM.
func TestDoctorOnALateEntry(t *testing.T) {
	entry := func(attributes map[string]string) string {
		dir := t.TempDir()
		for name, content := range attributes {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	plain := entry(map[string]string{"provider": "sev_guest\n"})
	above := entry(map[string]string{"provider": "sev_guest\n", "service_provider": ""})
	other := entry(map[string]string{"provider": "tdx_guest\n", "service_provider": ""})
	for name, c := range map[string]struct {
		named  platform.Name
		source platform.Source
		entry  string
		level  level
		says   string // empty: nothing
	}{
		"above an SVSM":       {platform.Auto, platform.SourceSEVGuest, above, levelWarning, "above an SVSM"},
		"plain":               {platform.Auto, platform.SourceSEVGuest, plain, levelNote, "the same by either way"},
		"no entry":            {platform.Auto, platform.SourceSEVGuest, t.TempDir(), "", ""},
		"of another provider": {platform.Auto, platform.SourceSEVGuest, other, "", ""},
		"by the SVSM":         {platform.Auto, platform.SourceSVSM, above, "", ""},
		"by the entry":        {platform.Auto, platform.SourceConfigFS, plain, "", ""},
		"not chosen yet":      {platform.Auto, "", above, "", ""},
		"the device is named": {platform.SEVGuest, platform.SourceSEVGuest, above, "", ""},
	} {
		d, conf := new(doctor), config.Default()
		conf.Platform, conf.Report.ConfigFS = c.named, c.entry
		d.lookAtWay(&conf, &api.PlatformStatus{State: api.StateOK, Source: string(c.source)})
		f := d.find("way to reports")
		if (f != nil) != (c.says != "") || f != nil && (f.Level != c.level || !strings.Contains(f.Says, c.says) || !strings.Contains(f.Todo, "restart agentd.service")) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestDoctorWarns: what is not wrong yet is a warning, which does not change the verdict.
func TestDoctorWarns(t *testing.T) {
	for used, want := range map[uint64]level{79: levelFine, 80: levelWarning, 99: levelWarning} {
		d := new(doctor)
		st := &api.Status{TPM: api.TPMStatus{State: api.StateOK}, Ledger: api.LedgerStatus{Synchronised: true, Bytes: used, Limit: 100}}
		d.lookAtLog(st)
		if f := d.find(agentsLog); f == nil || f.Level != want || !strings.Contains(f.Says, "% full") && !strings.Contains(f.Says, "%") {
			t.Errorf("%d %% full: %+v", used, f)
		}
	}
	d := new(doctor)
	d.lookAtStatus(&api.Status{TPM: api.TPMStatus{State: api.StateOK}, Watch: api.WatchStatus{State: api.StateDegraded, Reason: "no inotify"}})
	if f := d.find("watching"); f == nil || f.Level != levelWarning || !strings.Contains(f.Says, "no inotify") {
		t.Errorf("%+v", f)
	}
	d = new(doctor)
	d.lookAtFirmwareLog([]byte("no log"))
	if f := d.find("firmware's log"); f == nil || f.Level != levelWarning || !strings.Contains(f.Says, "event 0 at byte 0") {
		t.Errorf("%+v", f)
	}
}
