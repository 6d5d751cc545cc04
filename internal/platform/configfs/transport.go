// SPDX-License-Identifier: Apache-2.0

package configfs

import (
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
)

// A Transport carries reports by an entry, and everything else by the device of the SNP driver.
// Both lead to the same firmware and the same host: so one [snp.Device], with one queue, spaces
// the requests of both.
type Transport struct {
	entry    Attributes
	driver   snp.Transport // nil if this machine has no such device
	services bool          // the entry is for reports of services only; plain ones come by the driver
}

var _ snp.Transport = (*Transport)(nil)

// New returns a transport whose reports come by entry. Driver, which may be nil, gives derived
// keys. It is closed with the transport.
func New(entry Attributes, driver snp.Transport) *Transport {
	return &Transport{entry: entry, driver: driver}
}

// ForServices returns a transport by which only reports of services come by entry, since an entry
// cannot give both. Driver, which may be nil, gives plain reports and derived keys. It is closed
// with the transport.
func ForServices(entry Attributes, driver snp.Transport) *Transport {
	return &Transport{entry: entry, driver: driver, services: true}
}

// Exchange follows [snp.Transport].
func (t *Transport) Exchange(m *snp.Message) (exitInfo uint64, err error) {
	if m.Command == snp.GetDerivedKey || t.services && m.Service == nil {
		if t.driver == nil {
			return 0, fmt.Errorf("%w: configfs-tsm gives reports only, and this machine has no device of the SNP driver", platform.ErrAbsent)
		}
		return t.driver.Exchange(m)
	}
	a, err := get(t.entry, request{
		data: [64]byte(m.Request), level: binary.LittleEndian.Uint32(m.Request[64:]),
		table: m.Command == snp.GetExtendedReport, service: m.Service,
	})
	if err != nil {
		return 0, err
	}
	m.Table, m.TableSize, m.TableError, m.Manifest = a.table, uint32(len(a.table)), a.tableErr, a.manifest
	snp.PutReport(m.Response, a.report)
	return 0, nil
}

// Close closes the driver's device.
func (t *Transport) Close() error {
	if t.driver == nil {
		return nil
	}
	return t.driver.Close()
}
