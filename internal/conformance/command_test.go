// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// TestCapped: whatever way bytes take into it, at most the cap is kept, and more ends the command.
func TestCapped(t *testing.T) {
	for size, ends := range map[int]bool{0: false, MaxOutput: false, MaxOutput + 1: true, 4 * MaxOutput: true} {
		running, end := context.WithCancelCause(t.Context())
		c := &capped{end: end}
		n, err := io.Copy(c, bytes.NewReader(make([]byte, size)))
		if ended := errors.Is(context.Cause(running), errFlood); ended != ends || errors.Is(err, errFlood) != ends || c.kept.Len() > MaxOutput {
			t.Errorf("%d bytes: copied %d, %v, ended %v, kept %d", size, n, err, ended, c.kept.Len())
		}
		end(nil)
	}
	if _, ok := any(new(capped)).(io.ReaderFrom); ok {
		t.Error("bytes can be read into it past the cap")
	}
}
