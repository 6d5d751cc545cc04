// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// away is an issuer that does not answer.
type away struct{}

// RoundTrip implements http.RoundTripper.
func (away) RoundTrip(*http.Request) (*http.Response, error) { return nil, errIssuer }

// TestIssuerIsAskedAgain: keys of an issuer do not count for ever, since it may have withdrawn them.
func TestIssuerIsAskedAgain(t *testing.T) {
	for _, c := range []struct {
		ago  time.Duration
		asks bool
	}{{issuerAge / 2, false}, {issuerAge, true}} {
		i := &issuer{client: &http.Client{Transport: away{}}, verifier: oidc.NewVerifier("https://issuer.example", nil, &oidc.Config{ClientID: "x"}), asked: time.Now().Add(-c.ago)}
		if _, err := i.name(t.Context(), "e30.e30.e30"); err == nil || errors.Is(err, errIssuer) != c.asks {
			t.Errorf("asked %v ago: %v, want that it is asked: %v", c.ago, err, c.asks)
		}
	}
}
