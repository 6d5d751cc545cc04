// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// between is a connection that an attacker reads and changes.
type between struct {
	transport.TPM
	command  func([]byte) []byte // may be nil
	response func(command, response []byte) []byte
	commands [][]byte
}

func (b *between) Send(command []byte) ([]byte, error) {
	command = bytes.Clone(command)
	b.commands = append(b.commands, command)
	if b.command != nil {
		command = b.command(command)
	}
	rsp, err := b.TPM.Send(command)
	if err == nil && b.response != nil {
		rsp = b.response(command, bytes.Clone(rsp))
	}
	return rsp, err
}

var data = sha256.Sum256([]byte("what is quoted"))

// withoutNonces returns the commands with zeros for what is random or made of that: nonces of 16
// bytes, handles of sessions, and HMACs.
func withoutNonces(t *testing.T, commands [][]byte) (out [][]byte) {
	t.Helper()
	for _, c := range commands {
		c = bytes.Clone(c)
		switch swtpm.CommandCode(c) {
		case tpm2.TPMCCStartAuthSession: // header, two handles, nonce
			zero(c[10+8+2:][:tpmkeys.SessionNonce])
		case tpm2.TPMCCQuote: // header, key, size of the area, session, nonce, attributes, HMAC
			zero(c[10+4+4:][:4])
			zero(c[10+4+4+4+2:][:tpmkeys.SessionNonce])
			zero(c[10+4+4+4+2+tpmkeys.SessionNonce+1+2:][:sha256.Size])
		default:
			t.Fatalf("command %v", swtpm.CommandCode(c))
		}
		out = append(out, c)
	}
	return out
}

// A quote takes the same commands as with go-tpm, but for nonces and HMACs, and no session is left.
func TestQuoteIsThatOfGoTPM(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	sel := selection(t, "sha1:10+sha256:0-15,23")
	ours := &between{TPM: s}
	attest, signature, err := ak.Quote(ours, data[:], sel)
	if err != nil {
		t.Fatal(err)
	}
	checkQuote(t, ak, attest, signature, data[:])
	noSessions(t, s)
	theirs := &between{TPM: s}
	_, err = tpm2.Quote{
		SignHandle: tpm2.AuthHandle{
			Handle: tpm2.TPMHandle(binary.BigEndian.Uint32(ours.commands[1][10:])),
			Name:   tpm2.TPM2BName{Buffer: ak.Name()},
			Auth:   tpm2.HMAC(tpm2.TPMAlgSHA256, tpmkeys.SessionNonce, tpm2.Auth(tpmkeys.BlobAuth(ak.Blob()))),
		},
		QualifyingData: tpm2.TPM2BData{Buffer: data[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      sel.TPM(),
	}.Execute(theirs)
	if err != nil {
		t.Fatal(err)
	}
	a, b := withoutNonces(t, ours.commands), withoutNonces(t, theirs.commands)
	if len(a) != 2 || len(b) != 2 || !bytes.Equal(a[0], b[0]) || !bytes.Equal(a[1], b[1]) {
		t.Errorf("commands\n%x, those of go-tpm\n%x", a, b)
	}
}

// noSessions fails the test if a session is left in the TPM.
func noSessions(t *testing.T, s transport.TPM) {
	t.Helper()
	if left := swtpm.Handles(t, s, tpm2.TPMHTHMACSession); len(left) != 0 {
		t.Errorf("sessions %x are left", left)
	}
}

// A response that was changed anywhere, or cut, gives no quote.
func TestChangedResponsesGiveNoQuote(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	sel := selection(t, "sha256:14")
	b := &between{TPM: s}
	try := func(what string, code tpm2.TPMCC, change func([]byte) []byte) {
		t.Helper()
		b.response = func(command, rsp []byte) []byte {
			if swtpm.CommandCode(command) == code {
				rsp = change(rsp)
			}
			return rsp
		}
		if _, _, err := ak.Quote(b, data[:], sel); err == nil {
			t.Errorf("%s of the response to %v: no error", what, code)
		}
		// No program may have learned the handle, or the key was loaded again since its handle seemed
		// to be that of another one.
		swtpm.Flush(t, s, tpm2.TPMHTHMACSession, tpm2.TPMHTTransient)
	}
	var size int
	b.response = func(_, rsp []byte) []byte { size = len(rsp); return rsp }
	if _, _, err := ak.Quote(b, data[:], sel); err != nil {
		t.Fatal(err)
	}
	for i := range size {
		try("a bit", tpm2.TPMCCQuote, func(rsp []byte) []byte { rsp[min(i, len(rsp)-1)] ^= 1; return rsp })
		try("the end", tpm2.TPMCCQuote, func(rsp []byte) []byte { return rsp[:min(i, len(rsp)-1)] })
	}
	resized := func(rsp []byte) []byte {
		binary.BigEndian.PutUint32(rsp[2:], uint32(len(rsp)))
		return rsp
	}
	try("more than the end", tpm2.TPMCCQuote, func(rsp []byte) []byte { return resized(append(rsp, 0)) })
	for i := range 10 + 4 + 2 + 16 {
		try("the end", tpm2.TPMCCStartAuthSession, func(rsp []byte) []byte { return rsp[:min(i, len(rsp)-1)] })
		try("the end, with its size", tpm2.TPMCCStartAuthSession, func(rsp []byte) []byte {
			if i < 6 {
				return rsp[:i]
			}
			return resized(rsp[:min(i, len(rsp)-1)])
		})
	}
	try("more than the end", tpm2.TPMCCStartAuthSession, func(rsp []byte) []byte { return resized(append(rsp, 0)) })
	b.response = nil
	if _, _, err := ak.Quote(b, data[:], sel); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A refused quote says so, and leaves no session. Parts of the command that the HMAC covers, and the
// HMAC itself, cannot be changed on the way.
func TestRefusedQuote(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	sel := selection(t, "sha256:14")
	nonce := 10 + 4 + 4 + 4 + 2 // after header, key, size of the area, session and size of the nonce
	for name, place := range map[string]int{
		"nonce": nonce, "attributes": nonce + 16, "HMAC": nonce + 16 + 1 + 2,
		"data": nonce + 16 + 1 + 2 + 32 + 2,
	} {
		b := &between{TPM: s, command: func(c []byte) []byte {
			if swtpm.CommandCode(c) == tpm2.TPMCCQuote {
				c[place] ^= 1
			}
			return c
		}}
		if _, _, err := ak.Quote(b, data[:], sel); !tpmkeys.Refused(err) {
			t.Errorf("%s: %v, want that the TPM refused the authorization", name, err)
		}
		noSessions(t, s)
		swtpm.Flush(t, s, tpm2.TPMHTTransient) // the key was loaded twice
	}
	lostSession(t, s, ak)
	gone := fmt.Errorf("the connection broke after %w", tpm2.TPMRCRetry) // a code that is not of this command
	b := &broken{TPM: s, err: gone}
	if _, _, err := ak.Quote(b, data[:], sel); !errors.Is(err, gone) || b.quotes != 1 || b.later != 0 {
		t.Errorf("without a connection: %v, %d quotes and %d commands after one", err, b.quotes, b.later)
	}
}

// broken is a connection that breaks at a quote.
type broken struct {
	transport.TPM
	err           error
	quotes, later int
}

func (b *broken) Send(command []byte) ([]byte, error) {
	switch {
	case swtpm.CommandCode(command) == tpm2.TPMCCQuote:
		b.quotes++
		return nil, b.err
	case b.quotes > 0:
		b.later++
		return nil, b.err
	}
	return b.TPM.Send(command)
}

// lostSession has another program end the session between the two commands. The TPM says so of the quote
// and of the session, and not of the key, which is not loaded again.
func lostSession(t *testing.T, s transport.TPM, ak *tpmkeys.AK) {
	t.Helper()
	if _, _, err := ak.Quote(s, data[:], selection(t, "sha256:14")); err != nil { // the key is loaded
		t.Fatal(err)
	}
	before := swtpm.Handles(t, s, tpm2.TPMHTTransient)
	b := &between{TPM: s, command: func(c []byte) []byte {
		if swtpm.CommandCode(c) == tpm2.TPMCCQuote {
			swtpm.Flush(t, s, tpm2.TPMHTHMACSession)
		}
		return c
	}}
	_, _, err := ak.Quote(b, data[:], selection(t, "sha256:14"))
	if !errors.Is(err, tpm2.TPMRCReferenceS0) || tpmkeys.Absent(err) || tpmkeys.Refused(err) {
		t.Errorf("without its session: %v", err)
	}
	if after := swtpm.Handles(t, s, tpm2.TPMHTTransient); !slices.Equal(after, before) {
		t.Errorf("the TPM has %x loaded, before %x", after, before)
	}
}

// Authorization values of all kinds work, with zeros in them and at their end.
func TestAuthorizationValues(t *testing.T) {
	s := swtpm.Start(t)
	for _, auth := range [][]byte{nil, {1}, {1, 0, 2}, {0, 1}, {1, 0, 0}, {0}, bytes.Repeat([]byte{0xff}, 32)} {
		key, err := tpm2.CreatePrimary{
			PrimaryHandle: tpm2.TPMRHOwner,
			InSensitive:   tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}}},
			InPublic: tpm2.New2B(tpm2.TPMTPublic{
				Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
				ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
				Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
					Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
					CurveID: tpm2.TPMECCNistP256,
				}),
			}),
		}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
		parameters := append([]byte{0, 0, 0, byte(tpm2.TPMAlgNull)}, make([]byte, 4)...) // no data, no scheme, no PCR
		if _, err := tpmkeys.RunAuthorized(s, tpm2.TPMCCQuote, key.ObjectHandle, key.Name.Buffer, auth, parameters); err != nil {
			t.Errorf("authorization value %x: %v", auth, err)
		}
		if _, err := tpmkeys.RunAuthorized(s, tpm2.TPMCCQuote, key.ObjectHandle, key.Name.Buffer, append([]byte{9}, auth...), parameters); !tpmkeys.Refused(err) {
			t.Errorf("another authorization value than %x: %v", auth, err)
		}
		noSessions(t, s)
		if _, err := (tpm2.FlushContext{FlushHandle: key.ObjectHandle}).Execute(s); err != nil {
			t.Fatal(err)
		}
	}
}

func zero(b []byte) { copy(b, make([]byte, len(b))) }
