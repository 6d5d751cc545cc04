// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// keyLines maps each dotted key of a TOML document to the line, from 1, where it is
// set, so that a value which is TOML but makes no sense can be pointed at as well.
// The document has been decoded before: what does not parse here has no lines.
func keyLines(b []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(b)
	table := ""
	for p.NextExpression() {
		n := p.Expression()
		switch n.Kind {
		case unstable.Table, unstable.ArrayTable:
			key, line := dotted(&p, n)
			lines[key] = line
			table = key + "."
		case unstable.KeyValue:
			setLines(&p, n, table, lines)
		}
	}
	return lines
}

// setLines notes a key and, where its value is an inline table, the keys in it.
func setLines(p *unstable.Parser, n *unstable.Node, table string, lines map[string]int) {
	key, line := dotted(p, n)
	key = table + key
	lines[key] = line
	if v := n.Value(); v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			setLines(p, it.Node(), key+".", lines)
		}
	}
}

// dotted is the key of a table or key-value expression and the line where it begins.
func dotted(p *unstable.Parser, n *unstable.Node) (string, int) {
	var parts []string
	line := 0
	for it := n.Key(); it.Next(); {
		if parts == nil {
			line = p.Shape(it.Node().Raw).Start.Line
		}
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, "."), line
}

// knownKeys are the dotted keys and tables of a Config. The TOML library matches
// them in any case; here there is one spelling.
func knownKeys() map[string]bool {
	known := map[string]bool{}
	for table := range reflect.TypeFor[Config]().Fields() {
		known[table.Tag.Get("toml")] = true
		for key := range table.Type.Fields() {
			known[table.Tag.Get("toml")+"."+key.Tag.Get("toml")] = true
		}
	}
	return known
}
