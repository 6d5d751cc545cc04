// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

func TestEventsComeBack(t *testing.T) {
	records, _ := exampleLog()
	for _, r := range records {
		e, err := r.Event()
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.Encode()
		if err != nil || !bytes.Equal(b, r.Content[5:]) {
			t.Errorf("%s: %s, %v", e.Type, b, err)
		}
	}
}

// Case 94: a content has one spelling.
func TestEventSpelling(t *testing.T) {
	zeros := strings.Repeat("A", 43) + "="
	const good = `{"type":"gap","time":1,"gap":{"reason":"x"}}`
	if _, err := pcr.ParseEvent([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "{}", "null", "[]", `"gap"`,
		good + " ", " " + good, good + good,
		`{"gap":{"reason":"x"},"type":"gap","time":1}`,
		`{"type":"gap","gap":{"reason":"x"},"time":1}`,
		`{"type":"gap","gap":{"reason":"x"}}`, // without a time
		`{"type":"gap","time":"1","gap":{"reason":"x"}}`,
		`{"type":"gap","time":01,"gap":{"reason":"x"}}`,
		`{"type":"gap","time":9007199254740992,"gap":{"reason":"x"}}`,
		`{"type":"full"}`,
		`{"type":"app-same","time":1,"same":{"app":"a","declaration":"` + zeros + `","digest":"` + zeros + `","carried":false,"reason":"x"}}`,
		`{"type":"gap","time":1,"gap":{"reason":"\u0078"}}`,
		`{"type":"gap","time":1,"gap":{"reason":"x","more":1}}`,
		`{"type":"gap","time":1,"gap":{"reason":"x"},"more":1}`,
		`{"type":"gap","time":1,"Gap":{"reason":"x"}}`,
		`{"type":"gap","time":1,"type":"gap","gap":{"reason":"x"}}`,
		`{"type":"gap","time":1,"gap":{"reason":"x"},"app":null}`,
		`{"type":"gap","time":1}`,
		`{"type":"gap","time":1,"gap":{"reason":""}}`,
		`{"type":"gap","time":1,"gap":{}}`,
		`{"type":"gap","time":1,"gap":{"reason":"a\nb"}}`,
		"{\"type\":\"gap\",\"time\":1,\"gap\":{\"reason\":\"a\u202eb\"}}", // reverses the text after it
		"{\"type\":\"gap\",\"time\":1,\"gap\":{\"reason\":\"a\u2028b\"}}",
		`{"type":"gap","time":1,"gap":{"reason":"` + strings.Repeat("x", pcr.MaxReason+1) + `"}}`,
		"{\"type\":\"gap\",\"time\":1,\"gap\":{\"reason\":\"\xff\"}}",
		`{"type":"full","time":1,"gap":{"reason":"x"}}`,
		`{"type":"gap","time":1,"unmeasured":{"app":"a","reason":"x"},"gap":{"reason":"x"}}`,
		`{"type":"full","time":1,"full":{}}`,
		`{"type":"FULL","time":1}`,
		`{"type":"app","time":1,"gap":{"reason":"x"}}`,
		strings.Repeat(`{"type":`, 100000),
		strings.Repeat("[", 100000),
	} {
		if e, err := pcr.ParseEvent([]byte(bad)); err == nil {
			t.Errorf("%.80s: %+v", bad, e)
		}
	}
}

func TestEventRefused(t *testing.T) {
	entry := func(path string, mode uint32) pcr.ManifestEntry { return pcr.ManifestEntry{Path: path, Mode: mode} }
	app := func(m ...pcr.ManifestEntry) *pcr.Event {
		return &pcr.Event{Type: pcr.EventApp, App: &pcr.AppEvent{App: "a", Manifest: m, Digest: pcr.ManifestDigest(m)}}
	}
	agent := func(change func(*pcr.AgentEvent)) *pcr.Event {
		a := &pcr.AgentEvent{Version: "1", AgentKey: make([]byte, 32)}
		change(a)
		return &pcr.Event{Type: pcr.EventAgent, Agent: a}
	}
	start := func(change func(*pcr.StartEvent)) *pcr.Event {
		s := &pcr.StartEvent{PCR: 14, Values: []pcr.StartValue{{"sha1", make([]byte, 20)}, {"sha256", make([]byte, 32)}}}
		change(s)
		return &pcr.Event{Type: pcr.EventStart, Start: s}
	}
	same := func(app, reason string) *pcr.Event {
		return &pcr.Event{Type: pcr.EventSame, Same: &pcr.SameEvent{App: app, Reason: reason, Carried: true}}
	}
	stop := func(key int) *pcr.Event {
		return &pcr.Event{Type: pcr.EventStop, Stop: &pcr.StopEvent{AgentKey: make([]byte, key)}}
	}
	const file = 0o100644
	user := func(name string, uid *uint32) *pcr.Event {
		e := app(entry("/a", file))
		e.App.User, e.App.UID = name, uid
		return e
	}
	good := []*pcr.Event{
		app(entry("/a", file), entry("/a b", 0o120777)),
		user("root", new(uint32(0))),
		same("a", "x"),
		stop(32),
		{Type: pcr.EventFull, Time: pcr.MaxTime},
		agent(func(*pcr.AgentEvent) {}),
		start(func(*pcr.StartEvent) {}),
	}
	for _, e := range good {
		if _, err := e.Encode(); err != nil {
			t.Errorf("%s: %v", e.Type, err)
		}
	}
	wrongDigest := app(entry("/a", file))
	wrongDigest.App.Digest[3] ^= 1
	noName := app(entry("/a", file))
	noName.App.App = ""
	many := make([]pcr.ManifestEntry, pcr.MaxManifest+1)
	for i := range many {
		many[i] = entry(fmt.Sprintf("/%08d", i), file)
	}
	for name, e := range map[string]*pcr.Event{
		"empty manifest":             app(),
		"manifest too long":          app(many...),
		"manifest not sorted":        app(entry("/b", file), entry("/a", file)),
		"path twice":                 app(entry("/a", file), entry("/a", file)),
		"path not absolute":          app(entry("a", file)),
		"path empty":                 app(entry("", file)),
		"path with a line break":     app(entry("/a\nb", file)),
		"path not UTF-8":             app(entry("/a\xff", file)),
		"path too long":              app(entry("/"+strings.Repeat("x", evidence.MaxPath), file)),
		"FIFO":                       app(entry("/a", 0o010644)),
		"no type":                    app(entry("/a", 0o644)),
		"digest not of the manifest": wrongDigest,
		"app without a name":         noName,
		"user without a uid":         user("root", nil),
		"uid without a user":         user("", new(uint32(0))),
		"uid -1":                     user("root", new(uint32(1<<32-1))),
		"same without an app":        same("", "x"),
		"same without a reason":      same("a", ""),
		"same with a long reason":    same("a", strings.Repeat("x", pcr.MaxReason+1)),
		"stop without a key":         stop(0),
		"stop with a short key":      stop(31),
		"time of 2^53":               {Type: pcr.EventFull, Time: pcr.MaxTime + 1},
		"agent key short":            agent(func(a *pcr.AgentEvent) { a.AgentKey = a.AgentKey[1:] }),
		"no version":                 agent(func(a *pcr.AgentEvent) { a.Version = "" }),
		"declarations not sorted":    agent(func(a *pcr.AgentEvent) { a.Declarations = []pcr.Declaration{{App: "b"}, {App: "a"}} }),
		"declaration twice":          agent(func(a *pcr.AgentEvent) { a.Declarations = []pcr.Declaration{{App: "a"}, {App: "a"}} }),
		"head without a count":       agent(func(a *pcr.AgentEvent) { a.Previous.Digest[0] = 1 }),
		"PCR 24":                     start(func(s *pcr.StartEvent) { s.PCR = 24 }),
		"PCR 16":                     start(func(s *pcr.StartEvent) { s.PCR = 16 }),
		"no banks":                   start(func(s *pcr.StartEvent) { s.Values = nil }),
		"banks not sorted":           start(func(s *pcr.StartEvent) { s.Values[0], s.Values[1] = s.Values[1], s.Values[0] }),
		"bank unknown":               start(func(s *pcr.StartEvent) { s.Values[0].Algorithm = "sm3_256" }),
		"value short":                start(func(s *pcr.StartEvent) { s.Values[1].Value = s.Values[1].Value[1:] }),
		"empty log before":           start(func(s *pcr.StartEvent) { s.Previous = &evidence.LogHead{} }),
	} {
		if b, err := e.Encode(); err == nil {
			t.Errorf("%s: encoded as %.80s", name, b)
		}
	}
	t.Run("too large", func(t *testing.T) {
		var size *text.SizeError
		if _, err := app(many[:pcr.MaxManifest]...).Encode(); !errors.As(err, &size) || size.Max != pcr.MaxContent {
			t.Errorf("%v", err)
		}
	})
}

// Case 53: a manifest does not collide with another by moving a boundary.
func TestManifestDigest(t *testing.T) {
	base := []pcr.ManifestEntry{{Path: "/a", Mode: 0o100755, Size: 1}, {Path: "/b", Mode: 0o100644, Size: 2}}
	seen := map[evidence.Digest]string{}
	add := func(name string, m []pcr.ManifestEntry) {
		d := pcr.ManifestDigest(m)
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
	add("base", base)
	add("one entry", base[:1])
	add("none", nil)
	for name, change := range map[string]func(e *pcr.ManifestEntry){
		"path": func(e *pcr.ManifestEntry) { e.Path = "/a\x00" }, "mode": func(e *pcr.ManifestEntry) { e.Mode |= 0o4000 },
		"size": func(e *pcr.ManifestEntry) { e.Size = 1 << 32 }, "digest": func(e *pcr.ManifestEntry) { e.Digest[31] = 1 },
	} {
		m := []pcr.ManifestEntry{base[0], base[1]}
		change(&m[0])
		add(name, m)
	}
}

func FuzzParseEvent(f *testing.F) {
	records, _ := exampleLog()
	for _, r := range records {
		f.Add(r.Content[5:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := pcr.ParseEvent(b)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q comes back as %q, %v", b, again, err)
		}
	})
}
