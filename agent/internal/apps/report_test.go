// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

// TestUnderWay: the log says which readings take long, and how far they are, in one line.
func TestUnderWay(t *testing.T) {
	app := func(name string, r *api.Reading) api.App { return api.App{Name: name, Reading: r} }
	slow := &api.Reading{Since: 10, Bytes: 1 << 30, Of: 3 << 30}
	var many []api.App
	for i := range 7 {
		many = append(many, app(fmt.Sprint("app", i), slow))
	}
	for name, c := range map[string]struct {
		all             []api.App
		which, progress string
	}{
		"none":          {nil, "", ""},
		"not read":      {[]api.App{app("a", nil)}, "", ""},
		"short":         {[]api.App{app("a", &api.Reading{Since: 9, Bytes: 1, Of: 5})}, "", ""},
		"stuck":         {[]api.App{app("a", &api.Reading{Since: 90, Bytes: 1, Of: 5, Stuck: true})}, "", ""},
		"nothing yet":   {[]api.App{app("a", &api.Reading{Since: 11})}, "a", "0 of 0 MiB in 11 s"},
		"one of two":    {[]api.App{app("a", slow), app("b", nil)}, "a", "1024 of 3072 MiB in 10 s, about 20 s left"},
		"the oldest":    {[]api.App{app("a", slow), app("b", &api.Reading{Since: 20, Bytes: 1 << 30, Of: 1 << 30})}, "a, b", "2048 of 4096 MiB in 20 s, about 20 s left"},
		"more than fit": {many, "app0, app1, app2, app3, 3 more", "7168 of 21504 MiB in 10 s, about 20 s left"},
	} {
		if which, progress := underWay(c.all); which != c.which || progress != c.progress {
			t.Errorf("%s: %q, %q", name, which, progress)
		}
	}
}

// TestReport: a line each 10 s says that files are being read, while they are.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var log bytes.Buffer
		begin := time.Now()
		go report(ctx, slog.New(slog.NewTextHandler(&log, nil)), func() []api.App {
			if since := time.Since(begin); since < 35*time.Second {
				return []api.App{{Name: "a", Reading: &api.Reading{Since: uint64(since / time.Second), Bytes: 1 << 20, Of: 9 << 20}}}
			}
			return nil
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		for i := 1; i <= 3; i++ {
			if want := fmt.Sprintf("1 of 9 MiB in %d s", 10*i); !bytes.Contains(log.Bytes(), []byte(want)) {
				t.Errorf("no %q in %s", want, log.Bytes())
			}
		}
		if n := bytes.Count(log.Bytes(), []byte("\n")); n != 3 {
			t.Errorf("%d lines, want 3: %s", n, log.Bytes())
		}
	})
}
