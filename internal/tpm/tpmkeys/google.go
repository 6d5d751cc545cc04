// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
)

// NV indices of Google Cloud's vTPMs: the certificate of an attestation key, and after it the
// template (a TPMT_PUBLIC) that the key is made from, in the endorsement hierarchy. Google's host
// writes all of them, and certifies the keys of confidential machines.
const (
	googleRSACertificate = tpm2.TPMHandle(0x01c10000)
	googleECCCertificate = tpm2.TPMHandle(0x01c10002)
)

// maxTemplate caps a template, in bytes.
const maxTemplate = 1 << 10

// ErrGoogle is returned if the TPM does not have what Google Cloud puts into its vTPMs, or if the
// parts do not fit together.
var ErrGoogle = errors.New("the TPM has no attestation key that Google Cloud certified")

// Google returns the attestation key that Google Cloud certified, which choice names
// ([AKGCPECC] or [AKGCPRSA]): it makes the key from its template, and checks that the certificate
// is of this key and names a machine. It does not verify the certificate: verifiers do. The key
// has no authorization value. It is the same at each boot, until the host gives the machine another
// vTPM.
func Google(t transport.TPM, choice AKChoice, auths Auths) (*AK, error) {
	index := googleECCCertificate
	if choice == AKGCPRSA {
		index = googleRSACertificate
	}
	fail := func(what string, index tpm2.TPMHandle, err error) (*AK, error) {
		return nil, fmt.Errorf("read the %s of Google's attestation key at NV index 0x%08x (tpm.ak = %q): %w", what, uint32(index), choice, err)
	}
	template, err := googleTemplate(t, index+1, choice, auths)
	if err != nil {
		return fail("template", index+1, err)
	}
	p, err := createPrimary(t, auths.endorsement(), *template)
	if err != nil {
		return nil, fmt.Errorf("make the attestation key of Google's template: %w", auths.endorsementError(err))
	}
	certificate, err := googleCertificate(t, index, p.Public, auths)
	if err != nil {
		_, err = fail("certificate", index, err)
		return nil, errors.Join(err, p.flush(t))
	}
	return &AK{public: p.Public, certificate: certificate, handle: p.Handle, loaded: true, find: func(t transport.TPM) (tpm2.TPMHandle, error) {
		again, err := createPrimary(t, auths.endorsement(), *template)
		if err != nil {
			return 0, auths.endorsementError(err)
		}
		if !again.Public.Name().Equal(p.Public.Name()) {
			return 0, errors.Join(ErrKeptOther, again.flush(t))
		}
		return again.Handle, nil
	}}, nil
}

// googleTemplate reads a template, which padding may follow. The host wrote it: a key that is not
// restricted, or that another program could move to another TPM, is refused.
func googleTemplate(t transport.TPM, index tpm2.TPMHandle, choice AKChoice, auths Auths) (*tpm2.TPMTPublic, error) {
	b, err := readNV(t, index, maxTemplate, auths)
	if errors.Is(err, ErrNoCertificate) {
		return nil, fmt.Errorf("%w: nothing is there", ErrGoogle)
	}
	if err != nil {
		return nil, err
	}
	return parseTemplate(b, choice)
}

// parseTemplate parses a template of the algorithm that choice names.
func parseTemplate(b []byte, choice AKChoice) (*tpm2.TPMTPublic, error) {
	template, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
	if err != nil {
		return nil, fmt.Errorf("%w: %d bytes are not a TPMT_PUBLIC: %w", ErrGoogle, len(b), err)
	}
	rest, ok := bytes.CutPrefix(b, tpm2.Marshal(template))
	if !ok {
		return nil, fmt.Errorf("%w: %d bytes are not a TPMT_PUBLIC in its one encoding", ErrGoogle, len(b))
	}
	if len(bytes.Trim(rest, "\x00")) > 0 && len(bytes.Trim(rest, "\xff")) > 0 {
		return nil, fmt.Errorf("%w: bytes follow a TPMT_PUBLIC of %d bytes", ErrGoogle, len(b)-len(rest))
	}
	want := map[AKChoice]tpm2.TPMAlgID{AKGCPECC: tpm2.TPMAlgECC, AKGCPRSA: tpm2.TPMAlgRSA}[choice]
	a := template.ObjectAttributes
	switch {
	case template.Type != want:
		return nil, fmt.Errorf("%w: the template is of algorithm 0x%04x, want 0x%04x", ErrGoogle, uint16(template.Type), uint16(want))
	case !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.Restricted || !a.SignEncrypt || a.Decrypt:
		return nil, fmt.Errorf("%w: the template is not that of a restricted signing key which stays in its TPM", ErrGoogle)
	case !a.UserWithAuth:
		return nil, fmt.Errorf("%w: the template asks for a policy, which this version does not satisfy", ErrGoogle)
	}
	return template, nil
}

// googleCertificate reads the certificate of ak, X.509 DER.
func googleCertificate(t transport.TPM, index tpm2.TPMHandle, ak *keys.Public, auths Auths) ([]byte, error) {
	if err := ak.CheckAttestation(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGoogle, err)
	}
	b, err := readNV(t, index, evidence.MaxCertificate, auths)
	if err != nil && !errors.Is(err, ErrNoCertificate) {
		return nil, err
	}
	der, err := keys.StoredCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGoogle, err)
	}
	if der == nil {
		return nil, fmt.Errorf("%w: no certificate is there. Google certifies the keys of confidential machines alone", ErrGoogle)
	}
	all := keys.GoogleAKCertificates([][]byte{der})
	if len(all) != 1 {
		return nil, fmt.Errorf("%w: %d bytes are not an X.509 certificate that names a machine", ErrGoogle, len(der))
	}
	public, err := signingKey(ak)
	if err == nil {
		_, named := all[0].Instance()
		err = errors.Join(all[0].CheckKey(public), all[0].CheckUsage(), named)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGoogle, err)
	}
	return bytes.Clone(der), nil
}

// signingKey returns the public half of ak.
func signingKey(ak *keys.Public) (crypto.PublicKey, error) {
	area := ak.Area()
	k, err := tpmwire.SigningKey(&area, ak.Bytes())
	if err != nil {
		return nil, err
	}
	if k.RSA != nil {
		return k.RSA, nil
	}
	return k.ECC, nil
}
