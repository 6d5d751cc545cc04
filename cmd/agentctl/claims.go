// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/verify"
)

// printClaims prints every claim of accepted evidence, as their JSON names them, and nothing
// if it was refused.
func (t *terminal) printClaims(a *verify.Appraisal) {
	claims, err := a.Claims()
	if err != nil {
		return
	}
	var b bytes.Buffer
	if err := (&terminal{out: &b}).writeJSON(claims); err != nil {
		return // of a type of ours, it does not fail
	}
	root := &node{}
	d := jsontext.NewDecoder(&b)
	if _, err := d.ReadToken(); err != nil { // the claims are an object
		return
	}
	root.addMembers(d, true)
	fmt.Fprintln(t.out, "Claims:")
	root.drawBelow(t, "", t.width())
	fmt.Fprintln(t.out)
}

// addMembers adds a line for each member of the object or list that was opened, and reads
// its end.
func (n *node) addMembers(d *jsontext.Decoder, object bool) {
	for i := 0; ; i++ {
		token, err := d.ReadToken()
		if k := token.Kind(); err != nil || k == '}' || k == ']' {
			return
		}
		name := strconv.Itoa(i)
		if object {
			name = token.String()
			if token, err = d.ReadToken(); err != nil {
				return
			}
		}
		if k := token.Kind(); k == '{' || k == '[' {
			n.add("%s", name).addMembers(d, k == '{')
		} else {
			n.add("%s: %s", name, token.String())
		}
	}
}
