// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"crypto/sha256"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// One quote as the daemon makes it: through the owner of the device, authorized by a
// session of its own.
func BenchmarkQuote(b *testing.B) {
	d := swtpm.Start(b).Device(tpm.Options{})
	sel, err := pcr.ParseSelection("sha256:0-15")
	if err != nil {
		b.Fatal(err)
	}
	err = d.Do(b.Context(), func(t transport.TPM) error {
		ak, err := tpmkeys.Provision(t, nil, tpmkeys.Auths{})
		if err != nil {
			return err
		}
		for b.Loop() {
			if _, _, err := ak.Quote(t, make([]byte, 32), sel); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// A signature with a key of an application: from its saved context, and when the key is made first.
func BenchmarkAppKeySign(b *testing.B) {
	s := swtpm.Start(b)
	digest := sha256.Sum256(nil)
	for name, keys := range map[string]func(*tpmkeys.AppKeys) *tpmkeys.AppKeys{
		"saved": func(a *tpmkeys.AppKeys) *tpmkeys.AppKeys { return a },
		"made":  func(*tpmkeys.AppKeys) *tpmkeys.AppKeys { return new(tpmkeys.AppKeys) },
	} {
		b.Run(name, func(b *testing.B) {
			var a tpmkeys.AppKeys
			for b.Loop() {
				if err := keys(&a).Use(s, material(1), none, func(k *tpmkeys.AppKey) error {
					_, err := k.Sign(s, digest[:])
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
