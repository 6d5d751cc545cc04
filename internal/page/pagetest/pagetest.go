// SPDX-License-Identifier: Apache-2.0

// Package pagetest reads the pages of package page as strictly as a page may be read, for tests: it
// refuses what html would mend, what loads something, and what a reader with a keyboard or a screen
// reader stumbles over.
package pagetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
)

// A Page is what a page says.
type Page struct {
	Title, Verdict string            // of the window; of the first heading
	Tone           string            // class of the body
	Headings       []string          // all of them, in their order
	States         map[string]string // class of the row of each check, by its id
	Open           int               // groups of checks that are open
	Text           string            // all text
	Shape          string            // elements and names of their attributes, without the text
	Warnings       []string
}

// elements are those that a page has. None of them loads or runs anything.
var elements = strings.Fields(`html head meta title style body a header nav main section footer h1 h2 h3 p div span bdi strong code br
	ul ol li dl dt dd table caption thead tbody tr th td details summary figure figcaption svg g path rect circle text desc`)

// attributes are those that an element may have.
var attributes = strings.Fields(`lang charset http-equiv content name class href id tabindex role scope open aria-label aria-labelledby aria-hidden focusable
	viewBox preserveAspectRatio width height x y dy d r rx transform`)

// Read reads a page. The error names the first thing that a page must not be. Its links stay on the
// page, or lead to addresses that begin with one of lead.
func Read(b []byte, lead ...string) (*Page, error) {
	rest, ok := bytes.CutPrefix(b, []byte("<!DOCTYPE html>\n"))
	if !ok {
		return nil, fmt.Errorf("the page begins with %.40q", b)
	}
	r := &reader{page: &Page{States: map[string]string{}}, ids: map[string]bool{}, labels: map[string]string{}, lead: lead}
	d := xml.NewDecoder(bytes.NewReader(rest)) // strict: each element ends, each attribute is quoted
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = r.take(token)
		}
		if err != nil {
			line, column := d.InputPos()
			return nil, fmt.Errorf("line %d, column %d: %w", line, column, err)
		}
	}
	return r.page, r.end()
}

// reader is what was read so far.
type reader struct {
	page    *Page
	lead    []string
	path    []string // elements that are open
	classes []string // of these
	ids     map[string]bool
	links   []string
	labels  map[string]string // ids that must exist, with the element that names each
	starts  []int             // of these, in text
	text    strings.Builder
	shape   strings.Builder
	policy  string
	style   string
	caption []bool // of open tables: whether it has a caption
}

func (r *reader) take(token xml.Token) error {
	switch x := token.(type) {
	case xml.StartElement:
		return r.begin(x)
	case xml.EndElement:
		return r.close(x.Name.Local)
	case xml.CharData:
		return r.say(string(x))
	}
	return fmt.Errorf("the page has a %T", token)
}

func (r *reader) begin(x xml.StartElement) error {
	name := x.Name.Local
	if !slices.Contains(elements, name) {
		return fmt.Errorf("element %q", name)
	}
	r.shape.WriteString("<" + name)
	class, id := "", ""
	for _, a := range x.Attr {
		r.shape.WriteString(" " + a.Name.Local)
		if a.Name.Space != "" || !slices.Contains(attributes, a.Name.Local) {
			return fmt.Errorf("attribute %q of %s", a.Name.Local, name)
		}
		if !text.Shown(a.Value) {
			return fmt.Errorf("attribute %s of %s has characters that may not be shown", a.Name.Local, name)
		}
		switch a.Name.Local {
		case "id":
			id = a.Value
			if r.ids[id] || id == "" || strings.ContainsAny(id, " \t\n") {
				return fmt.Errorf("id %q twice, or not a name", id)
			}
			r.ids[id] = true
		case "class":
			class = a.Value
		case "href":
			target, ok := strings.CutPrefix(a.Value, "#")
			if !ok && slices.ContainsFunc(r.lead, func(s string) bool { return strings.HasPrefix(a.Value, s) }) {
				continue
			}
			if !ok {
				return fmt.Errorf("a link leaves the page: %q", a.Value)
			}
			r.links = append(r.links, target)
		case "aria-labelledby":
			for _, at := range strings.Fields(a.Value) {
				r.labels[at] = name
			}
		case "content":
			if strings.Contains(a.Value, "default-src") {
				r.policy = a.Value
			}
		}
	}
	r.shape.WriteString(">")
	switch {
	case name == "body":
		r.page.Tone = class
	case name == "tr" && strings.HasPrefix(id, "check-"):
		r.page.States[strings.TrimPrefix(id, "check-")] = class
	case name == "details" && slices.ContainsFunc(x.Attr, func(a xml.Attr) bool { return a.Name.Local == "open" }):
		r.page.Open++
	case name == "table":
		r.caption = append(r.caption, false)
	case name == "caption" && len(r.caption) > 0:
		r.caption[len(r.caption)-1] = true
	}
	r.path, r.classes, r.starts = append(r.path, name), append(r.classes, class), append(r.starts, r.text.Len())
	return nil
}

func (r *reader) say(s string) error {
	if len(r.path) == 0 {
		if strings.TrimSpace(s) != "" {
			return fmt.Errorf("text outside: %q", s)
		}
		return nil
	}
	if r.path[len(r.path)-1] == "style" {
		r.style += s
		return nil
	}
	if !text.Shown(strings.ReplaceAll(s, "\n", " ")) {
		return fmt.Errorf("text with characters that may not be shown: %.80q", s)
	}
	r.text.WriteString(s)
	return nil
}

func (r *reader) close(name string) error {
	last := len(r.path) - 1
	said, class := "", r.classes[last]
	if name != "html" && name != "body" && name != "main" && name != "section" {
		said = strings.Join(strings.Fields(r.text.String()[r.starts[last]:]), " ")
	}
	r.path, r.classes, r.starts = r.path[:last], r.classes[:last], r.starts[:last]
	switch name {
	case "title":
		if slices.Contains(r.path, "head") {
			r.page.Title = said
		}
	case "h1", "h2", "h3":
		return r.heading(name, said)
	case "div":
		if class == "shout" {
			r.page.Warnings = append(r.page.Warnings, said)
		}
	case "table":
		if n := len(r.caption) - 1; !r.caption[n] {
			return errors.New("a table without a caption")
		}
		r.caption = r.caption[:len(r.caption)-1]
	case "a", "summary", "caption", "th", "dt":
		if said == "" {
			return fmt.Errorf("an empty %s", name)
		}
	}
	return nil
}

// heading takes a heading. Levels go down by one at a time, and there is one of the first.
func (r *reader) heading(name, said string) error {
	if said == "" {
		return errors.New("an empty heading")
	}
	last := "h0"
	if n := len(r.page.Headings); n > 0 {
		last = r.page.Headings[n-1][:2]
	}
	if name[1] > last[1]+1 || name == "h1" && last != "h0" {
		return fmt.Errorf("heading %s %q after %s", name, said, last)
	}
	if name == "h1" {
		r.page.Verdict = said
	}
	r.page.Headings = append(r.page.Headings, name+" "+said)
	return nil
}

// end checks what the whole page must be.
func (r *reader) end() error {
	r.page.Text, r.page.Shape = r.text.String(), r.shape.String()
	for _, target := range r.links {
		if !r.ids[target] {
			return fmt.Errorf("a link leads to %q, which is not there", target)
		}
	}
	for id, by := range r.labels {
		if !r.ids[id] {
			return fmt.Errorf("a %s is labelled by %q, which is not there", by, id)
		}
	}
	for _, bad := range []string{"url(", "@import", "expression", "</", "\\"} {
		if strings.Contains(r.style, bad) {
			return fmt.Errorf("the style has %q", bad)
		}
	}
	sum := sha256.Sum256([]byte(r.style))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	if r.policy != want {
		return fmt.Errorf("the policy is %q, want %q", r.policy, want)
	}
	for _, landmark := range []string{"<header", "<nav", "<main", "<footer", "<h1"} {
		if strings.Count(r.page.Shape, landmark+" ")+strings.Count(r.page.Shape, landmark+">") != 1 {
			return fmt.Errorf("not exactly one %s>", landmark)
		}
	}
	return nil
}
