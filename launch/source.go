// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"io"
)

// A Source is bytes of known length, such as a *bytes.Reader. For an open file use
// io.NewSectionReader(file, 0, size). Nothing reads beyond Size.
type Source interface {
	io.ReaderAt
	Size() int64
}

// read returns n bytes at an offset, which the caller checked against the size.
func read(s Source, offset int64, n int) ([]byte, error) {
	b := make([]byte, n)
	return b, readInto(s, offset, b)
}

func readInto(s Source, offset int64, b []byte) error {
	n, err := s.ReadAt(b, offset)
	if n == len(b) {
		return nil // io.EOF beside all bytes is allowed to an io.ReaderAt
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at offset %#x: %w", len(b), offset, err)
}

// checkImage checks the size of something that is loaded in whole pages.
func checkImage(s Source, most int64) error {
	switch size := s.Size(); {
	case size < pageSize || size > most:
		return fmt.Errorf("%d bytes: an image has %d to %d", size, pageSize, most)
	case size%pageSize != 0:
		return fmt.Errorf("%d bytes: an image has whole pages of %d bytes, so this one is truncated or is another kind of file", size, pageSize)
	}
	return nil
}
