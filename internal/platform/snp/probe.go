// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/labelled"
	"github.com/cvm-agentd/agentd/internal/platform"
)

var _ platform.KeyProber = (*Device)(nil)

// labelProbe separates fingerprints of keys from every other hash.
const labelProbe = "agentd/probe/1"

// Fingerprint follows [platform.KeyProber]. It waits in the queue of all requests.
func (d *Device) Fingerprint(ctx context.Context, p platform.KeyProbe) (f [32]byte, err error) {
	vmpl := d.options.VMPL + p.Above
	if vmpl > 3 {
		return f, fmt.Errorf("probe a derived key at VMPL %d, want at most 3: %w", vmpl, platform.ErrVMPL)
	}
	m := &Message{Command: GetDerivedKey, Request: probeRequest(vmpl, p), Response: make([]byte, keyResponseSize)}
	if err := d.exchange(ctx, m); err != nil {
		return f, fmt.Errorf("probe a derived key: %w", err)
	}
	defer clear(m.Response)
	k, err := keyAnswer(m.Response)
	if err != nil {
		return f, fmt.Errorf("probe a derived key: %w", err)
	}
	b := k.Secret()
	defer clear(b)
	material := labelled.Preimage(labelProbe, p.Salt[:], b)
	defer clear(material)
	return sha256.Sum256(material), nil
}
