// SPDX-License-Identifier: Apache-2.0

package tpmwire

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// MaxServices is the largest manifest of all services that is read, in bytes: what Linux hands out
// at most (configfs-tsm, manifestblob).
const MaxServices = 32 << 10

// maxServiceCount is the largest number of services in a manifest.
const maxServiceCount = 64

// servicesGUID begins the manifest of all services of an SVSM (AMD 58019, table "Services
// Manifest"): 63849ebb-3d92-4670-a1ff-58f9c94b87bb.
const servicesGUID = "\xbb\x9e\x84\x63\x92\x3d\x70\x46\xa1\xff\x58\xf9\xc9\x4b\x87\xbb"

// ErrServices is returned by [ParseManifest] for a manifest of all services.
var ErrServices = errors.New("it is the manifest of all services of an SVSM, want that of its vTPM alone")

// A ServiceGUID says which service of an SVSM it is, as its manifests have it: the first three
// parts little-endian.
type ServiceGUID [16]byte

// String returns the usual text form.
func (g ServiceGUID) String() string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(g[0:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:])
}

// The services that are published: the vTPM by AMD (58019, section "vTPM Protocol"), the
// variables of UEFI by the COCONUT project.
var (
	ServiceVTPM = ServiceGUID([]byte("\xeb\xf1\x76\xc4\x23\x01\xa5\x45\x96\x41\xb4\xe7\xdd\xe5\xbf\xe3")) // c476f1eb-0123-45a5-9641-b4e7dde5bfe3
	ServiceUEFI = ServiceGUID([]byte("\x59\x3a\x45\xa4\x1b\x9e\x87\x47\xa0\x33\x19\x86\xd6\xad\xbe\x55")) // a4453a59-9e1b-4787-a033-1986d6adbe55
)

// A Service is one service in the manifest of all, with its own manifest, which may be empty.
type Service struct {
	GUID ServiceGUID
	Data []byte
}

// ParseServices reads exactly one manifest of all services of an SVSM. An SVSM makes it if it is
// asked about no service in particular. All integers are little-endian:
//
//	offset  size
//	     0    16  63849ebb-3d92-4670-a1ff-58f9c94b87bb
//	    16     4  size of the whole
//	    20     4  number of services
//	    24        for each: GUID 16, offset of its manifest from the beginning 4, size of that 4
//	              the manifests
//
// Each byte belongs to exactly one manifest: none overlaps another or the table, and nothing is
// between them or after them. No service is there twice. Services that are not known are carried.
func ParseServices(b []byte) ([]Service, error) {
	if len(b) > MaxServices || !bytes.HasPrefix(b, []byte(servicesGUID)) {
		return nil, fmt.Errorf("manifest of all services: %d bytes that begin with %x, want at most %d that begin with %x", len(b), b[:min(len(b), 16)], MaxServices, servicesGUID)
	}
	r := &Reader{Order: binary.LittleEndian, Rest: b[len(servicesGUID):]}
	size, count := r.U32("size"), r.U32("number of services")
	switch {
	case r.Err != nil:
		return nil, fmt.Errorf("manifest of all services: %w", r.Err)
	case int64(size) != int64(len(b)):
		return nil, fmt.Errorf("manifest of all services: it says that it has %d bytes, and has %d", size, len(b))
	case count > maxServiceCount:
		return nil, fmt.Errorf("manifest of all services: %d services, want at most %d", count, maxServiceCount)
	}
	out := make([]Service, 0, count)
	places := make([]place, 0, count)
	for i := range count {
		entry := Reader{Order: r.Order, Rest: r.Take(16+4+4, "entry of a service")}
		if r.Err != nil {
			return nil, fmt.Errorf("manifest of all services: service %d: %w", i, r.Err)
		}
		g := ServiceGUID(entry.Take(16, "GUID"))
		p := place{of: g, from: entry.U32("offset"), size: entry.U32("size")}
		if uint64(p.from)+uint64(p.size) > uint64(size) {
			return nil, fmt.Errorf("manifest of all services: that of %s, of %d bytes at offset %d, ends after the whole of %d", g, p.size, p.from, size)
		}
		if slices.ContainsFunc(out, func(s Service) bool { return s.GUID == g }) {
			return nil, fmt.Errorf("manifest of all services: %s is there twice", g)
		}
		end := p.from + p.size
		out, places = append(out, Service{g, b[p.from:end:end]}), append(places, p)
	}
	if err := checkPlaces(places, size-uint32(len(r.Rest)), size); err != nil {
		return nil, err
	}
	return out, nil
}

// A place is where the manifest of a service is.
type place struct {
	of         ServiceGUID
	from, size uint32
}

// checkPlaces checks that the places are side by side from the end of the table to the end.
func checkPlaces(places []place, from, end uint32) error {
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.size, b.size)) })
	for _, p := range places {
		if p.from != from {
			return fmt.Errorf("manifest of all services: that of %s is at offset %d, want %d: it overlaps another or the table, or there is something between them", p.of, p.from, from)
		}
		from += p.size
	}
	if from != end {
		return fmt.Errorf("manifest of all services: %d bytes follow the last", end-from)
	}
	return nil
}

// UEFI is what an SVSM says of its service of UEFI variables: little-endian, version 4 bytes (0),
// flags 4 bytes.
type UEFI struct {
	Persistent bool   // bit 0: the variables outlive the guest
	SecureBoot bool   // bit 1: it is enabled
	Updatable  bool   // bit 2: the guest can update the databases of secure boot with signed content
	Reserved   uint32 // the other bits, as they are
}

// ParseUEFI reads the manifest of the service of UEFI variables.
func ParseUEFI(b []byte) (*UEFI, error) {
	r := &Reader{Order: binary.LittleEndian, Rest: b}
	version, flags := r.U32("version"), r.U32("flags")
	switch {
	case r.Err != nil:
		return nil, fmt.Errorf("manifest of UEFI variables: %w", r.Err)
	case version != 0 || len(r.Rest) != 0:
		return nil, fmt.Errorf("manifest of UEFI variables: version %d and %d bytes, want version 0 and 8 bytes", version, len(b))
	}
	return &UEFI{flags&1 != 0, flags&2 != 0, flags&4 != 0, flags &^ 7}, nil
}
