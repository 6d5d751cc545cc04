// SPDX-License-Identifier: Apache-2.0

// Package paravisor is the paravisor of an Azure machine in software, for the simulator and tests
// only. It stands between an agent and swtpm, as a connection that speaks TPM commands: when the
// guest reads NV index 0x01400001, it asks the software firmware for a report over new runtime
// data, unless the last one is less than two seconds old. Like the firmware it protects nothing.
package paravisor

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// NV indices of the paravisor, and the size of the first.
const (
	ReportIndex   tpm2.TPMHandle = 0x01400001
	UserDataIndex tpm2.TPMHandle = 0x01400002
	indexSize                    = 2048 // Azure has 2,600 too; swtpm allows no more
)

// hold is how old a report must be to be made anew.
const hold = 2 * time.Second

// Options of a [Paravisor].
type Options struct {
	Hold time.Duration // in place of two seconds
	Size int           // of the index of the report, in place of 2,048 bytes
}

// Faults are what goes wrong, once the guest has asked for a report of its own. The zero value is
// none of it.
type Faults struct {
	Reads    int                      // how many reads of the report it goes wrong for; 0: for all
	Stale    bool                     // it never makes a report anew
	OtherKey bool                     // the runtime data name another key
	Race     bool                     // another program writes the user data before each read
	VMPL     uint32                   // it asks for reports at that level
	Runtime  func(json string) string // changes the runtime data before the report is made
	Blob     func(b []byte) []byte    // changes what is written to the index
}

// Paravisor is a connection to a vTPM with a paravisor. One goroutine at a time may use it, as
// with swtpm; any may set faults.
type Paravisor struct {
	conn io.ReadWriteCloser
	snp  *soft.Platform
	o    Options
	ak   tpm2.TPMTPublic

	mu     sync.Mutex // guards the three below
	faults Faults
	struck int // reads that went wrong since the faults were set
	made   int // reports so far

	last time.Time // when the report was made
}

// New gives the TPM at conn what a paravisor gives its vTPM: the key at 0x81000003 and the index
// with a report of the boot. P makes the reports.
func New(conn io.ReadWriteCloser, p *soft.Platform, o Options) (*Paravisor, error) {
	v := &Paravisor{conn: conn, snp: p, o: Options{Hold: cmp.Or(o.Hold, hold), Size: cmp.Or(o.Size, indexSize)}}
	for _, step := range []func() error{v.makeKey, v.makeIndex, func() error { return v.renew(Faults{}) }} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("software paravisor: %w", err)
		}
	}
	return v, nil
}

// SetFaults switches faults.
func (v *Paravisor) SetFaults(f Faults) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faults, v.struck = f, 0
}

// Reports returns how many reports were made.
func (v *Paravisor) Reports() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.made
}

// now returns what goes wrong with this read.
func (v *Paravisor) now() (Faults, error) {
	_, asked, err := v.name(UserDataIndex)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil || !asked || v.faults.Reads > 0 && v.struck == v.faults.Reads {
		return Faults{}, err
	}
	v.struck++
	return v.faults, nil
}

// Write sends one command to the TPM. Before a read of the report from its start, it makes the
// report anew if that is due.
func (v *Paravisor) Write(command []byte) (int, error) {
	if readsReport(command) {
		f, err := v.now()
		if err != nil {
			return 0, err
		}
		if f.Race {
			if err := v.writeUserData(bytes.Repeat([]byte{0xee}, 64)); err != nil {
				return 0, err
			}
		}
		if !f.Stale && time.Since(v.last) > v.o.Hold {
			if err := v.renew(f); err != nil {
				return 0, err
			}
		}
	}
	return v.conn.Write(command)
}

// readsReport reports whether a command is TPM2_NV_Read of the report at offset 0: tag 2 bytes,
// size 4, code 4, authorization handle 4, index 4, then the session, then size 2 and offset 2.
func readsReport(c []byte) bool {
	be := binary.BigEndian
	return len(c) > 22 && be.Uint32(c[6:]) == uint32(tpm2.TPMCCNVRead) && be.Uint32(c[14:]) == uint32(ReportIndex) && be.Uint16(c[len(c)-2:]) == 0
}

func (v *Paravisor) Read(b []byte) (int, error) { return v.conn.Read(b) }

// Close closes the connection.
func (v *Paravisor) Close() error { return v.conn.Close() }

// Send runs a command of the paravisor's own.
func (v *Paravisor) Send(command []byte) ([]byte, error) {
	if _, err := v.conn.Write(command); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	got := 0
	for got < 10 || got < int(binary.BigEndian.Uint32(buf[2:])) {
		n, err := v.conn.Read(buf[got:])
		if err != nil {
			return nil, err
		}
		if got += n; got == len(buf) {
			return nil, errors.New("an answer of the TPM that is too long")
		}
	}
	return buf[:got], nil
}

// template is that of the attestation key.
var template = tpm2.TPMTPublic{
	Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		Scheme:  tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
		KeyBits: 2048,
	}),
}

// makeKey keeps the attestation key at its handle, of an earlier boot or a new one.
func (v *Paravisor) makeKey() error {
	if rsp, err := (tpm2.ReadPublic{ObjectHandle: tpmkeys.AzureAK}).Execute(v); err == nil {
		return v.setKey(rsp.OutPublic)
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(v)
	if err != nil {
		return fmt.Errorf("make the attestation key: %w", err)
	}
	key := tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.EvictControl{Auth: owner, ObjectHandle: &key, PersistentHandle: tpmkeys.AzureAK}).Execute(v); err != nil {
		return fmt.Errorf("keep the attestation key: %w", err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(v); err != nil {
		return err
	}
	return v.setKey(made.OutPublic)
}

func (v *Paravisor) setKey(p tpm2.TPM2BPublic) error {
	area, err := p.Contents()
	if err == nil {
		v.ak = *area
	}
	return err
}

var platformAuth = tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}

// makeIndex defines the index of the report. The guest can read and not write it.
func (v *Paravisor) makeIndex() error {
	_, err := tpm2.NVDefineSpace{AuthHandle: platformAuth, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: ReportIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(v.o.Size),
		Attributes: tpm2.TPMANV{PPWrite: true, OwnerRead: true, AuthRead: true, NoDA: true, PlatformCreate: true, NT: tpm2.TPMNTOrdinary},
	})}.Execute(v)
	if err != nil && !errors.Is(err, tpm2.TPMRCNVDefined) {
		return fmt.Errorf("define NV index 0x%08x: %w", uint32(ReportIndex), err)
	}
	return nil
}

// renew makes a report over the user data that the guest wrote, zeros if it wrote none.
func (v *Paravisor) renew(f Faults) error {
	data, err := v.userData()
	if err != nil {
		return err
	}
	runtime := Runtime(v.modulus(f), data)
	if f.Runtime != nil {
		runtime = f.Runtime(runtime)
	}
	r, err := v.snp.ReportAt(ReportData(runtime), f.VMPL)
	if err != nil {
		return err
	}
	blob := append(Blob(r, runtime), make([]byte, v.o.Size)...)[:v.o.Size]
	if f.Blob != nil {
		blob = f.Blob(blob)
	}
	v.last = time.Now()
	v.mu.Lock()
	v.made++
	v.mu.Unlock()
	return v.write(ReportIndex, platformAuth, blob)
}

// modulus returns that of the key that the runtime data name.
func (v *Paravisor) modulus(f Faults) []byte {
	id, err := v.ak.Unique.RSA()
	if err != nil {
		return nil // the template is RSA
	}
	n := bytes.Clone(id.Buffer)
	if f.OtherKey {
		n[len(n)/2] ^= 1
	}
	return n
}
