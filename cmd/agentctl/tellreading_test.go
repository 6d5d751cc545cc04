// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

// lines is an output that hands over each write.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// TestTellReading: a command that waits for a measurement says how far it is, and nothing about
// other applications, nor after it has ended.
func TestTellReading(t *testing.T) {
	s := &sockets{admin: fakeAgent(t, map[string]answer{"/v1/apps": {200, `{"apps":[
		{"name":"small","state":"measured"},
		{"name":"other","state":"pending","reading":{"since":99,"bytes":1,"of":2}},
		{"name":"big","state":"pending","reading":{"since":12,"bytes":1073741824,"of":4294967296,"path":"/opt/big"}}]}`}})}
	for name, want := range map[string]string{
		"big": "agentctl: big is being measured: 1024 of 4096 MiB read in 12 s, about 36 s left, at \"/opt/big\"\n", "small": "", "none": "",
	} {
		said := make(lines)
		ended := (&terminal{err: said}).tellReading(t.Context(), s, name, time.Millisecond)
		if want != "" {
			if got := <-said; got != want {
				t.Errorf("said %q, want %q", got, want)
			}
		}
		go func() { // another line may be on its way
			for range said {
			}
		}()
		ended()
		close(said) // nothing is said any more
	}
}
