// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

var update = flag.Bool("update", false, "write testdata and the examples in docs/measurements.md again")

// exampleLog is a log with one record of every event.
func exampleLog() ([]pcr.Record, []pcr.Algorithm) {
	return exampleOf(func(pcr.EventType) bool { return true })
}

// plainLog is the example with the events that concern the log as a whole, or the files of an
// application: its records have the numbers that tests know.
func plainLog() ([]pcr.Record, []pcr.Algorithm) {
	return exampleOf(func(e pcr.EventType) bool {
		switch e {
		case pcr.EventGateStart, pcr.EventGateGap, pcr.EventExec:
			return false
		}
		return true
	})
}

func exampleOf(wanted func(pcr.EventType) bool) ([]pcr.Record, []pcr.Algorithm) {
	banks := []pcr.Algorithm{pcr.SHA256, pcr.SHA384}
	content := func(s string) evidence.Digest { return evidence.Digest(pcr.SHA256.Sum([]byte(s))) }
	start := &pcr.StartEvent{PCR: 13, Previous: &evidence.LogHead{Count: 7, Digest: content("log of the boot before")}}
	for _, d := range pcr.Zero(banks) {
		start.Values = append(start.Values, pcr.StartValue{Algorithm: d.Algorithm.String(), Value: d.Value})
	}
	agent := pcr.AgentEvent{
		Version:       "1.0.0",
		Digest:        content("agentd"),
		Configuration: content(""),
		Declarations:  []pcr.Declaration{{App: "billing", Digest: content("billing.toml")}},
		AgentKey:      []byte("thirty-two bytes of an agent key"),
	}
	manifest := []pcr.ManifestEntry{
		{Path: "/usr/bin/billing", Mode: 0o100755, Size: 11, Digest: content("hello world")},
		{Path: "/usr/lib/billing/current", Mode: 0o120777, Size: 3, Digest: content("1.2")},
	}
	events := []pcr.Event{
		{Type: pcr.EventStart, Time: 5231, Start: start},
		{Type: pcr.EventAgent, Time: 5238, Agent: &agent},
		{Type: pcr.EventApp, Time: 5307, App: &pcr.AppEvent{
			App: "billing", Unit: "billing.service", User: "billing", UID: new(uint32(990)), Declaration: content("billing.toml"),
			Manifest: manifest, Digest: pcr.ManifestDigest(manifest),
		}},
		{Type: pcr.EventUnmeasured, Time: 61804, Unmeasured: &pcr.UnmeasuredEvent{App: "billing", Reason: "/usr/bin/billing changed while it was hashed"}},
		{Type: pcr.EventGap, Time: 61804, Gap: &pcr.GapEvent{Reason: "the kernel dropped file change notices"}},
		{Type: pcr.EventReload, Time: 61804, Agent: &agent},
		{Type: pcr.EventSame, Time: 61893, Same: &pcr.SameEvent{
			App: "billing", Declaration: content("billing.toml"), Digest: pcr.ManifestDigest(manifest),
			Reason: "it could not be measured before",
		}},
		{Type: pcr.EventContainer, Time: 64417, Container: exampleContainer(content)},
		{Type: pcr.EventEmitted, Time: 70512, Emitted: &pcr.EmittedEvent{
			App: "billing", Unit: "billing.service", UID: 990, Domain: "billing/model", Content: []byte("sha256:7b1c loaded"),
		}},
		{Type: pcr.EventGateStart, Time: 70900, GateStart: &pcr.GateStartEvent{Gate: content("agentd-gate"), Apps: pcr.GatedApps{{App: "billing", Enforce: true}}}},
		{Type: pcr.EventExec, Time: 71433, Exec: &pcr.ExecEvent{App: "billing", Path: "/usr/bin/billing", Digest: content("another program"), Refused: true}},
		{Type: pcr.EventGateGap, Time: 81200, GateGap: &pcr.GateGapEvent{Reason: "the gate ended"}},
		{Type: pcr.EventStop, Time: 90210, Stop: &pcr.StopEvent{AgentKey: agent.AgentKey}},
		{Type: pcr.EventFull, Time: 90655},
	}
	events = slices.DeleteFunc(events, func(e pcr.Event) bool { return !wanted(e.Type) })
	var records []pcr.Record
	for i, e := range events {
		if e.Agent != nil {
			a := *e.Agent
			a.Previous = pcr.Head(evidence.LogHead{}, records)
			e.Agent = &a
		}
		r, err := pcr.NewRecord(uint64(i), 13, banks, &e)
		if err != nil {
			panic(err)
		}
		records = append(records, r)
	}
	return records, banks
}

// exampleContainer is a container of a declared application.
func exampleContainer(content func(string) evidence.Digest) *pcr.ContainerEvent {
	names, digest := pcr.ContainerEnvironment([]string{
		"PATH=/usr/bin", "TERM=xterm", "HOSTNAME=5c0ffee1", "AGENTD_ENVIRONMENT_SALT=00112233445566778899aabbccddeeff", "TOKEN=a secret",
	}, "5c0ffee1")
	return &pcr.ContainerEvent{
		Engine: "podman", ID: "5c0ffee1", App: "ledger", Declaration: new(content("ledger.toml")), Started: 64210, Cgroup: "/machine.slice/libpod-5c0ffee1.scope",
		Image: pcr.ContainerImage{Name: "registry.example/ledger:1.4", Config: new(content("configuration")), Manifest: new(content("manifest"))},
		Root:  pcr.ContainerRoot{Digest: content("the manifest of its files"), Files: 412, Bytes: 8412330, ReadOnly: true},
		Process: pcr.ContainerProcess{
			Args: pcr.ContainerArgs{evidence.Bytes("/usr/bin/ledger"), evidence.Bytes("--serve")}, Cwd: "/", UID: 1000, GID: 1000, Groups: pcr.ContainerGroups{1000},
			Environment: names, EnvironmentHash: digest, Capabilities: pcr.ContainerWords{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}, NoNewPrivileges: true, Seccomp: new(content("filter")),
		},
		Mounts: pcr.ContainerMounts{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: pcr.ContainerWords{"nosuid", "noexec", "nodev"}},
			{Destination: "/data", Type: "bind", Source: "/srv/ledger", Options: pcr.ContainerWords{"rbind", "rw"}},
		},
		Devices:    pcr.ContainerDevices{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}},
		Namespaces: pcr.ContainerWords{"cgroup", "ipc", "mnt", "net", "pid", "uts"},
	}
}

// TestDocumentation keeps docs/measurements.md true: it shows a record of every event as
// this code makes it. Run with -update after a change of the format.
func TestDocumentation(t *testing.T) {
	records, banks := exampleLog()
	path := filepath.Join("..", "docs", "measurements.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	values, head := pcr.Zero(banks), evidence.LogHead{}
	for _, r := range records {
		e, err := r.Event()
		if err != nil {
			t.Fatal(err)
		}
		head = evidence.NextLogHead(head, r.Encode())
		if values, err = r.Extend(values); err != nil {
			t.Fatal(err)
		}
		text = example(t, text, string(e.Type), fmt.Sprintf("%s\n\n%s\nlog head %d, %s\n", r.Content[5:], wrap(r.Encode()), head.Count, head.Digest))
	}
	two := exampleOfTwo(t, records[0])
	text = example(t, text, "log-start with events", fmt.Sprintf("%s\n\n%s", two.Content[5:], wrap(two.Encode())))
	var end strings.Builder
	for _, v := range values {
		fmt.Fprintf(&end, "%s\n    %x\n", v.Algorithm, v.Value)
	}
	text = example(t, text, "final values", end.String())
	json, err := pcr.EncodeCELJSON(records)
	if err != nil {
		t.Fatal(err)
	}
	text = example(t, text, "CEL-JSON", string(json))
	hold(t, path, text)
	hold(t, filepath.Join("testdata", "example.cel.json"), string(json))
	var whole []byte
	for _, r := range records {
		whole = append(whole, r.Encode()...)
	}
	hold(t, filepath.Join("testdata", "example.cel"), string(whole))
}

// exampleOfTwo is the first record of a log with a second PCR.
func exampleOfTwo(t *testing.T, first pcr.Record) pcr.Record {
	t.Helper()
	e, err := first.Event()
	if err != nil {
		t.Fatal(err)
	}
	e.Start.Events = &pcr.EventsStart{PCR: 14, Values: e.Start.Values}
	r, err := pcr.NewRecord(0, first.PCR, []pcr.Algorithm{pcr.SHA256, pcr.SHA384}, e)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// example puts body between the marks of the named example.
func example(t *testing.T, text, name, body string) string {
	t.Helper()
	begin, end := "<!-- "+name+": begin -->\n```\n", "```\n<!-- "+name+": end -->"
	before, rest, ok := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("the marks around the example %q are missing", name)
	}
	return before + begin + body + end + after
}

// hold asserts that a file has the given content, or with -update writes it.
func hold(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code makes; run go test ./pcr -run TestDocumentation -update", path)
	}
}

// wrap is b in hexadecimal, 32 bytes a line.
func wrap(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		s.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return s.String()
}
