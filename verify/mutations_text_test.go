// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// textMutations have a unit whose name looks like that of another one on a screen: one of
// each kind of character that no text may contain.
func textMutations() []mutation {
	var all []mutation
	for _, r := range []rune{
		0x1b, 0x85, 0x202e, 0x200b, 0x2028, // controls, direction, zero width, separators
		0x034f, 0x115f, 0x17b4, 0x180b, 0xfe0f, 0xe0100, // default-ignorable
		0x00a0, 0x2003, 0x3000, // spaces
		0x2800, 0x3164, 0xffa0, 0x1d159, // blanks
	} {
		all = append(all, mutation{id: StatementDecode, name: fmt.Sprintf("unit with %U", r), blind: true, recipe: func(_ *testing.T, m *evidencetest.Recipe) {
			m.Encoded = func(b []byte) []byte {
				name := "billing" + string(r)
				if r < 0x20 { // JSON wants an escape
					name = fmt.Sprintf(`billing\u%04x`, r)
				}
				return bytes.Replace(b, []byte(`"unit":"billing`), []byte(`"unit":"`+name), 1)
			}
		}})
	}
	return all
}
