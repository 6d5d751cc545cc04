// SPDX-License-Identifier: Apache-2.0

// Package page draws the result of an appraisal as one HTML page for people.
//
// The page is whole by itself: it has one style sheet and no script, and its Content-Security-Policy
// lets a browser load nothing. The same appraisal and options give the same bytes.
//
// All text of evidence, of logs and of policies is of strangers. It reaches the page in one way:
// [line] makes it one short line without characters that mislead a reader, and html/template escapes
// that line for its place. Claims of evidence that was refused are not on the page, since nothing
// is known of them: of such evidence it has the checks alone.
//
// An attacker who writes the evidence chooses what accepted claims say, and how long a log is. So
// every list has a cap. The page says what it leaves out, and is never larger than [MaxSize].
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"

	"github.com/cvm-agentd/agentd/verify"
)

// MaxSize is the largest page, in bytes. The caps of the lists keep every page far below it.
const MaxSize = 8 << 20

// Options are what a page says apart from the appraisal.
type Options struct {
	Name     string // what was appraised, for people, such as the name of a file; may be empty
	TestRoot bool   // the verifier trusted a root that vouches for no hardware
}

// Style is the style sheet of pages, with their colours in light and dark, tables and text.
//
//go:embed page.css
var Style string

//go:embed page.html
var source string

// Style sheet and policy of every page. The policy names the style by its hash, so that a browser
// applies that style and nothing else, whatever the page contains.
var policy = "default-src 'none'; style-src 'sha256-" + Hash(Style) + "'; base-uri 'none'; form-action 'none'"

// Hash returns the source by which a Content-Security-Policy names a style sheet: the SHA-256 of its
// text, in base64 (Content Security Policy Level 3, section 2.3.1).
func Hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

var layout = template.Must(template.New("page").Parse(source))

// Write writes the page of an appraisal.
func Write(w io.Writer, a *verify.Appraisal, o Options) error {
	var b bytes.Buffer
	if err := layout.Execute(&b, newView(a, o)); err != nil {
		return fmt.Errorf("draw the page of an appraisal: %w", err)
	}
	if b.Len() > MaxSize { // the caps below prevent it
		return errors.New("draw the page of an appraisal: it is too large")
	}
	_, err := w.Write(b.Bytes())
	return err
}
