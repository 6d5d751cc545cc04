// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"strings"
	"testing"

	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
)

// TestRead: what would be ignored is refused.
func TestRead(t *testing.T) {
	domain := &configv1.CoreConfiguration{TrustDomain: "example.org"}
	for name, c := range map[string]struct {
		core *configv1.CoreConfiguration
		text string
		good bool
	}{
		"good":              {domain, `socket = "/a"`, true},
		"nothing":           {domain, "", true},
		"no trust domain":   {&configv1.CoreConfiguration{}, `socket = "/a"`, false},
		"no core":           {nil, `socket = "/a"`, false},
		"unknown":           {domain, `sockets = "/a"`, false},
		"in another case":   {domain, `Socket = "/a"`, false},
		"a block":           {domain, `socket { }`, false},
		"a list":            {domain, `socket = ["/a"]`, false},
		"twice":             {domain, "socket = \"/a\"\nsocket = \"/b\"", false},
		"a number":          {domain, `socket = 5`, false},
		"a block of a name": {domain, `socket "/a" { }`, false},
		"of two names":      {domain, `socket "a" = "/a"`, false},
		"not closed":        {domain, `socket = "/a`, false},
		"too long":          {domain, strings.Repeat("#", maxText) + "\n", false},
		"a comment, not so": {domain, strings.Repeat("#", 100) + "\n", true},
	} {
		var out struct {
			Socket string `hcl:"socket"`
		}
		got, err := Read(c.core, c.text, &out)
		if (err == nil) != c.good || err == nil && got.TrustDomain != "example.org" {
			t.Errorf("%s: %+v, %+v, %v", name, got, out, err)
		}
	}
	for path, good := range map[string]bool{"/a/b": true, "a": false, "": false, "/a/../b": false, "/a/": false, "/a//b": false} {
		if err := Path("socket", path); (err == nil) != good {
			t.Errorf("%q: %v", path, err)
		}
	}
}
