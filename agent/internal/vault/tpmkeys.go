// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/enrol"
	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/sealing"
)

// inTPM makes a key of c in the TPM and hands it to f, in the turn that ctx has there. It returns the
// public half, DER SubjectPublicKeyInfo, and the version of the root.
func (v *Vault) inTPM(ctx context.Context, s *store.Store, c store.Caller, of api.SigningKey, f func(transport.TPM, *tpmkeys.AppKey) error) (public []byte, version uint32, err error) {
	material, version, err := s.KeyMaterial(ctx, c, of)
	if err != nil {
		return nil, 0, err
	}
	defer material.Wipe()
	auths, err := enrol.ReadAuths(v.c.TPM)
	if err != nil {
		return nil, 0, err
	}
	device, up := v.c.Device.Now()
	if !up {
		return nil, 0, v.c.Supervisor.Missing()
	}
	err = material.Use(func(b []byte) error {
		return device.Do(ctx, func(t transport.TPM) error {
			return v.appKeys.Use(t, b, auths, func(k *tpmkeys.AppKey) error {
				if public, err = spki(k.Public()); err != nil {
					return err
				}
				return f(t, k)
			})
		})
	})
	return public, version, err
}

// spki returns the public half of a key as DER SubjectPublicKeyInfo.
func spki(p *keys.Public) ([]byte, error) {
	key, err := p.Key()
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(key)
}

// signInTPM signs with a key of c that is in the TPM.
func (v *Vault) signInTPM(ctx context.Context, s *store.Store, c store.Caller, r api.SignRequest) (out api.Signed, err error) {
	if err := sealing.CheckSigned(r.Algorithm, r.Message, r.Digest); err != nil {
		return out, err
	}
	digest := []byte(r.Digest)
	if len(digest) == 0 {
		sum := sha256.Sum256(r.Message)
		digest = sum[:]
	}
	of := api.SigningKey{Label: r.Label, Algorithm: r.Algorithm, Version: r.Version}
	out.PublicKey, out.Version, err = v.inTPM(ctx, s, c, of, func(t transport.TPM, k *tpmkeys.AppKey) (err error) {
		out.Signature, err = k.Sign(t, digest)
		return err
	})
	return out, err
}

// publicInTPM returns the public half of a key of c that is in the TPM.
func (v *Vault) publicInTPM(ctx context.Context, s *store.Store, c store.Caller, of api.SigningKey) (out api.PublicKey, err error) {
	out.PublicKey, out.Version, err = v.inTPM(ctx, s, c, of, func(transport.TPM, *tpmkeys.AppKey) error { return nil })
	return out, err
}

// mayCertify refuses an app that the configuration does not name, or that is not measured. To a
// relying party that knows only the attestation key, each certified key is the machine's: it does not
// learn which app asked. So root says which apps may have that.
func (v *Vault) mayCertify(c store.Caller) error {
	if !slices.Contains(v.c.Keys.CertifyApps, c.App.Name) {
		return problem.New(api.CodeCertifyNotPermitted, fmt.Sprintf("keys.certify_apps does not name the app %s", c.App.Name))
	}
	if c.Digest.IsZero() {
		return &sealing.Error{Code: api.CodeDigestNotAuthorised, Field: "digests",
			Detail: fmt.Sprintf("app %s is not measured, so that evidence does not say what it is: measure it", c.App.Name)}
	}
	return nil
}

// Certify has the attestation key certify a key of the app of o that is in the TPM.
func (v Secrets) Certify(ctx context.Context, o server.Owner, r api.CertifyRequest) (out api.Certified, err error) {
	if !sealing.InTPM(r.Algorithm) {
		return out, problem.Invalid("/algorithm", fmt.Sprintf("%q, want %q: the TPM certifies keys that it has", r.Algorithm, api.SignTPMP256))
	}
	if len(r.Data) < 1 || len(r.Data) > keys.MaxCertificationData {
		return out, problem.Invalid("/data", fmt.Sprintf("%d bytes, want 1 to %d", len(r.Data), keys.MaxCertificationData))
	}
	ctx, s, c, err := v.forApp(ctx, o)
	if err != nil {
		return out, err
	}
	if err := v.mayCertify(c); err != nil {
		return out, err
	}
	ak, up := v.c.AK()
	if !up {
		return out, v.c.Supervisor.Missing()
	}
	of := api.SigningKey{Label: r.Label, Algorithm: r.Algorithm, Version: r.Version}
	var certified *keys.Certification
	out.PublicKey, out.Version, err = v.inTPM(ctx, s, c, of, func(t transport.TPM, k *tpmkeys.AppKey) (err error) {
		certified, err = k.Certify(t, ak, r.Data)
		return err
	})
	v.learn(ctx, err)
	if err != nil {
		return api.Certified{}, err
	}
	out.Public, out.Attest, out.Signature = certified.Public, certified.Attest, certified.Signature
	out.AKPublic, out.AKCertificate = ak.Public(), ak.Certificate()
	return out, nil
}
