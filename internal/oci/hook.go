// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// AddHook returns a configuration with h as the first hook of the stage createRuntime, and whether
// that changed anything. Every other byte of a value stays as it was.
func AddHook(config []byte, h Hook) ([]byte, bool, error) {
	s, err := ParseSpec(config)
	if err != nil {
		return nil, false, err
	}
	if s.Hooks != nil && slices.ContainsFunc(s.Hooks.CreateRuntime, func(x Hook) bool { return x.Path == h.Path && slices.Equal(x.Args, h.Args) }) {
		return config, false, nil
	}
	hook, err := strictjson.Encode(h)
	if err != nil {
		return nil, false, err
	}
	out, err := edit(config, "hooks", func(hooks jsontext.Value) (jsontext.Value, error) {
		if empty(hooks) {
			hooks = jsontext.Value("{}")
		}
		return edit(hooks, "createRuntime", func(list jsontext.Value) (jsontext.Value, error) {
			if empty(list) {
				list = jsontext.Value("[]")
			}
			rest := bytes.TrimSpace(list)[1:]
			if comma := []byte(","); !bytes.Equal(bytes.TrimSpace(rest), []byte("]")) {
				rest = append(comma, rest...)
			}
			return slices.Concat(jsontext.Value("["), hook, rest), nil
		})
	})
	if err != nil {
		return nil, false, fmt.Errorf("add a hook to %s: %w", ConfigName, err)
	}
	if len(out) > MaxConfig {
		return nil, false, fmt.Errorf("%s has %d bytes with the hook, want at most %d", ConfigName, len(out), MaxConfig)
	}
	return out, true, nil
}

func empty(v jsontext.Value) bool {
	v = bytes.TrimSpace(v)
	return len(v) == 0 || bytes.Equal(v, []byte("null"))
}

// edit returns an object with one member replaced by what change makes of it, nil if it is not
// there. The other members stay in their order, byte for byte.
func edit(object jsontext.Value, member string, change func(jsontext.Value) (jsontext.Value, error)) (jsontext.Value, error) {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	out, found := []byte{'{'}, false
	add := func(name, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		name = name.Clone()
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		plain, err := jsontext.AppendUnquote(nil, name)
		if err != nil {
			return nil, err
		}
		if string(plain) == member {
			found = true
			if value, err = change(value.Clone()); err != nil {
				return nil, err
			}
		}
		add(name, value)
	}
	if !found {
		value, err := change(nil)
		if err != nil {
			return nil, err
		}
		name, err := jsontext.AppendQuote(nil, member)
		if err != nil {
			return nil, err
		}
		add(name, value)
	}
	return append(out, '}'), nil
}
