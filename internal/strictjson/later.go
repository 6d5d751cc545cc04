// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"strconv"
	"strings"
)

// Later reports whether b is a document of a later version than typ, such as "agentd/ak/1": its
// member "type" has the same name and a higher number. What else is in it does not matter, since
// only that version knows.
func Later(b []byte, limit int, typ string) bool {
	var doc struct {
		Type string `json:"type"`
	}
	if DecodeForeign(b, limit, &doc) != nil {
		return false
	}
	name, number := cutVersion(typ)
	foundName, found := cutVersion(doc.Type)
	return name == foundName && found > number
}

// cutVersion cuts a type into its name and its number, which is 0 if there is none.
func cutVersion(typ string) (name string, number uint64) {
	i := strings.LastIndexByte(typ, '/')
	number, err := strconv.ParseUint(typ[i+1:], 10, 31)
	if err != nil {
		return typ, 0
	}
	return typ[:i+1], number
}
