// SPDX-License-Identifier: Apache-2.0

// Package configfs gets reports from configfs-tsm of Linux 6.7 and later
// (Documentation/ABI/testing/configfs-tsm-report), by one entry that root made and handed over.
//
// An entry is a folder of attributes. A program writes what the report is over to inblob, and
// reads the report from outblob, the host's certificates from auxblob, and the manifest of an
// SVSM's services from manifestblob. The kernel makes the report when the first of these is
// read, and keeps it until an attribute is written. Other programs of the same user, and root,
// can write to the entry at any time. Then a reader gets the report of another request, or a
// report and certificates that do not belong together. The attribute generation counts writes:
// so an answer counts only if, between the first write and the last read, the number of writes
// was ours.
//
// A write to inblob takes effect when the file is closed, and its error is lost: generation
// shows that too. A service provider that was written once stays in an entry: a plain report
// needs an entry that was made anew.
package configfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	report "github.com/cvm-agentd/agentd/verify/snp"
)

// Entry is the path of the entry that agentd-configfs.service makes for the agent.
const Entry = "/sys/kernel/config/tsm/report/agentd"

// The attributes of an entry.
const (
	InBlob          = "inblob"
	OutBlob         = "outblob"
	AuxBlob         = "auxblob"
	ManifestBlob    = "manifestblob"
	Provider        = "provider"
	Generation      = "generation"
	Privlevel       = "privlevel"
	PrivlevelFloor  = "privlevel_floor"
	ServiceProvider = "service_provider" // like the next two only in a guest above VMPL 0
	ServiceGUID     = "service_guid"
	ServiceVersion  = "service_manifest_version"
)

// ProviderSNP is the content of provider in a guest of SEV-SNP.
const ProviderSNP = "sev_guest"

// ProviderSVSM is what service_provider takes.
const ProviderSVSM = "svsm"

// Caps on what is read. The kernel's own cap on a blob is 32 KiB.
const (
	maxWord     = 64
	maxTable    = 64 << 10
	maxManifest = 32 << 10
)

// Attributes are the attributes of one entry.
type Attributes interface {
	// Read returns an attribute whole. The error is [fs.ErrNotExist] if the entry does not have
	// it, [ErrTooLarge] if it is larger than most bytes, and else that of the kernel.
	Read(name string, most int) ([]byte, error)
	// Write writes an attribute at once. When it returns, the kernel has taken the value or not.
	Write(name string, b []byte) error
	// Has reports whether the entry has the attribute.
	Has(name string) (bool, error)
}

// ErrTooLarge is returned if an attribute is larger than it may be.
var ErrTooLarge = errors.New("attribute is too large")

// request is what is asked of an entry.
type request struct {
	data    [64]byte
	level   uint32 // VMPL
	table   bool   // the host's certificates too
	service *snp.Service
}

// answer is what an entry gave for one request.
type answer struct {
	report   []byte
	table    []byte
	tableErr error // why the report came without a table
	manifest []byte
}

// get asks for a report. The error is [snp.ErrRaced] if another program wrote to the entry
// meanwhile: then nothing of what was read is returned.
func get(a Attributes, r request) (answer, error) {
	if err := CheckProvider(a); err != nil {
		return answer{}, err
	}
	before, err := generation(a)
	if err != nil {
		return answer{}, err
	}
	writes, err := ask(a, r)
	if err != nil {
		return answer{}, err
	}
	// This look saves a request to the firmware: it is not needed for the answer to be right.
	if err := compare(a, before+writes); err != nil {
		return answer{}, err
	}
	var out answer
	if out.report, err = a.Read(OutBlob, report.ReportSize); err != nil {
		return answer{}, spoiled(a, r, read(OutBlob, err))
	}
	if r.table {
		// A host loses only its certificates if there are too many.
		if out.table, err = a.Read(AuxBlob, maxTable); errors.Is(err, ErrTooLarge) {
			out.tableErr = fmt.Errorf("certificate table: more than %d bytes", maxTable)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return answer{}, read(AuxBlob, err)
		}
	}
	if r.service != nil {
		if out.manifest, err = a.Read(ManifestBlob, maxManifest); err != nil {
			return answer{}, read(ManifestBlob, err)
		}
	}
	if err := errors.Join(compare(a, before+writes), CheckProvider(a)); err != nil {
		return answer{}, err
	}
	return out, nil
}

// ask writes the request, and returns how many attributes it wrote.
func ask(a Attributes, r request) (writes uint64, err error) {
	has, err := a.Has(Privlevel)
	if err != nil {
		return 0, fmt.Errorf("look for %s: %w", Privlevel, err)
	}
	type value struct{ name, text string }
	var values []value
	switch {
	case r.service != nil: // the SVSM asks at its own level
		values = []value{
			{ServiceProvider, ProviderSVSM}, {ServiceGUID, r.service.GUID},
			{ServiceVersion, strconv.FormatUint(uint64(r.service.Version), 10)},
		}
	case has:
		values = []value{{Privlevel, strconv.FormatUint(uint64(r.level), 10)}}
	case r.level != 0:
		return 0, fmt.Errorf("%w: the kernel lets a guest choose no privilege level here, and report.vmpl is %d: want 0", platform.ErrVMPL, r.level)
	}
	for _, v := range append(values, value{InBlob, string(r.data[:])}) {
		err := a.Write(v.name, []byte(v.text))
		switch {
		case v.name == Privlevel && errors.Is(err, unix.EINVAL):
			return 0, fmt.Errorf("%w: the kernel refuses level %d, below that of the guest (%w): set report.vmpl", platform.ErrVMPL, r.level, err)
		case err != nil:
			return 0, fmt.Errorf("write %s: %w", v.name, err)
		}
		writes++
	}
	return writes, nil
}

// compare checks that the generation is the expected one. Both it and the sum that it is compared
// with wrap.
func compare(a Attributes, want uint64) error {
	now, err := generation(a)
	if err == nil && now != want {
		err = fmt.Errorf("%w: generation %d, want %d: another program writes to the entry, or the kernel did not take what was written", snp.ErrRaced, now, want)
	}
	return err
}

// generation returns how many writes the entry had.
func generation(a Attributes) (uint64, error) { return number(a, Generation, 64) }

// Floor returns the lowest VMPL that the guest may name: its own.
func Floor(a Attributes) (uint32, error) {
	n, err := number(a, PrivlevelFloor, 32)
	return uint32(n), err
}

// number returns the content of an attribute that is a number of so many bits.
func number(a Attributes, name string, bits int) (uint64, error) {
	b, err := a.Read(name, maxWord)
	if err != nil {
		return 0, read(name, err)
	}
	s := strings.TrimSuffix(string(b), "\n")
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%w: %s is not a number", platform.ErrMalformed, name)
	}
	return n, nil
}

// CheckProvider checks that reports of the entry are of SEV-SNP. The error is
// [platform.ErrAbsent] if they are not, or if there is no entry.
func CheckProvider(a Attributes) error {
	b, err := a.Read(Provider, maxWord)
	switch {
	case err != nil:
		return read(Provider, err)
	case !bytes.Equal(bytes.TrimSuffix(b, []byte("\n")), []byte(ProviderSNP)):
		return fmt.Errorf("%w: configfs-tsm has the provider %.40q, want %q", platform.ErrAbsent, b, ProviderSNP)
	}
	return nil
}

// read returns the error of reading an attribute.
func read(name string, err error) error {
	switch {
	case errors.Is(err, ErrTooLarge):
		return fmt.Errorf("read %s: %w: %w", name, platform.ErrMalformed, err)
	case errors.Is(err, platform.ErrAbsent):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read %s: %w: %w", name, platform.ErrAbsent, err)
	}
	return fmt.Errorf("read %s: %w", name, err)
}

// spoiled says what else can be the reason if the kernel finds the request wrong.
func spoiled(a Attributes, r request, err error) error {
	if !errors.Is(err, unix.EINVAL) || r.service != nil {
		return err
	}
	if has, lookErr := a.Has(ServiceProvider); lookErr != nil || !has {
		return err
	}
	return fmt.Errorf("%w (an entry that an SVSM was asked through gives no plain report: restart agentd-configfs.service)", err)
}
