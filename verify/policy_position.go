// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// PolicyError tells what is wrong in a policy, and where.
type PolicyError struct {
	Line, Column int    // from 1; 0 where the whole text is meant
	Key          string // dotted, array elements in brackets: "app[1].digests[0]"; may be empty
	Message      string
}

func (e *PolicyError) Error() string {
	where := "policy"
	if e.Line > 0 {
		where = fmt.Sprintf("policy line %d, column %d", e.Line, e.Column)
	}
	if e.Key != "" {
		where += ": " + e.Key
	}
	return where + ": " + e.Message
}

// positions says where each key and array element of a TOML text stands.
type positions map[string]unstable.Position

// at is the position of key, or of the nearest part above it that stands in the text.
func (p positions) at(key string) unstable.Position {
	for key != "" {
		if at, ok := p[key]; ok {
			return at
		}
		cut := strings.LastIndexAny(key, ".[")
		if cut < 0 {
			break
		}
		key = key[:cut]
	}
	return unstable.Position{}
}

// maxTableKeys is the most keys of one table. The decoder searches the keys of a table
// one after the other; the longest of ours has not a fifth of these.
const maxTableKeys = 256

// knownKeys are the keys of a policy, dotted, without indexes; "*" stands for a name
// that the table itself is made of, such as that of a product.
var knownKeys = sync.OnceValue(func() map[string]bool {
	out := make(map[string]bool)
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Map:
			out[prefix+"*"] = true
			walk(prefix+"*.", t.Elem())
		case reflect.Struct:
			for f := range t.Fields() {
				out[prefix+f.Tag.Get("toml")] = true
				walk(prefix+f.Tag.Get("toml")+".", f.Type)
			}
		}
	}
	walk("", reflect.TypeFor[policyText]())
	return out
})

// locate reads the structure of a TOML text. It refuses unknown keys, at the first, since
// the decoder looks through the whole text for the place of each; and keys that are not
// lower case, which the decoder would take: one key must have one spelling.
func locate(text []byte) (positions, error) {
	l := locator{positions: positions{}, arrays: map[string]int{}, keys: map[string]int{}, lines: lineStarts(text)}
	l.parser.Reset(text)
	prefix := ""
	for l.parser.NextExpression() {
		e := l.parser.Expression()
		var err error
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			prefix, err = l.table(e)
		case unstable.KeyValue:
			err = l.keyValue(prefix, e)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := l.parser.Error(); err != nil {
		return nil, l.syntax(err)
	}
	return l.positions, nil
}

type locator struct {
	parser    unstable.Parser
	positions positions
	arrays    map[string]int // tables seen of each array of tables
	keys      map[string]int // of each table
	lines     []int          // see lineStarts
}

// lineStarts are the offsets of the first byte of each line.
func lineStarts(text []byte) []int {
	out := []int{0}
	for i, c := range text {
		if c == '\n' {
			out = append(out, i+1)
		}
	}
	return out
}

// place is where a part of the text begins. The parser's own counts the lines before
// it every time.
func (l *locator) place(r unstable.Range) unstable.Position {
	offset := int(r.Offset)
	line, found := slices.BinarySearch(l.lines, offset)
	if !found {
		line-- // the one that begins before it
	}
	return unstable.Position{Offset: offset, Line: line + 1, Column: offset - l.lines[line] + 1}
}

func (l *locator) syntax(err error) error {
	var p *unstable.ParserError
	if errors.As(err, &p) {
		at := l.place(l.parser.Range(p.Highlight))
		return &PolicyError{Line: at.Line, Column: at.Column, Message: p.Message}
	}
	return &PolicyError{Message: err.Error()}
}

// table enters [a.b] or [[a.b]] and returns the prefix of the keys below it. A part
// that is an array of tables stands for its latest element.
func (l *locator) table(e *unstable.Node) (string, error) {
	var path string
	for it := e.Key(); it.Next(); {
		if n, ok := l.arrays[path]; ok && path != "" {
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
		var err error
		if path, err = l.enter(path, it.Node()); err != nil {
			return "", err
		}
	}
	if e.Kind == unstable.ArrayTable {
		l.arrays[path]++
		indexed := fmt.Sprintf("%s[%d]", path, l.arrays[path]-1)
		l.positions[indexed] = l.positions[path]
		delete(l.positions, path) // the next element has a place of its own
		path = indexed
	}
	return path, nil
}

func (l *locator) keyValue(prefix string, e *unstable.Node) error {
	path := prefix
	for it := e.Key(); it.Next(); {
		var err error
		if path, err = l.enter(path, it.Node()); err != nil {
			return err
		}
	}
	return l.value(path, e.Value())
}

func (l *locator) value(path string, v *unstable.Node) error {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			if err := l.keyValue(path, it.Node()); err != nil {
				return err
			}
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			element := fmt.Sprintf("%s[%d]", path, i)
			if it.Node().Raw.Length > 0 {
				l.positions[element] = l.place(it.Node().Raw)
			}
			if err := l.value(element, it.Node()); err != nil {
				return err
			}
			i++
		}
	}
	return nil
}

// enter appends one part of a key to path and notes where it stands.
func (l *locator) enter(path string, key *unstable.Node) (string, error) {
	name, table := string(key.Data), path
	if path != "" {
		path += "."
	}
	path += name
	at := l.place(key.Raw)
	refuse := func(why string) (string, error) {
		return "", &PolicyError{Line: at.Line, Column: at.Column, Key: path, Message: why}
	}
	switch {
	case strings.ToLower(name) != name:
		return refuse("unknown key: keys are lower case")
	case !plain(name) || !known(path):
		return refuse("unknown key")
	}
	if _, ok := l.positions[path]; !ok {
		if l.arrays[path] == 0 { // else the next element of an array of tables
			l.keys[table]++
		}
		if l.keys[table] > maxTableKeys {
			return refuse(fmt.Sprintf("the table has more than %d keys", maxTableKeys))
		}
		l.positions[path] = at
	}
	return path, nil
}

// plain keys need no quotes and can be told from the marks of a path.
func plain(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// known tells whether a path is that of a key of a policy.
func known(path string) bool {
	parts := strings.Split(path, ".")
	for i, p := range parts {
		p, _, _ = strings.Cut(p, "[")
		parts[i] = p
		if so := strings.Join(parts[:i+1], "."); !knownKeys()[so] {
			parts[i] = "*"
			if !knownKeys()[strings.Join(parts[:i+1], ".")] {
				return false
			}
		}
	}
	return true
}

// decodeError gives the decoder's errors the shape of ours.
func decodeError(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		d := &strict.Errors[0]
		line, column := d.Position()
		return &PolicyError{Line: line, Column: column, Key: strings.Join(d.Key(), "."), Message: "unknown key"}
	}
	var d *toml.DecodeError
	if errors.As(err, &d) {
		line, column := d.Position()
		return &PolicyError{Line: line, Column: column, Key: strings.Join(d.Key(), "."), Message: strings.TrimPrefix(d.Error(), "toml: ")}
	}
	return &PolicyError{Message: err.Error()}
}
