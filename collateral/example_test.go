// SPDX-License-Identifier: Apache-2.0

package collateral_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/collateral"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// refresh returns what a verifier needs for a document besides what is in it. If AMD does not
// answer, or answers 429, it returns what is at hand.
func refresh(ctx context.Context, f *collateral.Fetcher, document []byte, now time.Time) (*collateral.Collateral, error) {
	e, err := evidence.Parse(document)
	if err != nil {
		return nil, err
	}
	report, err := snp.ParseReport(e.Report.Bytes) // unverified: it says what to ask for
	if err != nil {
		return nil, err
	}
	_, err = f.Fetch(ctx, report, snp.ProductUnknown, now)
	if throttled, ok := errors.AsType[*collateral.ThrottledError](err); ok {
		fmt.Println("AMD wants a pause of", throttled.RetryAfter)
	} else if err != nil {
		fmt.Println(err)
	}
	return f.For(ctx, report)
}

// A service keeps one Fetcher, and hands what it finds to each appraisal.
func Example() {
	store, err := collateral.NewMemory(1000)
	if err != nil {
		fmt.Println(err)
		return
	}
	fetcher := collateral.New(store, collateral.Client{Timeout: 10 * time.Second})
	accept := func(ctx context.Context, verifier *verify.Verifier, document, nonce []byte) (*verify.Claims, error) {
		found, err := refresh(ctx, fetcher, document, time.Now())
		if err != nil {
			return nil, err
		}
		return verifier.Verify(document, verify.Expect{Nonce: nonce, Certificates: found.Certificates}, time.Now())
	}
	_, err = accept(context.Background(), nil, []byte("{}"), nil)
	fmt.Println(err != nil)
	// Output: true
}
