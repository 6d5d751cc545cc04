// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// readInput reads a file of at most limit bytes; "-" is standard input, which can be read
// once.
func (t *terminal) readInput(name string, limit int) ([]byte, error) {
	r := t.in
	switch {
	case name == "":
		return nil, misuse(errors.New("a file name is empty")).withHint("most often a shell variable is not set")
	case name != "-":
		f, err := os.Open(name)
		if err != nil {
			return nil, misuse(err)
		}
		defer f.Close()
		r = f
	case t.consumed:
		return nil, misuse(errors.New("- is given twice, but standard input can be read only once"))
	default:
		t.consumed = true
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, misuse(fmt.Errorf("read %s: %w", name, durable.Cause(err)))
	}
	if len(b) > limit {
		return nil, misuse(fmt.Errorf("read %s: %w: more than %d bytes", name, errTooLarge, limit))
	}
	return b, nil
}

// readSecret reads a secret of at most limit bytes, as readInput does. On a terminal it is one line
// without its end, which is not shown while it is typed.
func (t *terminal) readSecret(ctx context.Context, name string, limit int) ([]byte, error) {
	f, ok := t.in.(*os.File)
	if name != "-" || t.consumed || !ok || !isTerminal(f) {
		return t.readInput(name, limit)
	}
	t.consumed = true
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, misuse(fmt.Errorf("ask the terminal how it is: %w", err))
	}
	defer context.AfterFunc(ctx, func() { term.Restore(fd, before) })() // a signal ends the process meanwhile
	fmt.Fprint(t.err, "Type or paste the secret, one line, which is not shown: ")
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(t.err)
	switch {
	case err != nil:
		return nil, misuse(fmt.Errorf("read the terminal: %w", err))
	case len(b) > limit:
		clear(b)
		return nil, misuse(fmt.Errorf("read the terminal: %w: more than %d bytes", errTooLarge, limit))
	}
	return b, nil
}

// errTooLarge is returned for a file that is too large for its kind.
var errTooLarge = errors.New("too large")

// readAs reads a file of at most limit bytes and parses it. The error names the file.
func readAs[T any](t *terminal, name string, limit int, parse func([]byte) (T, error)) (v T, err error) {
	b, err := t.readInput(name, limit)
	if err != nil {
		return v, err
	}
	if v, err = parse(b); err != nil {
		return v, misuse(fmt.Errorf("%s: %w", name, err))
	}
	return v, nil
}

// readDocument reads a file of strict JSON.
func readDocument[T any](t *terminal, name string, limit int) (*T, error) {
	return readAs(t, name, limit, func(b []byte) (*T, error) {
		v := new(T)
		return v, strictjson.Decode(b, limit, v)
	})
}

func (t *terminal) readCertificates(name string) ([][]byte, error) {
	return readAs(t, name, maxCertificates, snp.DecodeCertificates)
}

// readEvidence reads and decodes a document, which may be in a CMW or a certificate. Nothing in it is verified.
func (t *terminal) readEvidence(name string) (*evidence.Evidence, error) {
	c, err := t.readCarried(name)
	if err != nil {
		return nil, err
	}
	e, err := evidence.Parse(c.document)
	if err != nil {
		return nil, &exitError{code: exitBinding, err: fmt.Errorf("%s: %w", name, err)}
	}
	return e, nil
}

// exitBinding is the exit code for a file that is not evidence, as in package verify.
const exitBinding = 2

// parseBytes parses the value of a flag. "@FILE" is the content of a file as it is, and
// "@-" that of standard input. "hex:..." and "base64:..." name their form. Another value
// is hexadecimal if it can be, otherwise base64 in its standard form.
func (t *terminal) parseBytes(flag, s string, low, high int) ([]byte, error) {
	var b []byte
	var err error
	switch {
	case strings.HasPrefix(s, "@"):
		b, err = t.readInput(s[1:], high)
		if errors.Is(err, errTooLarge) {
			err = fmt.Errorf("%w, want %d to %d", err, low, high)
		}
	case strings.HasPrefix(s, "hex:"):
		b, err = hex.DecodeString(s[len("hex:"):])
	case strings.HasPrefix(s, "base64:"):
		b, err = base64.StdEncoding.Strict().DecodeString(s[len("base64:"):])
	default:
		if b, err = hex.DecodeString(s); err != nil {
			if b, err = base64.StdEncoding.Strict().DecodeString(s); err != nil {
				err = errors.New("neither hexadecimal nor base64: write it like 5f2b... or @FILE")
			}
		}
	}
	if err != nil {
		return nil, misuse(fmt.Errorf("%s: %w", flag, err))
	}
	if len(b) < low || len(b) > high {
		return nil, misuse(fmt.Errorf("%s: %d bytes, want %d to %d", flag, len(b), low, high))
	}
	return b, nil
}

// readPublicKey reads a public key for a statement: the DER bytes of a PEM "PUBLIC KEY",
// and the bytes of every other file as they are.
func (t *terminal) readPublicKey(name string) ([]byte, error) {
	b, err := t.readInput(name, 4*evidence.MaxPublicKey)
	if err != nil {
		return nil, err
	}
	if p, rest := pem.Decode(b); p != nil {
		if p.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, misuse(fmt.Errorf("%s: want one PEM block \"PUBLIC KEY\", found %q", name, p.Type)).
				withHint("openssl x509 -in CERT -noout -pubkey prints the key of a certificate")
		}
		b = p.Bytes
	}
	if len(b) == 0 || len(b) > evidence.MaxPublicKey {
		return nil, misuse(fmt.Errorf("%s: key of %d bytes, want 1 to %d", name, len(b), evidence.MaxPublicKey))
	}
	return b, nil
}

// texts are the flags whose values go to the agent as text. File names may be any bytes.
var texts = []string{"app", "audience", "label", "name"}

// refuseEmpty refuses a flag that was given without a value, and an empty argument. In a
// script that is a variable that was never set. To ignore the flag would drop what it asks
// for: a check of verify, or the key that attest names.
func refuseEmpty(c *cobra.Command, args []string) error {
	const hint = "an empty value is most often a shell variable that is not set; "
	var name string
	c.Flags().Visit(func(f *pflag.Flag) {
		given := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok { // may be repeated
			given = list.GetSlice()
		}
		if name == "" && slices.Contains(given, "") {
			name = f.Name
		}
	})
	if name != "" {
		return misuse(fmt.Errorf("--%s is empty: give a value, or leave the flag out", name)).withHint(hint + helpHint(c))
	}
	for _, name := range texts {
		if f := c.Flags().Lookup(name); f != nil && !utf8.ValidString(f.Value.String()) {
			return misuse(fmt.Errorf("--%s %q is not UTF-8 text", name, f.Value)).withHint(helpHint(c))
		}
	}
	// A shell that completes passes the word to complete, which is empty at first.
	if i := slices.Index(args, ""); i >= 0 && c.Name() != cobra.ShellCompRequestCmd {
		return misuse(fmt.Errorf("argument %d is empty", i+1)).withHint(hint + helpHint(c))
	}
	return nil
}
