// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// Collateral is what a store has for one report. Nothing of it is verified: it is for
// [verify.Expect.Certificates], and [verify.Config.Revocation].
type Collateral struct {
	Certificates [][]byte // DER
	Revocation   []*snp.RevocationList
}

// ErrProduct is returned for a report that does not name its product.
var ErrProduct = errors.New("the report is of a version that does not name its product")

// Fetched is what [Fetcher.Fetch] did about one file.
type Fetched struct {
	File string `json:"file"` // name in the store; path of the file in what agentctl prints
	Kept bool   `json:"kept"` // whether the store had the file already
}

// Word returns what was done, as one word.
func (f Fetched) Word() string {
	if f.Kept {
		return "present"
	}
	return "fetched"
}

// A Fetcher fetches what a store lacks. Many goroutines may use one: requests go out one after the
// other. After an answer 429 it sends none until the time that the answer names. It has no state
// apart from that and the store.
type Fetcher struct {
	client Client
	store  Store

	turn  chan struct{} // of the goroutine that asks the service
	until time.Time     // when the service may be asked again; of the goroutine that has the turn
	by    string        // address that it answered 429 to; likewise
}

// New returns a Fetcher. The zero Client asks AMD.
func New(store Store, client Client) *Fetcher {
	return &Fetcher{client: client, store: store, turn: make(chan struct{}, 1)}
}

func name(p snp.Product, s snp.Signer, rest string) string {
	return strings.ToLower(p.String()) + "-" + strings.ToLower(s.String()) + rest
}

func vcek(p snp.Product, chip []byte, t snp.TCB) string {
	return name(p, snp.SignerVCEK, fmt.Sprintf("-%s-%016x.der", hex.EncodeToString(chip[:hwidSize(p)]), uint64(t)))
}

func chain(p snp.Product, s snp.Signer) string { return name(p, s, "-chain.pem") }
func crl(p snp.Product, s snp.Signer) string   { return name(p, s, ".crl") }

// For reads what may belong to r, and asks no service. A file that does not exist is left out, one
// that cannot be read is an error. Reports before version 3 do not name their product, so For tries
// every product.
func (f *Fetcher) For(ctx context.Context, r *snp.Report) (*Collateral, error) {
	products := snp.Products()
	if p := r.Product(); p != snp.ProductUnknown {
		products = []snp.Product{p}
	}
	out := &Collateral{}
	signer := r.KeyInfo.Signer()
	for _, p := range products {
		names := []string{chain(p, signer)}
		if signer == snp.SignerVCEK {
			names = append(names, vcek(p, r.ChipID[:], r.ReportedTCB))
		}
		for _, name := range names {
			b, _, err := f.get(ctx, name)
			if err != nil || b == nil {
				if err != nil {
					return nil, err
				}
				continue
			}
			ders, err := snp.DecodeCertificates(b)
			if err != nil {
				return nil, fmt.Errorf("collateral %s: %w", name, err)
			}
			out.Certificates = append(out.Certificates, ders...)
		}
		b, _, err := f.get(ctx, crl(p, signer))
		if err != nil {
			return nil, err
		}
		if b != nil {
			l, err := snp.ParseRevocationList(b)
			if err != nil {
				return nil, fmt.Errorf("collateral %s: %w", crl(p, signer), err)
			}
			out.Revocation = append(out.Revocation, l)
		}
	}
	return out, nil
}

// get returns a file of the store, nil if it has none of this name.
func (f *Fetcher) get(ctx context.Context, name string) ([]byte, time.Time, error) {
	b, at, err := f.store.Get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("collateral %s: %w", name, err)
	}
	if len(b) > MaxFile {
		return nil, time.Time{}, fmt.Errorf("collateral %s: %d bytes, at most %d: remove it from the store", name, len(b), MaxFile)
	}
	return b, at, nil
}

// Fetch fetches what the store lacks for r, one request after the other. That includes a new
// revocation list if that of the store is older than a day or does not cover now. A file that
// cannot be read is replaced. It ends at the first failure. The files before it are kept, so the
// next call continues there. Product is for reports that do not name theirs, [snp.ProductUnknown]
// otherwise.
//
// The report is not verified, so its maker chooses what is asked for. A service calls Fetch only for
// machines that it expects, or for clients whose requests it counts: each call takes from the
// requests that AMD allows to this address.
func (f *Fetcher) Fetch(ctx context.Context, r *snp.Report, product snp.Product, now time.Time) ([]Fetched, error) {
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
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("fetch collateral: other requests to the service were before this one: %w", ctx.Err())
	}
	var done []Fetched
	if signer == snp.SignerVCEK { // only its cloud gets a VLEK
		err := f.step(ctx, now, &done, vcek(product, r.ChipID[:], r.ReportedTCB), readable, func() ([]byte, error) {
			return f.client.VCEK(ctx, product, r.ChipID[:], r.ReportedTCB)
		})
		if err != nil {
			return done, err
		}
	}
	err := f.step(ctx, now, &done, chain(product, signer), readable, func() ([]byte, error) { return f.client.Chain(ctx, product, signer) })
	if err != nil {
		return done, err
	}
	err = f.step(ctx, now, &done, crl(product, signer), current, func() ([]byte, error) { return f.client.RevocationList(ctx, product, signer) })
	return done, err
}

// step puts one file into the store if it is not good there, and adds it to done. The caller has the turn.
func (f *Fetcher) step(ctx context.Context, now time.Time, done *[]Fetched, name string, good func([]byte, time.Time, time.Time) bool, ask func() ([]byte, error)) error {
	b, at, err := f.get(ctx, name)
	if err != nil {
		return err
	}
	have := good(b, at, now)
	if !have {
		if wait := f.until.Sub(now); wait > 0 {
			return &ThrottledError{URL: f.by, RetryAfter: wait.Round(time.Second)}
		}
		b, err := ask()
		if x, ok := errors.AsType[*ThrottledError](err); ok {
			f.until, f.by = now.Add(max(x.RetryAfter, leastWait)), x.URL
		}
		if err != nil {
			return err
		}
		if err := f.store.Put(ctx, name, b); err != nil {
			return fmt.Errorf("collateral %s: %w", name, err)
		}
	}
	*done = append(*done, Fetched{File: name, Kept: have})
	return nil
}

// leastWait is how long nothing is asked after an answer 429: it allows one certificate in about
// this time.
const leastWait = 10 * time.Second

// readable reports whether a file contains certificates.
func readable(b []byte, _, _ time.Time) bool {
	ders, err := snp.DecodeCertificates(b)
	return err == nil && len(ders) > 0
}

// fresh is how long a revocation list is not fetched again. The root publishes a new list
// long before the old one ends.
const fresh = 24 * time.Hour

// current reports whether a list that was put into the store at this time is new enough and covers
// now.
func current(b []byte, at, now time.Time) bool {
	if b == nil || now.Sub(at) > fresh {
		return false
	}
	l, err := snp.ParseRevocationList(b)
	return err == nil && !now.Before(l.ThisUpdate()) && !now.After(l.NextUpdate())
}
