// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/api"
)

func TestContents(t *testing.T) {
	for _, c := range []struct {
		b  []byte
		ok bool
	}{
		{[]byte{0, 2, 7, 8}, true},
		{[]byte{0, 0}, true},
		{nil, false},
		{[]byte{0}, false},
		{[]byte{0, 3, 7, 8}, false},
		{[]byte{0, 1, 7, 8}, false},
	} {
		got, err := contents("/credential", c.b)
		if (err == nil) != c.ok || c.ok && len(got) != len(c.b)-2 {
			t.Errorf("%x: %x, %v", c.b, got, err)
		}
		var field *api.Problem
		if err != nil && (!errors.As(err, &field) || field.Where != "/credential") {
			t.Errorf("%x: error %v does not name the member", c.b, err)
		}
	}
}
