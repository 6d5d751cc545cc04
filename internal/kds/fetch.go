// SPDX-License-Identifier: Apache-2.0

package kds

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// ErrProduct is returned for a report that does not name its product.
var ErrProduct = errors.New("the report is of a version that does not name its product")

// Fetched is what [Cache.Fetch] did about one file.
type Fetched struct {
	File string `json:"file"` // path of the file
	Kept bool   `json:"kept"` // whether the cache had the file already
}

// Word returns what was done, as one word.
func (f Fetched) Word() string {
	if f.Kept {
		return "present"
	}
	return "fetched"
}

// Fetch fetches what the cache lacks for r, one request after the other. That includes a new
// revocation list if the one in the cache does not cover now. It ends at the first failure. The files
// before it are kept, so the next call continues there. Product is for reports that do not
// name theirs, [snp.ProductUnknown] otherwise.
func (c *Cache) Fetch(ctx context.Context, from *Client, r *snp.Report, product snp.Product, now time.Time) ([]Fetched, error) {
	if p := r.Product(); p != snp.ProductUnknown {
		product = p
	}
	if product == snp.ProductUnknown {
		return nil, ErrProduct
	}
	signer := r.KeyInfo.Signer()
	if _, err := kind(signer); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	var done []Fetched
	step := func(name string, have bool, get func() ([]byte, error)) error {
		if !have {
			b, err := get()
			if err != nil {
				return err
			}
			if err := durable.WriteReadable(name, b); err != nil {
				return err
			}
		}
		done = append(done, Fetched{File: name, Kept: have})
		return nil
	}
	if signer == snp.SignerVCEK { // only its cloud gets a VLEK
		name := c.vcek(product, r.ChipID[:], r.ReportedTCB)
		err := step(name, exists(name), func() ([]byte, error) { return from.VCEK(ctx, product, r.ChipID[:], r.ReportedTCB) })
		if err != nil {
			return done, err
		}
	}
	name := c.chain(product, signer)
	if err := step(name, exists(name), func() ([]byte, error) { return from.Chain(ctx, product, signer) }); err != nil {
		return done, err
	}
	name = c.crl(product, signer)
	err := step(name, current(name, now), func() ([]byte, error) { return from.RevocationList(ctx, product, signer) })
	return done, err
}

func exists(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// fresh is how long a revocation list is not fetched again. The root publishes a new list
// long before the old one ends.
const fresh = 24 * time.Hour

// current reports whether the list in a file is new enough and covers now.
func current(name string, now time.Time) bool {
	info, err := os.Stat(name)
	if err != nil || now.Sub(info.ModTime()) > fresh {
		return false
	}
	b, err := read(name, snp.MaxRevocationList)
	if err != nil || b == nil {
		return false
	}
	l, err := snp.ParseRevocationList(b)
	return err == nil && !now.Before(l.ThisUpdate()) && !now.After(l.NextUpdate())
}
