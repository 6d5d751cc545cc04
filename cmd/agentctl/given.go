package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

// valueFlags are the flags with a value of the commands that hold evidence against
// something.
var valueFlags = []string{
	"policy", "nonce", "audience", "public-key", "user-data", "collateral", "certificate", "crl", "at", "known-log", "save-log",
	"snp-report", "report-data", "azure-hcl", "quote", "signature", "pcrs", "firmware-log", "from", "out",
	"trust-test-root-that-vouches-for-no-hardware",
}

// refuseEmptyFlags refuses a flag that was given without a value. In a script that is a
// variable that was never set, and taking it for a flag that was not given would drop
// the very check that it asks for.
func refuseEmptyFlags(c *cobra.Command) error {
	for _, name := range valueFlags {
		f := c.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		given := []string{f.Value.String()}
		if list, ok := f.Value.(interface{ GetSlice() []string }); ok { // may be repeated
			given = list.GetSlice()
		}
		if slices.Contains(given, "") {
			return misuse(fmt.Errorf("--%s is given and empty: leave it out, or say what it is to be", name)).
				withHint("an empty value is most often a shell variable that is not set; " + helpHint(c))
		}
	}
	return nil
}
