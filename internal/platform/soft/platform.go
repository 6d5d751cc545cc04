// SPDX-License-Identifier: Apache-2.0

// Package soft is an AMD SEV-SNP platform in software, for development and tests:
// a security processor that makes reports in the real format and derives keys as
// the real one does, under the same device code that the agent uses on hardware.
//
// It protects nothing and vouches for nothing. Its reports are signed under a root
// of its own, whose subject says that it is a test root, and no verifier accepts
// them unless it was given that root by name.
package soft

import (
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"

	device "github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Platform is a guest on a software machine: the device that the agent uses, with
// this package in the kernel's and the processor's place.
type Platform struct {
	*device.Device
	kernel *kernel
	o      Options
	leaf   []byte
}

// New launches a guest, or goes on with one ([Options.SameLaunch]).
func New(o Options) (*Platform, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	f := &firmware{o: o, secret: o.ChipSecret}
	var err error
	if f.launch, err = o.launchSecret(); err != nil {
		return nil, err
	}
	hwid := expand(f.secret, "chip id", 64)
	if o.Product == snp.Turin {
		hwid = hwid[:8]
	}
	copy(f.chipID[:], hwid)
	if f.key, err = signingKey(f.secret, o.Signer, o.TCB); err != nil {
		return nil, fmt.Errorf("software platform: %w", err)
	}
	now := o.Now().UTC().Truncate(time.Second)
	leaf, err := o.Authority.Endorse(Endorsement{
		Signer: o.Signer, Product: o.Product, TCB: o.TCB, HWID: hwid, CSPID: o.CSPID,
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(7, 0, 0),
	}, f.key.Public())
	if err != nil {
		return nil, err
	}
	p := &Platform{o: o, leaf: leaf}
	if f.table, err = p.hostTable(); err != nil {
		return nil, err
	}
	p.kernel = newKernel(f)
	p.Device, err = device.New(p.kernel, o.Device)
	return p, err
}

// hostTable returns the table of the software host: as real ones, the whole chain of a
// VCEK, and of a VLEK itself and the intermediate.
func (p *Platform) hostTable() ([]byte, error) {
	i, err := p.Intermediate()
	if err != nil {
		return nil, err
	}
	if p.o.Signer == snp.SignerVLEK && p.o.LeafAlone {
		return encodeTable(&sevsnp.CertificateChain{VlekCert: p.leaf}), nil
	}
	if p.o.Signer == snp.SignerVLEK {
		return encodeTable(&sevsnp.CertificateChain{VlekCert: p.leaf, AskCert: i.Raw}), nil
	}
	r, err := p.Root()
	if err != nil {
		return nil, err
	}
	return encodeTable(&sevsnp.CertificateChain{ArkCert: r.Raw, AskCert: i.Raw, VcekCert: p.leaf}), nil
}

// encodeTable returns the certificate table of a host (see [snp.ParseTable]).
func encodeTable(c *sevsnp.CertificateChain) []byte { return abi.CertsFromProto(c).Marshal() }

// garbageTable returns what begins like a table and points out of itself.
func garbageTable() []byte {
	b := encodeTable(&sevsnp.CertificateChain{VcekCert: []byte{0x30, 0x82, 0xFF, 0xFF}})
	binary.LittleEndian.PutUint32(b[20:], 0xFFFFFFF0)
	return b
}

// Close ends the device, and every fault, so that no request is left waiting.
func (p *Platform) Close() error {
	err := p.Device.Close()
	p.SetFaults(Faults{})
	return err
}

// SetFaults switches faults; a request that stalls looks at the new ones.
func (p *Platform) SetFaults(f Faults) { p.kernel.setFaults(f) }

// Exchanges returns how many requests have reached the host so far.
func (p *Platform) Exchanges() int { return p.kernel.exchanges() }

// Transport returns the software machine without the device, for tests that put another
// device before it, or a file that imitates the kernel's.
func (p *Platform) Transport() device.Transport { return p.kernel }

// Root returns the test root, to be given to a verifier by name.
func (p *Platform) Root() (*x509.Certificate, error) { return p.o.Authority.Root(p.o.Product) }

// Intermediate returns the certificate that issued the endorsement key.
func (p *Platform) Intermediate() (*x509.Certificate, error) {
	return p.o.Authority.Intermediate(p.o.Product, p.o.Signer)
}

// Endorsement returns the certificate of the key that signs the reports, DER.
func (p *Platform) Endorsement() []byte { return p.leaf }

// RootPEM returns the test root as the file that a verifier is given.
func (p *Platform) RootPEM() ([]byte, error) {
	r, err := p.Root()
	if err != nil {
		return nil, err
	}
	return encodePEM(r.Raw), nil
}

// Options returns those of New with the defaults filled in.
func (p *Platform) Options() Options { return p.o }

// ReportAt returns a report of the firmware, as software at that privilege level asks for it. It
// does not wait for other requests.
func (p *Platform) ReportAt(data [64]byte, vmpl uint32) ([]byte, error) {
	status, report := p.kernel.firmware.report(data, vmpl)
	if status != 0 {
		return nil, fmt.Errorf("software platform: the firmware answers with status %d", status)
	}
	return report, nil
}
