// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/cmw"
	"github.com/cvm-agentd/agentd/verify"
)

// carried is evidence as a file has it: by itself, in a CMW, or in a certificate. Nothing in it is
// verified.
type carried struct {
	document []byte
	key      []byte // of the certificate, SubjectPublicKeyInfo in DER; nil if there is none
}

// readCarried reads a file with evidence. A file that is neither a CMW nor a certificate is the document
// itself, whatever it contains.
func (t *terminal) readCarried(name string) (*carried, error) {
	b, err := t.readInput(name, cmw.Max)
	if err != nil {
		return nil, err
	}
	c, err := unwrap(b)
	if err != nil {
		return nil, &exitError{code: exitBinding, err: fmt.Errorf("%s: %w", name, err)}
	}
	return c, c.fits(name)
}

// unwrap returns the evidence in a CMW or a certificate, and any other file as it is.
func unwrap(b []byte) (*carried, error) {
	c := &carried{document: b}
	var err error
	if form := cmw.FormOf(b); form != "" {
		c.document, err = cmw.Unwrap(form, b)
	} else if cmw.IsCertificate(b) {
		c.document, c.key, err = cmw.FromCertificate(b)
	}
	return c, err
}

// fits refuses a document from the file name that is longer than any evidence. What carries one may be
// longer.
func (c *carried) fits(name string) error {
	if len(c.document) > evidence.MaxEvidence {
		return misuse(fmt.Errorf("read %s: %w: more than %d bytes", name, errTooLarge, evidence.MaxEvidence))
	}
	return nil
}

// expectKey has an appraisal expect the certificate's key in the statement, if evidence came in one.
// Otherwise a certificate of an attacker's key could carry the evidence of another machine.
func (c *carried) expectKey(e *verify.Expect) error {
	switch {
	case c.key == nil:
		return nil
	case e.PublicKey != nil && !bytes.Equal(e.PublicKey, c.key):
		return &exitError{code: exitBinding, err: errors.New("the certificate is not of the key in --public-key: the evidence speaks for another key than the one in use")}
	}
	e.PublicKey = c.key
	return nil
}

// certificateSentence says of accepted evidence what a certificate around it does not show.
const certificateSentence = "The evidence came in a certificate, whose key it names. Name, times and signature of the certificate were not looked at: a party that has the key made them. The certificate does not show with whom a connection is: a peer that has a copy of the key can present it, from any machine."

// limit adds that sentence to an accepted appraisal.
func (c *carried) limit(a *verify.Appraisal) {
	if c.key != nil && a.Verdict == verify.Pass {
		a.Sentences = append(a.Sentences, certificateSentence)
	}
}
