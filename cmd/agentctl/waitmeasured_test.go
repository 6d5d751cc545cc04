// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
)

// TestWaitMeasured: the waiting says which applications are late and how far each is, ends
// when all that can be measured are, and says why one is not.
func TestWaitMeasured(t *testing.T) {
	const running = `{"tpm":{"state":"ok"},"ledger":{"synchronised":true}}`
	const measured = `{"name":"calm","state":"measured"}`
	for name, c := range map[string]struct {
		status, apps string
		late         string // what is waited for
		done         bool
		err          string
	}{
		"starting":       {`{"tpm":{"state":"absent","reason":"the agent is starting"}}`, "", "the agent is starting", false, ""},
		"all":            {running, measured, "", true, ""},
		"not begun":      {running, measured + `,{"name":"new","state":"pending"}`, "new (not begun)", false, ""},
		"under way":      {running, measured + `,{"name":"big","state":"pending","reading":{"since":12,"bytes":1073741824,"of":4294967296,"path":"/opt/big"}}`, `big (1024 of 4096 MiB read in 12 s, about 36 s left, at "/opt/big")`, false, ""},
		"read again":     {running, `{"name":"big","state":"unmeasured","reason":"x","reading":{"since":1,"bytes":0,"of":0}}`, "big (0 of 0 MiB read in 1 s)", false, ""},
		"stuck":          {running, measured + `,{"name":"hung","state":"unmeasured","reason":"the file system of \"/mnt\" does not answer","reading":{"since":31,"path":"/mnt","stuck":true}}`, "", false, `1 of 2 applications are not measured: hung: the file system of "/mnt" does not answer`},
		"wrong and late": {running, `{"name":"a","state":"unmeasured","reason":"x"},{"name":"b","state":"pending"}`, "b (not begun)", false, ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		var questions atomic.Int32
		// As a signal does, when the command has the answers to its first questions and asks again. The
		// test asks once before.
		again := func(path string) {
			if path == "/v1/status" && questions.Add(1) == 3 {
				cancel()
			}
		}
		socket := fakeAgent(t, map[string]answer{"/v1/status": {200, c.status}, "/v1/apps": {200, `{"apps":[` + c.apps + `]}`}}, again)
		s := &sockets{client: socket, admin: socket}
		x := &terminal{out: new(bytes.Buffer), err: new(bytes.Buffer)}
		late, done, err := x.allMeasured(t.Context(), s)
		if late != c.late || done != c.done || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: waits for %q, done %t, %v", name, late, done, err)
		}
		if c.late == "" {
			continue
		}
		if err := x.waitMeasured(ctx, s); err == nil || !strings.Contains(err.Error(), c.late) {
			t.Errorf("%s: ends with %v", name, err)
		}
	}
}
