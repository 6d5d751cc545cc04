// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// positions knows where the values of a declaration stand, so that an error about
// a value can name line and column.
type positions struct {
	file string
	keys map[string][]place // for a list one place an element, else one place
}

type place struct{ line, column int }

// isList tells for each known key whether it takes a list of strings or one string.
var isList = map[string]bool{"unit": false, "user": false, "files": true, "directories": true, "exclude": true}

// locate checks the shape of the document and finds its values. The library's
// decoder matches keys whatever their case and has no positions for values; here
// only the exact keys pass.
func locate(file string, b []byte) (*positions, error) {
	at := &positions{file: file, keys: make(map[string][]place)}
	if i := invalidUTF8(b); i >= 0 {
		return nil, at.wrong(offsetPlace(b, i), "invalid UTF-8")
	}
	var p unstable.Parser
	p.Reset(b)
	for p.NextExpression() {
		if err := at.expression(&p, p.Expression()); err != nil {
			return nil, err
		}
	}
	if err := p.Error(); err != nil {
		var syntax *unstable.ParserError
		if errors.As(err, &syntax) {
			return nil, at.wrong(offsetPlace(b, int(p.Range(syntax.Highlight).Offset)), syntax.Message)
		}
		return nil, &DeclarationError{File: file, Problem: err.Error()}
	}
	return at, nil
}

func (at *positions) expression(p *unstable.Parser, e *unstable.Node) error {
	key := e.Key()
	key.Next()
	name, where := string(key.Node().Data), start(p, key.Node().Raw)
	list, known := isList[name]
	switch {
	case e.Kind != unstable.KeyValue:
		return at.wrong(where, fmt.Sprintf("table %q: a declaration has no tables", name))
	case !known:
		return at.wrong(where, fmt.Sprintf("unknown key %q, want unit, user, files, directories or exclude", name))
	case !key.IsLast():
		return at.wrong(where, fmt.Sprintf("%s has no keys below it", name))
	}
	v := e.Value()
	if !list {
		if v.Kind != unstable.String {
			return at.wrong(where, fmt.Sprintf("%s: want a string in quotes", name))
		}
		at.keys[name] = []place{start(p, v.Raw)}
		return nil
	}
	if v.Kind != unstable.Array {
		return at.wrong(where, fmt.Sprintf("%s: want a list of strings", name))
	}
	at.keys[name] = []place{}
	for it := v.Children(); it.Next(); {
		if it.Node().Kind != unstable.String {
			return at.wrong(where, fmt.Sprintf("%s[%d]: want a string in quotes", name, len(at.keys[name])))
		}
		at.keys[name] = append(at.keys[name], start(p, it.Node().Raw))
	}
	return nil
}

// problem is err about key, or about the whole file where key is absent.
func (at *positions) problem(key string, err error) error {
	problem := fmt.Sprintf("%s: %v", key, err)
	if places := at.keys[key]; len(places) > 0 {
		return at.wrong(places[0], problem)
	}
	return &DeclarationError{File: at.file, Problem: problem}
}

// element is err about element i of the list key.
func (at *positions) element(key string, i int, err error) error {
	return at.wrong(at.keys[key][i], fmt.Sprintf("%s[%d]: %v", key, i, err))
}

func (at *positions) wrong(where place, problem string) error {
	return &DeclarationError{File: at.file, Line: where.line, Column: where.column, Problem: problem}
}

func start(p *unstable.Parser, r unstable.Range) place {
	return offsetPlace(p.Data(), int(r.Offset))
}

// offsetPlace is line and column, both from 1, of the byte at offset.
func offsetPlace(b []byte, offset int) place {
	at := place{1, 1}
	for _, c := range b[:min(offset, len(b))] {
		if c == '\n' {
			at.line, at.column = at.line+1, 0
		}
		at.column++
	}
	return at
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
