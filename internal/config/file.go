// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// Load reads the file at path over defaults and returns the exact bytes with
// it, whose digest goes into the measurement log. A file that does not exist is an
// empty one. The file names folders, devices and recipients of recovery: one that another user
// could have written is an [*Error].
func Load(path string, defaults Config) (Config, []byte, error) {
	b, err := durable.ReadTrusted(path, maxSize)
	return parsed(path, b, err, defaults)
}

// LoadFromImage reads what [Load] reads, from the folder of a machine that is being built: its
// files belong to the user who builds it. The caller has followed the links in path.
func LoadFromImage(path string, defaults Config) (Config, []byte, error) {
	b, err := durable.ReadRegular(path, maxSize)
	return parsed(path, b, err, defaults)
}

// parsed decodes what reading gave.
func parsed(path string, b []byte, err error, defaults Config) (Config, []byte, error) {
	_, distrusted := errors.AsType[*durable.DistrustError](err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return defaults, nil, nil
	case distrusted:
		return Config{}, nil, &Error{File: path, Err: err}
	case err != nil:
		return Config{}, nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(path, b, defaults)
	return c, b, err
}
