// SPDX-License-Identifier: Apache-2.0

package stricttoml

import (
	"testing"

	"github.com/pelletier/go-toml/v2/unstable"
)

// TestPlaces: the place of an offset is what the parser says, at each offset.
func TestPlaces(t *testing.T) {
	for _, text := range []string{"", "\n", "a", "a\n", "\n\nab\n\ncd", "version = 1\r\n\r\nvmpl = [0]\n"} {
		w := newWalker([]byte(text))
		var p unstable.Parser
		p.Reset([]byte(text))
		for i := range len(text) + 1 {
			got, want := w.place(i), p.Shape(unstable.Range{Offset: uint32(i)}).Start
			if got.Line != want.Line || got.Column != want.Column {
				t.Errorf("%q, offset %d: %+v, want %+v", text, i, got, want)
			}
		}
	}
}
