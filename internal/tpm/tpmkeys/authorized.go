// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
)

// An authorized command uses one object, in an HMAC session of its own that is neither bound nor
// salted (TPM 2.0 Part 1, section 19). What [tpm2.HMAC] does is the same, but go-tpm finds out by
// reflection how to encode each command. The agent quotes for each batch of evidence, and encoding took
// an eighth of the time in which one caller gets a document.
type authorized struct {
	code       tpm2.TPMCC
	handle     tpm2.TPMHandle
	name       keys.Name // of the object: the HMAC covers it
	auth       []byte    // its authorization value
	parameters []byte
}

// Fields of commands and responses, integers big-endian.
const (
	tagNoSessions = 0x8001 // TPM_ST_NO_SESSIONS (TPM 2.0 Part 2, section 6.9)
	tagSessions   = 0x8002 // TPM_ST_SESSIONS

	// TPMA_SESSION (TPM 2.0 Part 2, section 8.4) without continueSession: the TPM forgets the
	// session when it has done the command.
	noAttributes = 0
)

// run has the TPM do the command, and returns the parameters of its response. The error is a
// [tpm2.TPMRC] if the TPM refused.
func (c *authorized) run(t transport.TPM) ([]byte, error) {
	session, nonceTPM, err := startSession(t)
	if err != nil {
		return nil, fmt.Errorf("start a session: %w", err)
	}
	var nonce [SessionNonce]byte
	rand.Read(nonce[:]) // never fails: crypto/rand ends the process instead

	hash := sha256.New() // cpHash (TPM 2.0 Part 1, section 16.7)
	hash.Write(binary.BigEndian.AppendUint32(nil, uint32(c.code)))
	hash.Write(c.name)
	hash.Write(c.parameters)

	area := binary.BigEndian.AppendUint32(nil, uint32(session)) // TPMS_AUTH_COMMAND
	area = appendSized(area, nonce[:])
	area = append(area, noAttributes)
	area = appendSized(area, c.mac(hash.Sum(nil), nonce[:], nonceTPM))

	b := command(tagSessions, c.code)
	b = binary.BigEndian.AppendUint32(b, uint32(c.handle))
	b = binary.BigEndian.AppendUint32(b, uint32(len(area)))
	b = append(append(b, area...), c.parameters...)
	r, rc, err := exchange(t, b, tagSessions)
	switch {
	case err != nil:
		return nil, err
	case rc != tpm2.TPMRCSuccess: // only a command that was done ends its session
		if err := flush(t, session); err != nil {
			return nil, fmt.Errorf("%w (and afterwards: %v)", rc, err) // what it says of the session is not of the object
		}
		return nil, rc
	}
	return c.open(r, nonce[:])
}

// open returns the parameters of a response, if the TPM that sent it knows the authorization value.
func (c *authorized) open(r *tpmwire.Reader, nonce []byte) ([]byte, error) {
	parameters := r.Take(uint64(r.U32("size of parameters")), "parameters")
	newer := r.Take(uint64(r.U16("size of nonceTPM")), "nonceTPM") // TPMS_AUTH_RESPONSE
	attributes := r.U8("attributes of the session")
	mac := r.Take(uint64(r.U16("size of the HMAC")), "HMAC")
	if err := ended(r); err != nil {
		return nil, err
	}
	if attributes != noAttributes {
		return nil, fmt.Errorf("read the TPM's response: attributes 0x%02x of the session, want 0x%02x", attributes, noAttributes)
	}
	hash := sha256.New() // rpHash (TPM 2.0 Part 1, section 16.8)
	hash.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRCSuccess)))
	hash.Write(binary.BigEndian.AppendUint32(nil, uint32(c.code)))
	hash.Write(parameters)
	if !hmac.Equal(mac, c.mac(hash.Sum(nil), newer, nonce)) {
		return nil, errors.New("the HMAC of the TPM's response is wrong: it is not from the TPM, or was changed on the way")
	}
	return parameters, nil
}

// mac returns the HMAC of a command or response of a session without a key of its own, so that the
// key is the authorization value (TPM 2.0 Part 1, section 19.6.5). Zeros at its end count as absent,
// and make no difference to an HMAC with a key of at most 64 bytes, which a value has.
func (c *authorized) mac(hash, newer, older []byte) []byte {
	mac := hmac.New(sha256.New, c.auth)
	mac.Write(hash)
	mac.Write(newer)
	mac.Write(older)
	mac.Write([]byte{noAttributes})
	return mac.Sum(nil)
}

// startSession starts an HMAC session with SHA-256 (TPM2_StartAuthSession, TPM 2.0 Part 3, section
// 11.1).
func startSession(t transport.TPM) (session tpm2.TPMHandle, nonceTPM []byte, err error) {
	var nonce [SessionNonce]byte
	rand.Read(nonce[:])
	b := command(tagNoSessions, tpm2.TPMCCStartAuthSession)
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.TPMRHNull)) // tpmKey
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.TPMRHNull)) // bind
	b = appendSized(b, nonce[:])
	b = appendSized(b, nil) // encryptedSalt
	b = append(b, byte(tpm2.TPMSEHMAC))
	b = binary.BigEndian.AppendUint16(b, uint16(tpm2.TPMAlgNull)) // symmetric
	b = binary.BigEndian.AppendUint16(b, uint16(tpm2.TPMAlgSHA256))
	r, rc, err := exchange(t, b, tagNoSessions)
	switch {
	case err != nil:
		return 0, nil, err
	case rc != tpm2.TPMRCSuccess:
		return 0, nil, rc
	}
	session = tpm2.TPMHandle(r.U32("handle of the session"))
	nonceTPM = r.Take(uint64(r.U16("size of nonceTPM")), "nonceTPM")
	return session, nonceTPM, ended(r)
}

// command begins a command. exchange writes its size.
func command(tag uint16, code tpm2.TPMCC) []byte {
	b := make([]byte, 0, 256)
	b = binary.BigEndian.AppendUint16(b, tag)
	b = binary.BigEndian.AppendUint32(b, 0)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// exchange sends a command, and returns what follows the header of a response with that tag, or the code
// with which the TPM refused.
func exchange(t transport.TPM, command []byte, tag uint16) (*tpmwire.Reader, tpm2.TPMRC, error) {
	binary.BigEndian.PutUint32(command[2:], uint32(len(command)))
	b, err := t.Send(command)
	if err != nil {
		return nil, 0, err
	}
	r := &tpmwire.Reader{Order: binary.BigEndian, Rest: b}
	got, size, rc := r.U16("tag"), r.U32("size"), tpm2.TPMRC(r.U32("response code"))
	switch {
	case rc != tpm2.TPMRCSuccess:
		return nil, rc, nil
	case uint64(size) != uint64(len(b)):
		return nil, 0, fmt.Errorf("read the TPM's response: it has %d bytes, and says %d", len(b), size)
	case got != tag:
		return nil, 0, fmt.Errorf("read the TPM's response: tag 0x%04x, want 0x%04x", got, tag)
	}
	return r, 0, nil
}

// ended returns an error if a response was shorter or longer than what was read of it.
func ended(r *tpmwire.Reader) error {
	switch {
	case r.Err != nil:
		return fmt.Errorf("read the TPM's response: %w", r.Err)
	case len(r.Rest) != 0:
		return fmt.Errorf("read the TPM's response: %d bytes after its end", len(r.Rest))
	}
	return nil
}

// appendSized appends a TPM2B: a length in two bytes, then that many bytes.
func appendSized(b, value []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...)
}
