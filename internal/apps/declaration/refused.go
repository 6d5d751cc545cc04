// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/stricttoml"
)

// Meant is for which instances of templates a refused declaration may have been meant. What runs
// in them is another program than that of the template's app.
type Meant struct {
	Instances []string // names of units, ascending
	Unknown   bool     // nothing shows a name: it may be any
}

// Holds reports whether the processes of an instance must not count as the template's app.
func (m Meant) Holds(unit string) bool { return m.Unknown || slices.Contains(m.Instances, unit) }

// String returns what m means for other apps, as the end of a sentence; empty if it means nothing.
func (m Meant) String() string {
	switch {
	case m.Unknown:
		return "until it is corrected, no instance of a template is an app, since the declaration may be meant for it"
	case len(m.Instances) > 0:
		return "until it is corrected, " + strings.Join(m.Instances, " and ") + " is not an app"
	}
	return ""
}

// unitLike finds what looks like the name of a unit.
var unitLike = regexp.MustCompile(`[A-Za-z0-9:_.\\@-]+\.(?:service|scope|socket|mount|swap)\b`)

// maxInstances is how many instances one refused declaration keeps apart. With more of them it
// may be any.
const maxInstances = 16

// meant returns for which instances the declaration b was meant, which is refused. If b is TOML, it
// says so itself. Otherwise its text shows names: perhaps more than the one that was meant.
func meant(b []byte) Meant {
	var doc document
	if _, err := stricttoml.Decode(b, MaxDeclaration, &doc); err == nil && checkUnit(doc.Unit) == nil {
		return meantBy([]string{doc.Unit})
	}
	found := unitLike.FindAllString(string(b), maxInstances+1)
	escaped := bytes.Contains(b, []byte(`\u`)) || bytes.Contains(b, []byte(`\U`))
	if len(found) == 0 || len(found) > maxInstances || escaped || len(b) > MaxDeclaration {
		return Meant{Unknown: true}
	}
	return meantBy(found)
}

func meantBy(units []string) (m Meant) {
	for _, unit := range units {
		prefix, rest, at := strings.Cut(unit, "@")
		if at && prefix != "" && !strings.HasPrefix(rest, ".") {
			m.Instances = append(m.Instances, unit)
		}
	}
	slices.Sort(m.Instances)
	m.Instances = slices.Compact(m.Instances)
	return m
}
