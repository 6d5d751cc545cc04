// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Flags that name what is read. Of the first "-" is standard input, of the second "@-" is.
var (
	readFlags = []string{
		"acme-roots", "ak", "associated-data", "author-key", "authority-roots", "azure-hcl", "block", "auth", "certificate", "crl", "ek-certificate", "ek-roots",
		"enrolments", "evidence-certificate", "firmware-log", "from", "id-key", "identity", "ima-list", "ima-reference", "kept", "key",
		"key-file", "known-log", "pcrs", "policy", "policy-keys", "prove-key", "public-key", "quote", "release", "release-key", "roots", "sender",
		"sender-key", "signature", "snp-report", "ticket", "token-key", "trust-test-root-that-vouches-for-no-hardware",
	}
	valueFlags = []string{"challenge", "data", "digest", "family-id", "image-id", "measurement", "nonce", "report-data", "user-data"}
)

// unreadFlags have a name of readFlags, but their commands write the file, or it is a folder or a key's
// name.
var unreadFlags = []string{
	"agentctl attest --certificate", "agentctl key sign-release --release", "agentctl key sign-release --signature",
	"agentctl policy id-block create --block", "agentctl policy id-block create --auth",
	"agentctl enroll add --enrolments", "agentctl enroll approve --enrolments",
	"agentctl certificate --key", "agentctl key certify --key", "agentctl key public --key", "agentctl sign --key", "agentctl ssh-agent --key",
}

// implied is an annotation of a command that reads standard input if it has no second argument. It says
// what that is.
const implied = "implied"

// refuseShared refuses a command of which two parts would read standard input, before any is read: one
// of them could be a secret, and an error of the other would quote it.
func refuseShared(c *cobra.Command, args []string) error {
	if c.Name() == cobra.ShellCompRequestCmd || c.Name() == cobra.ShellCompNoDescRequestCmd {
		return nil // the words of another command
	}
	from := fromInput(c, args)
	if len(from) < 2 {
		return nil
	}
	return misuse(fmt.Errorf("%s would each be read from standard input, which can be read only once", strings.Join(from, " and "))).
		withHint("put all but one of them in a file. " + helpHint(c))
}

// fromInput names the parts of a command that are to be read from standard input.
func fromInput(c *cobra.Command, args []string) (from []string) {
	c.Flags().Visit(func(f *pflag.Flag) {
		sign := "-"
		switch {
		case slices.Contains(valueFlags, f.Name):
			sign = "@-"
		case !slices.Contains(readFlags, f.Name), slices.Contains(unreadFlags, c.CommandPath()+" --"+f.Name):
			return
		}
		given := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			given = list.GetSlice()
		}
		for _, value := range given {
			if value == sign {
				from = append(from, "--"+f.Name+" "+sign)
			}
		}
	})
	for i, a := range args {
		if a == "-" {
			from = append(from, fmt.Sprintf("argument %d", i+1))
		}
	}
	if what := c.Annotations[implied]; what != "" && len(args) < 2 {
		from = append(from, what)
	}
	return from
}
