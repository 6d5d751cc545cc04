// SPDX-License-Identifier: Apache-2.0

package stricttoml

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A walker reads the structure of a text and notes where each part begins.
type walker struct {
	parser unstable.Parser
	lines  []int            // offset of the first byte of each line
	at     map[string]Place // of each path
	tables map[string]int   // [[tables]] seen of each path
	keys   map[string]int   // keys seen of each table
}

func newWalker(text []byte) *walker {
	w := &walker{lines: []int{0}, at: map[string]Place{}, tables: map[string]int{}, keys: map[string]int{}}
	for i, c := range text {
		if c == '\n' {
			w.lines = append(w.lines, i+1)
		}
	}
	w.parser.Reset(text)
	return w
}

// place returns line and column of an offset. The parser's own method counts the lines
// before it every time, which would make the walk quadratic.
func (w *walker) place(offset int) Place {
	line, found := slices.BinarySearch(w.lines, offset)
	if !found {
		line-- // the line that begins before it
	}
	return Place{Line: line + 1, Column: offset - w.lines[line] + 1}
}

// A node is a part of the text: its path and what it may contain.
type node struct {
	path string
	*schema
}

// walk checks the text against the schema of its root.
func (w *walker) walk(root *schema) error {
	table := node{schema: root}
	for w.parser.NextExpression() {
		e := w.parser.Expression()
		var err error
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, err = w.table(root, e)
		case unstable.KeyValue:
			err = w.keyValue(table, e)
		}
		if err != nil {
			return err
		}
	}
	return w.syntax(w.parser.Error())
}

// syntax returns an error of the parser as one of ours.
func (w *walker) syntax(err error) error {
	if p, ok := errors.AsType[*unstable.ParserError](err); ok {
		at := w.place(int(w.parser.Range(p.Highlight).Offset))
		return &Error{Line: at.Line, Column: at.Column, Message: p.Message}
	}
	if err != nil {
		return &Error{Message: err.Error()}
	}
	return nil
}

// table enters [a.b] or [[a.b]]. A part that is an array of tables means its last element.
func (w *walker) table(root *schema, e *unstable.Node) (node, error) {
	n := node{schema: root}
	var at Place
	for it := e.Key(); it.Next(); {
		if count := w.tables[n.path]; count > 0 {
			n = node{fmt.Sprintf("%s[%d]", n.path, count-1), n.elem}
		}
		var err error
		if n, err = w.enter(n, it.Node()); err != nil {
			return n, err
		}
		at = w.place(int(it.Node().Raw.Offset))
	}
	if e.Kind == unstable.ArrayTable {
		if n.kind != unstable.Array || n.elem.kind != unstable.InlineTable {
			return n, w.wrong(n, at, n.want())
		}
		w.tables[n.path]++
		n = node{fmt.Sprintf("%s[%d]", n.path, w.tables[n.path]-1), n.elem}
		w.at[n.path] = at
	}
	if n.kind != unstable.InlineTable {
		return n, w.wrong(n, at, n.want())
	}
	return n, nil
}

func (w *walker) keyValue(n node, e *unstable.Node) error {
	var at Place
	for it := e.Key(); it.Next(); {
		var err error
		if n, err = w.enter(n, it.Node()); err != nil {
			return err
		}
		at = w.place(int(it.Node().Raw.Offset))
	}
	return w.value(n, at, e.Value())
}

// value checks the value of a key or array element that begins at a place.
func (w *walker) value(n node, at Place, v *unstable.Node) error {
	if v.Kind != n.kind && !(n.flag && v.Kind == unstable.Bool) {
		if v.Raw.Length > 0 {
			at = w.place(int(v.Raw.Offset))
		}
		return w.wrong(n, at, n.want())
	}
	switch v.Kind {
	case unstable.Integer:
		// The decoder says the same in words of Go. A number that TOML does not allow is its.
		i, err := strconv.ParseInt(strings.ReplaceAll(string(v.Data), "_", ""), 0, 64)
		if errors.Is(err, strconv.ErrRange) || err == nil && (i < n.low || i > n.high) {
			if v.Raw.Length > 0 {
				at = w.place(int(v.Raw.Offset))
			}
			return w.wrong(n, at, fmt.Sprintf("%.40s is too small or too large: %s", v.Data, n.want()))
		}
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			if err := w.keyValue(n, it.Node()); err != nil {
				return err
			}
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			element := node{fmt.Sprintf("%s[%d]", n.path, i), n.elem}
			at := at
			if it.Node().Raw.Length > 0 {
				at = w.place(int(it.Node().Raw.Offset))
			}
			w.at[element.path] = at
			if err := w.value(element, at, it.Node()); err != nil {
				return err
			}
			i++
		}
	}
	return nil
}

// enter returns the node of one part of a key of n, and notes where it begins.
func (w *walker) enter(n node, key *unstable.Node) (node, error) {
	name, at := string(key.Data), w.place(int(key.Raw.Offset))
	next, table := node{path: name}, n.path
	if table != "" {
		next.path = table + "." + name
	}
	var problem string
	if next.schema, problem = n.child(name); problem != "" {
		return next, w.wrong(next, at, problem)
	}
	if _, ok := w.at[next.path]; !ok {
		if w.keys[table]++; w.keys[table] > MaxTableKeys {
			return next, w.wrong(next, at, fmt.Sprintf("the table has more than %d keys", MaxTableKeys))
		}
		w.at[next.path] = at
	}
	return next, nil
}

func (w *walker) wrong(n node, at Place, message string) error {
	return &Error{Line: at.Line, Column: at.Column, Key: n.path, Message: message}
}
