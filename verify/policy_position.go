package verify

import (
	"errors"
	"fmt"
	"strings"

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

// locate reads the structure of a TOML text. It refuses keys that are not lower case:
// the decoder matches without regard to case, and one key must have one spelling.
func locate(text []byte) (positions, error) {
	l := locator{positions: positions{}, arrays: map[string]int{}}
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
}

func (l *locator) syntax(err error) error {
	var p *unstable.ParserError
	if errors.As(err, &p) {
		at := l.parser.Shape(l.parser.Range(p.Highlight)).Start
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
				l.positions[element] = l.parser.Shape(it.Node().Raw).Start
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
	name := string(key.Data)
	if path != "" {
		path += "."
	}
	path += name
	at := l.parser.Shape(key.Raw).Start
	if strings.ToLower(name) != name {
		return "", &PolicyError{Line: at.Line, Column: at.Column, Key: path, Message: "unknown key: keys are lower case"}
	}
	if _, ok := l.positions[path]; !ok {
		l.positions[path] = at
	}
	return path, nil
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
