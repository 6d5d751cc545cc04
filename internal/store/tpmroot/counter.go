// SPDX-License-Identifier: Apache-2.0

package tpmroot

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/sealing"
)

// NV indices that the owner gives away (TCG Registry of Reserved TPM 2.0 Handles,
// section 2.2.2): 0x01800000 to 0x01bfffff.
const (
	firstIndex = 0x01800000
	indices    = 0x00400000
	indexTries = 16
)

// counterRecord is a counter as the store keeps it, sealed once it is in use.
type counterRecord struct {
	Type  string         `json:"type"`  // counterType
	Index uint32         `json:"index"` // NV index
	Auth  evidence.Bytes `json:"auth"`  // authorization value
}

// attributes of the index: counter, read and incremented with its own authorization
// alone. noDA for the same reason as the sealed object.
var attributes = tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true, NT: tpm2.TPMNTCounter}

// PlanCounter draws a free index and an authorization value.
func (t *TPM) PlanCounter(ctx context.Context) ([]byte, error) {
	r := counterRecord{Type: counterType}
	var err error
	if r.Auth, err = tpmkeys.NewAuth(rand.Reader); err != nil {
		return nil, err
	}
	err = t.do(ctx, func(c transport.TPM) error {
		for range indexTries {
			var b [4]byte
			rand.Read(b[:]) // never fails
			r.Index = firstIndex + binary.BigEndian.Uint32(b[:])%indices
			_, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(r.Index)}.Execute(c)
			if tpmkeys.Absent(err) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return fmt.Errorf("%d random NV indices are all taken", indexTries)
	})
	if err != nil {
		return nil, fmt.Errorf("find room for a counter in the TPM: %w", err)
	}
	return strictjson.Encode(r)
}

func parseCounter(b []byte) (*counterRecord, error) {
	r := &counterRecord{}
	err := strictjson.Decode(b, sealing.MaxRecord, r)
	if err == nil && (r.Type != counterType || r.Index < firstIndex || r.Index >= firstIndex+indices) {
		err = fmt.Errorf("type %q and index 0x%08x, want %q and the owner's range", r.Type, r.Index, counterType)
	}
	if err == nil {
		err = tpmkeys.CheckAuth(r.Auth)
	}
	if err != nil {
		return nil, lost("read the record of the counter", err)
	}
	return r, nil
}

func lost(detail string, err error) error {
	return &sealing.Error{Code: api.CodeCounterLost, Detail: detail, Err: err}
}

// DefineCounter defines the index if it is absent, and increments it once if that was
// never done: a counter has no value before.
func (t *TPM) DefineCounter(ctx context.Context, record []byte) (value uint64, err error) {
	r, err := parseCounter(record)
	if err != nil {
		return 0, err
	}
	err = t.do(ctx, func(c transport.TPM) error {
		public, err := r.find(c)
		if errors.Is(err, api.CodeCounterLost) && tpmkeys.Absent(err) {
			if err = t.define(c, r); err == nil {
				public, err = r.find(c)
			}
		}
		if err != nil {
			return err
		}
		if public.area.Attributes.Written {
			value, err = r.read(c, public)
		} else {
			value, err = r.increment(c, public)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("define a counter in the TPM: %w", err)
	}
	return value, nil
}

// define runs TPM2_NV_DefineSpace. The authorization value travels encrypted to the
// storage root key.
func (t *TPM) define(c transport.TPM, r *counterRecord) error {
	return tpmkeys.WithSRK(c, nil, t.Auths, func(p *tpmkeys.Primary) error {
		_, err := tpm2.NVDefineSpace{
			AuthHandle: t.Auths.Owned(),
			Auth:       tpm2.TPM2BAuth{Buffer: r.Auth},
			PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex:    tpm2.TPMHandle(r.Index),
				NameAlg:    tpm2.TPMAlgSHA256,
				Attributes: attributes,
				DataSize:   8,
			}),
		}.Execute(c, p.Session(tpm2.AESEncryption(128, tpm2.EncryptIn)))
		return t.Auths.OwnerError(err)
	})
}

// nvPublic is the index as the TPM shows it. Its name changes at the first write.
type nvPublic struct {
	area *tpm2.TPMSNVPublic
	name tpm2.TPM2BName
}

// find reads the public area and checks that this program made it.
func (r *counterRecord) find(t transport.TPM) (*nvPublic, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(r.Index)}.Execute(t)
	if tpmkeys.Absent(err) {
		return nil, lost(fmt.Sprintf("the TPM no longer has the counter at NV index 0x%08x: it was removed, or the TPM was cleared", r.Index), err)
	}
	if err != nil {
		return nil, err
	}
	area, err := rsp.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	name, err := tpm2.NVName(area)
	if err != nil {
		return nil, err
	}
	want := attributes
	want.Written = area.Attributes.Written
	if area.NVIndex != tpm2.TPMHandle(r.Index) || area.Attributes != want || area.DataSize != 8 || !bytes.Equal(name.Buffer, rsp.NVName.Buffer) {
		return nil, lost(fmt.Sprintf("NV index 0x%08x is not the counter: another program removed the counter and made an index of its own", r.Index), nil)
	}
	return &nvPublic{area: area, name: *name}, nil
}

// auth returns the index with its own authorization. The session's HMAC covers its name and the
// answer, so that an attacker between here and the TPM cannot invent a value.
func (r *counterRecord) auth(p *nvPublic) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(r.Index), Name: p.name,
		Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, tpmkeys.SessionNonce, tpm2.Auth(r.Auth))}
}

func (r *counterRecord) read(t transport.TPM, p *nvPublic) (uint64, error) {
	rsp, err := tpm2.NVRead{
		AuthHandle: r.auth(p),
		NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(r.Index), Name: p.name},
		Size:       8,
	}.Execute(t)
	switch {
	case tpmkeys.Refused(err):
		return 0, lost(fmt.Sprintf("the counter at NV index 0x%08x does not accept our authorization: another program removed our counter and made its own", r.Index), err)
	case errors.Is(err, tpm2.TPMRCNVUninitialized):
		return 0, lost(fmt.Sprintf("the counter at NV index 0x%08x was never counted: another program removed our counter and made its own", r.Index), err)
	case err != nil:
		return 0, fmt.Errorf("read the counter at NV index 0x%08x: %w", r.Index, err)
	case len(rsp.Data.Buffer) != 8:
		return 0, fmt.Errorf("read the counter at NV index 0x%08x: %d bytes, want 8", r.Index, len(rsp.Data.Buffer))
	}
	return binary.BigEndian.Uint64(rsp.Data.Buffer), nil
}

func (r *counterRecord) increment(t transport.TPM, p *nvPublic) (uint64, error) {
	_, err := tpm2.NVIncrement{
		AuthHandle: r.auth(p),
		NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(r.Index), Name: p.name},
	}.Execute(t)
	if tpmkeys.Refused(err) {
		return 0, lost(fmt.Sprintf("the counter at NV index 0x%08x does not accept our authorization: another program removed our counter and made its own", r.Index), err)
	}
	if err != nil {
		return 0, fmt.Errorf("increment the counter at NV index 0x%08x: %w", r.Index, err)
	}
	if p, err = r.find(t); err != nil { // the first write changes the name
		return 0, err
	}
	return r.read(t, p)
}

// use finds the counter of record and runs f.
func (t *TPM) use(ctx context.Context, record []byte, f func(transport.TPM, *counterRecord, *nvPublic) error) error {
	r, err := parseCounter(record)
	if err != nil {
		return err
	}
	return t.do(ctx, func(c transport.TPM) error {
		p, err := r.find(c)
		if err != nil {
			return err
		}
		return f(c, r, p)
	})
}

// ReadCounter returns the counter's value.
func (t *TPM) ReadCounter(ctx context.Context, record []byte) (value uint64, err error) {
	err = t.use(ctx, record, func(c transport.TPM, r *counterRecord, p *nvPublic) (err error) {
		value, err = r.read(c, p)
		return err
	})
	return value, err
}

// Increment adds one and returns the new value (TPM2_NV_Increment, Part 3, section 31.8).
func (t *TPM) Increment(ctx context.Context, record []byte) (value uint64, err error) {
	err = t.use(ctx, record, func(c transport.TPM, r *counterRecord, p *nvPublic) (err error) {
		value, err = r.increment(c, p)
		return err
	})
	return value, err
}

// RemoveCounter removes the index, after it has taken our authorization: what is not
// ours stays.
func (t *TPM) RemoveCounter(ctx context.Context, record []byte) error {
	return t.use(ctx, record, func(c transport.TPM, r *counterRecord, p *nvPublic) error {
		if p.area.Attributes.Written {
			if _, err := r.read(c, p); err != nil {
				return err
			}
		}
		_, err := tpm2.NVUndefineSpace{
			AuthHandle: t.Auths.Owned(),
			NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(r.Index), Name: p.name},
		}.Execute(c)
		if err != nil {
			return fmt.Errorf("remove the counter at NV index 0x%08x: %w", r.Index, t.Auths.OwnerError(err))
		}
		return nil
	})
}
