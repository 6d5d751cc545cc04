// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
)

// node is a line of a drawn tree and the lines below it.
type node struct {
	text     string
	children []*node
}

// add adds a line below n and returns it.
func (n *node) add(format string, args ...any) *node {
	c := &node{text: cleanLine(fmt.Sprintf(format, args...))}
	n.children = append(n.children, c)
	return c
}

// draw writes the tree with its branches.
func (n *node) draw(w io.Writer) {
	fmt.Fprintln(w, n.text)
	n.drawChildren(w, "")
}

func (n *node) drawChildren(w io.Writer, indent string) {
	for i, c := range n.children {
		branch, below := "├─ ", "│  "
		if i == len(n.children)-1 {
			branch, below = "└─ ", "   "
		}
		fmt.Fprintln(w, indent+branch+c.text)
		c.drawChildren(w, indent+below)
	}
}
