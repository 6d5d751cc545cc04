// SPDX-License-Identifier: Apache-2.0

package gatewire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
)

func framed(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

// TestMessages: what is written is read again, one message after the other.
func TestMessages(t *testing.T) {
	var b bytes.Buffer
	all := []ToAgent{
		{Hello: &Hello{Version: Version, Held: []Held{{App: "a", Enforce: true}}, Gaps: []Gap{{Number: 1, Reason: "x"}}}},
		{Ready: &Ready{Generation: 3, Apps: []string{"a"}, Failed: []Failed{{App: "b", Reason: "x"}}}},
		{Ask: &Ask{ID: 1, App: "a", Path: "/a", Digest: evidence.Digest{1}, Loose: true, PID: 7}},
		{Gap: &Gap{Number: 2, App: "a", Reason: "x"}},
		{Pong: &Ping{ID: 9}},
	}
	for i := range all {
		if err := Write(&b, &all[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range all {
		var m ToAgent
		if err := Read(&b, &m); err != nil || !reflect.DeepEqual(m, all[i]) {
			t.Errorf("%+v, %v; want %+v", m, err, all[i])
		}
	}
	var m ToAgent
	if err := Read(&b, &m); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v", err)
	}
	rules := ToGate{Rules: &Rules{Generation: 1, Apps: []App{{App: "a", Folders: []Folder{{Path: "/a", Names: []string{"b"}}}}}}}
	var got ToGate
	if err := errors.Join(Write(&b, &rules), Read(&b, &got)); err != nil || !reflect.DeepEqual(got, rules) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestRefused: a message that is too long, cut, unknown, or more than one.
func TestRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"too long":     binary.BigEndian.AppendUint32(nil, MaxToAgent+1),
		"cut":          framed(`{"pong":{"id":1}}`)[:10],
		"none":         framed(`{}`),
		"two":          framed(`{"pong":{"id":1},"gap":{"number":1,"reason":"x"}}`),
		"unknown":      framed(`{"other":{}}`),
		"twice":        framed(`{"pong":{"id":1},"pong":{"id":1}}`),
		"more":         framed(`{"pong":{"id":1}} {}`),
		"another case": framed(`{"Pong":{"id":1}}`),
		"null":         framed(`{"pong":null}`),
		"no JSON":      framed(`pong`),
		"nothing":      framed(``),
	} {
		var m ToAgent
		if err := Read(bytes.NewReader(b), &m); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if err := Write(io.Discard, &ToAgent{Gap: &Gap{Reason: strings.Repeat("x", MaxToAgent)}}); err == nil {
		t.Error("a message that no agent reads was written")
	}
}

func FuzzToAgent(f *testing.F) {
	f.Add(framed(`{"ask":{"id":1,"app":"a","path":"/a","digest":"` + strings.Repeat("A", 43) + `=","pid":1}}`))
	f.Add(framed(`{"hello":{"version":1,"held":[{"app":"a"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m ToAgent
		if Read(bytes.NewReader(b), &m) != nil {
			return
		}
		var again bytes.Buffer
		var n ToAgent
		if err := errors.Join(Write(&again, &m), Read(&again, &n)); err != nil || !reflect.DeepEqual(m, n) {
			t.Fatalf("%+v is read again as %+v, %v", m, n, err)
		}
	})
}
