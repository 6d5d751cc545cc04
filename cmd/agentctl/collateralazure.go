// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/collateral"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Files in the folder of "collateral fetch --azure". The agent reads the first alone: of the other
// the suffix is not one of a certificate's.
const (
	azureFile = "azure.pem"
	azureDue  = "azure.reload" // is there until the agent has read the first
)

// maxAzureFile is more than the certificates of a processor have, in bytes.
const maxAzureFile = 256 << 10

// fetchAzure fetches the certificates of this machine from the metadata service of Azure. If they
// are the ones at hand, it changes nothing. A kill at any point loses no reload: what is due is
// written before the certificates, and removed after the agent has read them.
func (t *terminal) fetchAzure(c *cobra.Command, s *sockets, f *fetchFlags, reports []*snp.Report) error {
	client := &collateral.Client{Timeout: f.timeout}
	if c.Flags().Changed("kds") {
		client.Base = f.kds
	}
	b, err := client.Azure(c.Context(), reports...)
	if err != nil {
		return azureError(err)
	}
	name, due := filepath.Join(f.dir, azureFile), filepath.Join(f.dir, azureDue)
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	old, absent := durable.ReadRegular(name, maxAzureFile)
	done := collateral.Fetched{File: name, Kept: absent == nil && bytes.Equal(old, b)}
	if !done.Kept && f.reload {
		if err := durable.WriteReadable(due, nil); err != nil {
			return err
		}
	}
	if !done.Kept {
		if err := durable.WriteReadable(name, b); err != nil {
			return err
		}
	}
	if t.json {
		err = t.writeJSON(fetched{[]collateral.Fetched{done}})
	} else {
		fmt.Fprintf(t.out, "%s  %s\n", done.Word(), clean(name))
	}
	if err != nil || !f.reload {
		return err
	}
	if _, err := os.Lstat(due); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := t.reloadAgent(c.Context(), s); err != nil {
		return err
	}
	return os.Remove(due)
}

// reloadAgent has the agent read its certificates again. One that is stopped is not started: it
// reads them when it starts.
func (t *terminal) reloadAgent(ctx context.Context, s *sockets) error {
	if !s.running() {
		fmt.Fprintln(t.err, "agentctl: the agent does not run, and reads the certificates when it starts")
		return nil
	}
	r, err := s.adminSocket().Reload(ctx)
	if err != nil {
		x := failed(err)
		x.err = fmt.Errorf("the certificates are there, and the agent has not read them: %w", x.err)
		return x
	}
	for _, e := range r.Errors {
		fmt.Fprintf(t.err, "agentctl: %s\n", cleanLine(e.Reason))
	}
	return nil
}

// azureError says what to do if the metadata service does not give what was asked for.
func azureError(err error) error {
	x := &exitError{code: int(verify.ClassCollateral), err: err}
	status, answered := errors.AsType[*collateral.StatusError](err)
	page, _ := errors.AsType[*collateral.PageError](err)
	switch hint := throttled(err); {
	case hint != "":
		return x.withHint(hint)
	case answered && status.Status >= 500:
		return x.withHint("run the command again in a minute: the service answers, and has none now")
	case page != nil && page.Other:
		return x.withHint("the machine may have moved to another processor: ask the agent for new evidence, and run the command again with that")
	}
	return x.withHint("only a confidential machine of Azure reaches that service, and no proxy is asked; verifiers can also fetch from AMD (`agentctl collateral fetch --dir DIR EVIDENCE`)")
}
