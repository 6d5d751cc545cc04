// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"
	"testing"

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
