// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/packages"
	"github.com/cvm-agentd/agentd/pcr"
)

const policyIMAUsage = `Usage: agentctl policy ima-reference --out FILE [--root DIR] [PACKAGE...]

Write the digests of all files of packages and of a folder, with a rule that names them.

Packages are .deb and .rpm. The rule is [[ima_files]] of a policy. What the kernel of a machine
measures (its list of IMA) is then accepted if it is one of these files, at any path. The
verifier is given the file with --ima-reference. An upgrade to listed packages raises no alarm.

Signatures of packages are not looked at: give only packages that you have verified.
dpkg-deb must be installed to unpack those of Debian. Those of RPM need not be unpacked if
their digests are of the algorithm.

  --out FILE             file for the digests; required
  --root DIR             add every regular file below this folder; links are not followed
  --hash NAME            sha256 (default), sha384 or sha512: what the kernel's list has
                         (ima_hash= on its command line)
  --json                 what was written, as JSON

Examples:
  agentctl policy ima-reference --out debian.ref packages/*.deb >> policy.toml
  agentctl policy ima-reference --out image.ref --root /mnt/image >> policy.toml
`

// imaReferenced is what policy ima-reference prints as JSON.
type imaReferenced struct {
	File      string `json:"file"`      // name of the file that was written
	Reference string `json:"reference"` // SHA-256 of the file, hexadecimal: as a policy names it
	Algorithm string `json:"algorithm"` // of the digests
	Files     int    `json:"files"`     // files that were read
	Digests   int    `json:"digests"`   // digests in the file, each once
}

func policyIMACommand(t *terminal) *cobra.Command {
	var out, root, hash string
	c := command("ima-reference", policyIMAUsage, cobra.ArbitraryArgs, func(c *cobra.Command, args []string) error {
		a, err := pcr.ParseAlgorithm(hash)
		switch {
		case out == "":
			return misuse(errors.New("--out is missing: name the file for the digests")).withHint(helpHint(c))
		case root == "" && len(args) == 0:
			return misuse(errors.New("there is nothing to read: give packages, or a folder with --root")).withHint(helpHint(c))
		case err != nil || a == pcr.SHA1:
			return misuse(fmt.Errorf("--hash %q is not sha256, sha384 or sha512", hash)).withHint(helpHint(c))
		}
		d := &packages.Digests{Algorithm: a}
		if err := collectFiles(c.Context(), d, root, args); err != nil {
			return misuse(err)
		}
		return t.writeReference(d, out)
	})
	c.Flags().StringVar(&out, "out", "", "")
	c.Flags().StringVar(&root, "root", "", "")
	c.Flags().StringVar(&hash, "hash", "sha256", "")
	return c
}

// collectFiles collects the digests of a folder and of packages.
func collectFiles(ctx context.Context, d *packages.Digests, root string, names []string) error {
	if root != "" {
		if err := d.Tree(ctx, root); err != nil {
			return fmt.Errorf("--root %s: %w", root, err)
		}
	}
	for _, name := range names {
		if err := d.Package(ctx, name); err != nil {
			return err
		}
	}
	if len(d.Values) == 0 {
		return errors.New("there is no file in what was given")
	}
	return nil
}

// writeReference writes digests, and prints the rule that names them.
func (t *terminal) writeReference(d *packages.Digests, out string) error {
	files := len(d.Values)
	b := ima.EncodeReference(d.Algorithm, d.Values)
	r, err := ima.ParseReference(b) // it has a cap
	if err != nil {
		return misuse(err)
	}
	if err := t.writeOutput(out, b); err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	v := imaReferenced{File: out, Reference: hex.EncodeToString(sum[:]), Algorithm: d.Algorithm.String(), Files: files, Digests: r.Len()}
	if t.json {
		return t.writeJSON(v)
	}
	fmt.Fprintf(t.out, "# %s of %s, for --ima-reference\n[[ima_files]]\nreference = %q\n", count(v.Digests, "digest"), count(files, "file"), v.Reference)
	return nil
}
