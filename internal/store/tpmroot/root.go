// SPDX-License-Identifier: Apache-2.0

// Package tpmroot is the TPM's part of sealing: a secret that only this TPM gives
// back, and a counter that only goes up.
//
// The secret is a sealed data object (TPM2_Create, TPM 2.0 Part 3, section 12.1)
// under the storage root key, with an authorization value of its own, so that other
// programs that may use the TPM cannot unseal it. It travels encrypted to the storage
// root key by its recorded name. An attacker between this program and the TPM sees nothing,
// and that name shows whether the owner seed was replaced (TPM2_Clear).
//
// The counter is an NV index of type counter in the owner's range, with an
// authorization value of its own. A TPM never lets a counter start below the highest
// value that any counter in it ever had, so that defining it again turns nothing back.
// The party that runs the TPM can turn everything back.
package tpmroot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/sealing"
)

// A Device runs sequences of TPM commands, one sequence at a time, until ctx ends.
type Device interface {
	Do(ctx context.Context, f func(transport.TPM) error) error
}

// TPM implements store.TPM over a device.
type TPM struct {
	Device Device
	Auths  tpmkeys.Auths // of the hierarchies; empty on a TPM without an owner
}

var _ store.TPM = (*TPM)(nil)

const (
	secretType  = "agentd/tpm-secret/1"
	counterType = "agentd/tpm-counter/1"
)

// secretRecord is the sealed object as it is kept in a file. Together with the TPM it
// gives the secret; without it, nothing.
type secretRecord struct {
	Type    string         `json:"type"`        // secretType
	Parent  keys.Name      `json:"parent"`      // storage root key
	EK      keys.Name      `json:"ek,omitzero"` // P-256 endorsement key, to tell a cleared TPM from another one
	Public  evidence.Bytes `json:"public"`      // TPMT_PUBLIC of the sealed object
	Private evidence.Bytes `json:"private"`     // contents of the TPM2B_PRIVATE
	Auth    evidence.Bytes `json:"auth"`        // authorization value
}

// template of a sealed data object (TPM 2.0 Part 1, section 27.2.5). noDA, because its
// authorization value is 32 random bytes that no attacker guesses, while without it any
// program could lock it by failing on purpose.
var template = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgKeyedHash,
	NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM:     true,
		FixedParent:  true,
		UserWithAuth: true,
		NoDA:         true,
	},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
		Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
	}),
}

// do runs f on the device. What only a person changes about the TPM comes back as a refusal,
// so that nothing tries again for ever: see [tpm.ErrRefuses].
func (t *TPM) do(ctx context.Context, f func(transport.TPM) error) error {
	err := t.Device.Do(ctx, f)
	if sealing.CodeOf(err) == "" && (errors.Is(err, tpm.ErrRefuses) || errors.Is(err, tpmkeys.ErrParent)) {
		return &sealing.Error{Code: api.CodeTPMRefuses, Detail: "use the TPM for sealing", Err: err}
	}
	return err
}

// Seal makes a new random secret of 32 bytes and seals it. Id is the object's name.
func (t *TPM) Seal(ctx context.Context) (record, id []byte, s *secret.Secret, err error) {
	s, err = secret.Random(sealing.KeySize)
	if err != nil {
		return nil, nil, nil, err
	}
	r := secretRecord{Type: secretType}
	if r.Auth, err = tpmkeys.NewAuth(rand.Reader); err == nil {
		err = t.do(ctx, func(c transport.TPM) error {
			r.EK = t.ekName(c)
			return tpmkeys.WithSRK(c, nil, t.Auths, func(p *tpmkeys.Primary) error { return r.create(c, p, s) })
		})
	}
	if err == nil {
		id, err = r.name()
	}
	if err == nil {
		record, err = strictjson.Encode(r)
	}
	if err != nil {
		s.Wipe()
		return nil, nil, nil, fmt.Errorf("seal a secret in the TPM: %w", err)
	}
	return record, id, s, nil
}

// create runs TPM2_Create. Secret and authorization value travel encrypted.
func (r *secretRecord) create(t transport.TPM, p *tpmkeys.Primary, s *secret.Secret) error {
	return s.Use(func(b []byte) error {
		rsp, err := tpm2.Create{
			ParentHandle: p.Auth(p.Session(tpm2.AESEncryption(128, tpm2.EncryptIn))),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				UserAuth: tpm2.TPM2BAuth{Buffer: r.Auth},
				Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: b}),
			}},
			InPublic: tpm2.New2B(template),
		}.Execute(t)
		if err != nil {
			return err
		}
		r.Parent = p.Public.Name()
		r.Public, r.Private = rsp.OutPublic.Bytes(), rsp.OutPrivate.Buffer
		return nil
	})
}

// name returns the name of the sealed object, computed from its public area.
func (r *secretRecord) name() (keys.Name, error) {
	p, err := keys.ParsePublic(r.Public)
	if err != nil {
		return nil, err
	}
	a := p.Area()
	if want := template.ObjectAttributes; a.Type != tpm2.TPMAlgKeyedHash || a.ObjectAttributes != want {
		return nil, errors.New("this program does not seal such objects")
	}
	return p.Name(), nil
}

// ekName returns the name of the P-256 endorsement key, empty if it cannot be read. The
// endorsement seed outlives TPM2_Clear.
func (t *TPM) ekName(c transport.TPM) keys.Name {
	ek, err := tpmkeys.ReadEK(c, keys.EKECC256, t.Auths)
	if err != nil {
		return nil // only an explanation depends on it
	}
	return ek.Public.Name()
}

func parseSecret(b []byte) (*secretRecord, error) {
	r := &secretRecord{}
	err := strictjson.Decode(b, sealing.MaxRecord, r)
	if err == nil && r.Type != secretType {
		err = fmt.Errorf("type %q, want %q", r.Type, secretType)
	}
	if err == nil && len(r.Parent) == 0 {
		err = errors.New("no parent")
	}
	if err == nil {
		err = tpmkeys.CheckAuth(r.Auth)
	}
	if err == nil {
		_, err = r.name()
	}
	if err != nil {
		return nil, &sealing.Error{Code: api.CodeTPMSecretDamaged, Detail: "read the record of the TPM's secret", Err: err}
	}
	return r, nil
}

// Name returns the name of the sealed object of a record, computed from its public area.
func (t *TPM) Name(record []byte) ([]byte, error) {
	r, err := parseSecret(record)
	if err != nil {
		return nil, err
	}
	return r.name()
}

// Unseal gives the secret of a record back.
func (t *TPM) Unseal(ctx context.Context, record []byte) (*secret.Secret, error) {
	r, err := parseSecret(record)
	if err != nil {
		return nil, err
	}
	var out *secret.Secret
	err = t.do(ctx, func(c transport.TPM) error {
		err := tpmkeys.WithSRK(c, r.Parent, t.Auths, func(p *tpmkeys.Primary) (err error) {
			out, err = r.unseal(c, p)
			return err
		})
		if errors.Is(err, tpmkeys.ErrOtherTPM) {
			return t.explain(c, r)
		}
		return err
	})
	if err != nil {
		out.Wipe()
		return nil, err
	}
	return out, nil
}

// explain says why the storage root key differs.
func (t *TPM) explain(c transport.TPM, r *secretRecord) error {
	now := t.ekName(c)
	switch {
	case len(now) == 0 || len(r.EK) == 0:
		return &sealing.Error{Code: api.CodeOtherTPM, Detail: "the secret was sealed in another TPM, or this one was cleared; the endorsement key that would tell which cannot be read"}
	case now.Equal(r.EK):
		return &sealing.Error{Code: api.CodeTPMCleared, Detail: "the file says that the secret was sealed in this TPM before the TPM was cleared (TPM2_Clear); if so, the secret is gone with the owner seed"}
	}
	return &sealing.Error{Code: api.CodeOtherTPM, Detail: fmt.Sprintf(
		"the file says that the secret was sealed in the TPM with endorsement key %s, this is the one with %s; bring the former back", r.EK, now)}
}

func (r *secretRecord) unseal(t transport.TPM, p *tpmkeys.Primary) (*secret.Secret, error) {
	loaded, err := tpm2.Load{
		ParentHandle: p.Auth(tpm2.PasswordAuth(nil)),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: r.Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](r.Public),
	}.Execute(t)
	if errors.Is(err, tpm2.TPMRCIntegrity) {
		return nil, &sealing.Error{Code: api.CodeTPMSecretDamaged, Detail: "the TPM does not accept its own sealed object: the record was changed", Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("load the TPM's sealed object: %w", err)
	}
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	// The session's HMAC covers the name: another object answers with an error.
	once := &scrubbed{TPM: t}
	defer once.clear()
	rsp, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
		Handle: loaded.ObjectHandle,
		Name:   tpm2.TPM2BName{Buffer: name},
		Auth:   p.Session(tpm2.Auth(r.Auth), tpm2.AESEncryption(128, tpm2.EncryptOut)),
	}}.Execute(once)
	_, flushed := tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(t)
	if tpmkeys.Refused(err) {
		return nil, &sealing.Error{Code: api.CodeTPMSecretDamaged, Detail: fmt.Sprintf("the TPM's sealed object does not accept the authorization in its record: %v", err)}
	}
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", errors.Join(err, flushed))
	}
	s, err := secret.Take(rsp.OutData.Buffer)
	if err = errors.Join(err, flushed); err != nil {
		s.Wipe()
		return nil, err
	}
	return s, nil
}

// scrubbed remembers the answers of a TPM so that they can be overwritten. go-tpm
// decrypts an encrypted parameter in place, in the answer, copies it from there, and keeps
// no reference to the answer.
type scrubbed struct {
	transport.TPM
	answers [][]byte
}

// Send sends a command and remembers its answer.
func (s *scrubbed) Send(command []byte) ([]byte, error) {
	b, err := s.TPM.Send(command)
	s.answers = append(s.answers, b)
	return b, err
}

// clear overwrites every answer. No part of one may be in use after that.
func (s *scrubbed) clear() {
	for _, b := range s.answers {
		clear(b)
	}
	s.answers = nil
}
