// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/collateral"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

const collateralUsage = `Usage: agentctl collateral COMMAND [flags]

Certificates and revocation lists of AMD's processors. A verifier needs them, and
never fetches them by itself.

  fetch    fetch them from AMD's key distribution service into a folder

Examples:
  agentctl collateral fetch --dir collateral evidence.json
`

const collateralFetchUsage = `Usage: agentctl collateral fetch --dir DIR [flags] EVIDENCE...
       agentctl collateral fetch --dir DIR --azure [--reload] [EVIDENCE...]

Fetch from AMD's key distribution service what a verifier needs: the certificate
of the chip's key, its issuers, and the revocation list of the root. DIR keeps
them for "agentctl verify --collateral DIR". Verification itself never uses the
network.

The command asks for each file once. If the service answers 429 (it allows about
one certificate in ten seconds), the command ends and says how long to wait. It
keeps what it has fetched.

With --azure, on a machine of Azure: fetch the certificates of its processor from
the metadata service of Azure into DIR/azure.pem. They must fit the evidence and
reports that are named, if any. With --dir /etc/agentd/certs the agent adds them to
evidence, after "systemctl reload agentd". agentd-azure.timer does both each day.

  --dir DIR              the cache folder, created if it is missing; required
  --azure                fetch the certificates of this machine from Azure
  --reload               with --azure: if they changed, have the running agent read its
                         certificates and declarations again
  --snp-report FILE      fetch for a bare report; may be repeated
  --azure-hcl FILE       fetch for a paravisor's report; may be repeated
  --product NAME         milan, genoa or turin, for reports before version 3, which
                         do not name it
  --timeout DURATION     for each request (default 20s)
  --kds URL              ask another service (default https://kdsintf.amd.com; with
                         --azure http://169.254.169.254)
  --json                 list the files as JSON

Exit codes: 0 everything is available, 1 misuse, 2 the report cannot be read,
3 a file could not be fetched, 6 the agent did not reload.

Examples:
  agentctl collateral fetch --dir collateral evidence.json
  agentctl verify --collateral collateral --policy policy.toml --nonce 5f2b... evidence.json
`

func collateralCommand(t *terminal, s *sockets) *cobra.Command {
	return group(t, "collateral", collateralUsage, collateralFetchCommand(t, s))
}

type fetchFlags struct {
	dir, product, kds string
	reports, hcls     []string
	timeout           time.Duration
	azure, reload     bool
}

func collateralFetchCommand(t *terminal, s *sockets) *cobra.Command {
	var f fetchFlags
	c := command("fetch", collateralFetchUsage, cobra.ArbitraryArgs, func(c *cobra.Command, args []string) error {
		switch {
		case f.dir == "":
			return misuse(errors.New("--dir is missing: name the folder to keep collateral in")).withHint(helpHint(c))
		case f.reload && !f.azure:
			return misuse(errors.New("--reload belongs to --azure")).withHint(helpHint(c))
		case !f.azure && len(args)+len(f.reports)+len(f.hcls) == 0:
			return misuse(errors.New("EVIDENCE is missing")).withHint(helpHint(c))
		case f.timeout <= 0:
			return misuse(fmt.Errorf("--timeout %v: want a duration such as 20s", f.timeout))
		}
		product, err := parseProduct(f.product)
		if err != nil {
			return err
		}
		reports, err := t.reportsOf(args, f.reports, f.hcls)
		if err != nil {
			return err
		}
		if u, err := url.Parse(f.kds); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			like := collateral.Base
			if f.azure {
				like = collateral.AzureBase
			}
			return misuse(fmt.Errorf("--kds %q: want an address such as %s", f.kds, like))
		}
		if f.azure {
			return t.fetchAzure(c, s, &f, reports)
		}
		return t.fetch(c, &f, reports, product)
	})
	flags := c.Flags()
	flags.StringVar(&f.dir, "dir", "", "")
	flags.BoolVar(&f.azure, "azure", false, "")
	flags.BoolVar(&f.reload, "reload", false, "")
	flags.StringVar(&f.product, "product", "", "")
	flags.StringVar(&f.kds, "kds", collateral.Base, "")
	flags.StringArrayVar(&f.reports, "snp-report", nil, "")
	flags.StringArrayVar(&f.hcls, "azure-hcl", nil, "")
	flags.DurationVar(&f.timeout, "timeout", collateral.DefaultTimeout, "")
	return c
}

func parseProduct(name string) (snp.Product, error) {
	if name == "" {
		return snp.ProductUnknown, nil
	}
	for _, p := range snp.Products() {
		if strings.EqualFold(p.String(), name) {
			return p, nil
		}
	}
	return 0, misuse(fmt.Errorf("--product %q: want milan, genoa or turin", name))
}

// reportsOf returns the unverified reports of evidence, of report files and of a
// paravisor's files.
func (t *terminal) reportsOf(documents, files, hcls []string) ([]*snp.Report, error) {
	var out []*snp.Report
	add := func(name string, b []byte) error {
		r, err := snp.ParseReport(b)
		if err != nil {
			return &exitError{code: exitBinding, err: fmt.Errorf("%s: %w", name, err)}
		}
		out = append(out, r)
		return nil
	}
	for _, name := range documents {
		e, err := t.readEvidence(name)
		if err != nil {
			return nil, err
		}
		if err := add(name, firmwareReport(e)); err != nil {
			return nil, err
		}
	}
	for _, name := range files {
		b, err := t.readReport(name)
		if table, no := snp.ParseTable(b[min(len(b), snp.ReportSize):]); no == nil && len(table) > 0 {
			b = b[:snp.ReportSize]
		}
		if err == nil {
			err = add(name, b)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, name := range hcls {
		b, err := t.readInput(name, maxHCL)
		if err == nil {
			err = add(name, b[min(len(b), hclReport):][:min(max(len(b)-hclReport, 0), snp.ReportSize)])
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// fetched is what collateral fetch prints as JSON.
type fetched struct {
	Files []collateral.Fetched `json:"files"` // in the cache, in order
}

func (t *terminal) fetch(c *cobra.Command, f *fetchFlags, reports []*snp.Report, product snp.Product) error {
	fetcher := collateral.New(collateral.Folder(f.dir), collateral.Client{Base: f.kds, Timeout: f.timeout})
	done := []collateral.Fetched{}
	for _, r := range reports {
		files, err := fetcher.Fetch(c.Context(), r, product, time.Now())
		for _, x := range files {
			x.File = filepath.Join(f.dir, x.File)
			if slices.ContainsFunc(done, func(y collateral.Fetched) bool { return y.File == x.File }) {
				continue
			}
			done = append(done, x)
			if !t.json {
				fmt.Fprintf(t.out, "%s  %s\n", x.Word(), clean(x.File))
			}
		}
		if err != nil {
			return fetchError(err, r)
		}
	}
	if t.json {
		return t.writeJSON(fetched{done})
	}
	return nil
}

func fetchError(err error, r *snp.Report) error {
	if errors.Is(err, collateral.ErrProduct) {
		return misuse(err).withHint("name it: --product milan, genoa or turin")
	}
	x := &exitError{code: int(verify.ClassCollateral), err: err}
	if hint := throttled(err); hint != "" {
		return x.withHint(hint + ": it fetches only what is missing")
	}
	if r.KeyInfo.Signer() == snp.SignerVLEK {
		return x.withHint("the cloud gives the certificate of a VLEK, in the evidence")
	}
	return x
}

// throttled returns what to do if a service was asked too often, empty if it was not.
func throttled(err error) string {
	x, ok := errors.AsType[*collateral.ThrottledError](err)
	switch {
	case ok && x.RetryAfter > 0:
		return fmt.Sprintf("wait %v, then run the command again", x.RetryAfter)
	case ok:
		return "wait ten seconds or more, then run the command again"
	}
	return ""
}

// readCollateral adds what a cache folder has for a report. For a report that cannot be
// read it adds nothing: the appraisal says what is wrong with it.
func readCollateral(dir string, report []byte, c *verify.Config) error {
	r, err := snp.ParseReport(report[:min(len(report), snp.ReportSize)])
	if err != nil {
		return nil
	}
	folder, err := collateral.OpenFolder(dir)
	var known *collateral.Collateral
	if err == nil {
		known, err = collateral.New(folder, collateral.Client{}).For(context.Background(), r)
	}
	if err != nil {
		return misuse(fmt.Errorf("--collateral: %w", err)).withHint("run `agentctl collateral fetch --dir " + dir + "` to fill it")
	}
	c.Certificates = append(c.Certificates, known.Certificates...)
	c.Revocation.SNP = append(c.Revocation.SNP, known.Revocation...)
	return nil
}

// reportInEvidence returns the unverified report of a document, or nothing.
func reportInEvidence(document []byte) []byte {
	e, err := evidence.Parse(document)
	if err != nil {
		return nil
	}
	return firmwareReport(e)
}
