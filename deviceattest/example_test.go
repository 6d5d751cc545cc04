// SPDX-License-Identifier: Apache-2.0

package deviceattest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/deviceattest"
)

// configuration returns that of a TLS server whose key is in the TPM.
func configuration(ctx context.Context) (*tls.Config, error) {
	c := deviceattest.Client{
		Authority: deviceattest.Server{URL: "https://verifier.example:8443"},
		Directory: deviceattest.Server{URL: "https://ca.example/acme/agentd/directory"},
		Label:     "tls",
	}
	certificate, err := c.Obtain(ctx)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{*certificate}}, nil
}

// keep has a certificate renewed in time, until the context ends. Evidence that is refused ends it.
func keep(ctx context.Context, c *deviceattest.Client, use func(*tls.Certificate)) error {
	for {
		certificate, err := c.Obtain(ctx)
		if reason, is := errors.AsType[deviceattest.UncertifiedError](err); is {
			return fmt.Errorf("ask the administrator of the attestation authority: %w", reason)
		}
		if err != nil {
			return err
		}
		use(certificate)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(deviceattest.RenewAt(certificate.Leaf))):
		}
	}
}

// A certificate is renewed after two thirds of its time.
func ExampleRenewAt() {
	from := time.Date(2031, 1, 1, 12, 0, 0, 0, time.UTC)
	fmt.Println(deviceattest.RenewAt(&x509.Certificate{NotBefore: from, NotAfter: from.Add(3 * time.Hour)}))
	err := keep(context.Background(), &deviceattest.Client{Agent: &client.Client{Socket: "/nonexistent"}, Label: "tls"}, func(*tls.Certificate) {})
	fmt.Println(err != nil)
	// Output:
	// 2031-01-01 14:00:00 +0000 UTC
	// true
}

// This machine has no agent, and so no key.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := configuration(ctx)
	fmt.Println(err != nil)
	c := deviceattest.Client{Agent: &client.Client{Socket: "/nonexistent"}, Label: "tls"}
	_, err = c.Obtain(context.Background())
	fmt.Println(err != nil)
	// Output:
	// true
	// true
}
