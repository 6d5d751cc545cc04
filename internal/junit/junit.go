// SPDX-License-Identifier: Apache-2.0

// Package junit writes what servers of continuous integration read: XML with suites of test
// cases. The order of members is that of the schema.
package junit

import (
	"encoding/xml"
	"fmt"
	"io"
)

// NoTime is how long a case took whose time is not measured.
const NoTime = "0"

// Suites is a document.
type Suites struct {
	XMLName xml.Name `xml:"testsuites"`
	Name    string   `xml:"name,attr"`
	Suites  []Suite  `xml:"testsuite"`
}

// Suite is a group of cases, with their numbers.
type Suite struct {
	Name       string     `xml:"name,attr"`
	Tests      int        `xml:"tests,attr"`
	Failures   int        `xml:"failures,attr"`
	Errors     int        `xml:"errors,attr"`
	Skipped    int        `xml:"skipped,attr"`
	Time       string     `xml:"time,attr"` // in seconds
	Timestamp  string     `xml:"timestamp,attr,omitempty"`
	Properties []Property `xml:"properties>property"`
	Cases      []Case     `xml:"testcase"`
	Output     string     `xml:"system-out"`
}

// Property is a member of a suite that is not a case.
type Property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

// Case is one case. It passed if it was not skipped, and neither failed nor was an error.
type Case struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Time    string   `xml:"time,attr"`
	Skipped *Skipped `xml:"skipped"`
	Error   *Failure `xml:"error"`
	Failure *Failure `xml:"failure"`
	Output  string   `xml:"system-out,omitempty"`
}

// Skipped is why a case was skipped.
type Skipped struct {
	Message string `xml:"message,attr"`
}

// Failure is why a case failed.
type Failure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

// Write writes suites as one document. Nothing of them can end an element: XML escapes what has a
// meaning in it. The caller has replaced what XML cannot contain, such as control characters.
func Write(to io.Writer, name string, suites []Suite) error {
	b, err := xml.MarshalIndent(Suites{Name: name, Suites: suites}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(to, "%s%s\n", xml.Header, b)
	return err
}
