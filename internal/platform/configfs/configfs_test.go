// SPDX-License-Identifier: Apache-2.0

package configfs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	report "github.com/cvm-agentd/agentd/verify/snp"
)

// data is what the reports of the tests are over.
var data = [64]byte{7, 7, 7}

func firmware(t testing.TB, o soft.Options) *soft.Platform {
	t.Helper()
	p, err := soft.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// over returns a device whose reports come by e, with keys of driver unless that is nil.
func over(t testing.TB, e configfs.Attributes, driver snp.Transport, o snp.Options) *snp.Device {
	t.Helper()
	o.WithoutKeys = driver == nil
	d, err := snp.New(configfs.New(e, driver), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestReport: a report by configfs is the one that was asked for, with the host's certificates.
// Keys stay with the driver's device, and without that there are none.
func TestReport(t *testing.T) {
	for _, level := range []uint32{0, 2} {
		p := firmware(t, soft.Options{VMPL: level})
		e := tsm.New(tsm.Options{Firmware: p.Transport()})
		d := over(t, e, p.Transport(), snp.Options{VMPL: level})
		got, err := d.Report(t.Context(), platform.Fixed(data))
		if err != nil || got.TableError != nil || len(got.Certificates) != 3 {
			t.Fatalf("%d certificates, %v, %v", len(got.Certificates), got.TableError, err)
		}
		r, err := report.ParseReport(got.Bytes)
		if err != nil || r.ReportData != data || r.VMPL != level || e.Made() != 1 {
			t.Errorf("report data %x, VMPL %d, %d made, %v", r.ReportData[:3], r.VMPL, e.Made(), err)
		}
		now, err := d.Keys().Reading(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		k, err := d.Keys().DeriveKey(t.Context(), now.TCB)
		if err != nil {
			t.Fatal(err)
		}
		k.Wipe()
		if without := over(t, e, nil, snp.Options{VMPL: level}); without.Keys() != nil {
			t.Error("keys without a device")
		} else if _, err := without.DeriveKey(t.Context(), now.TCB); !errors.Is(err, platform.ErrAbsent) {
			t.Errorf("a key without a device: %v", err)
		}
	}
}

// TestOneQueue: requests for reports and keys lead to the same host, and are spaced together.
func TestOneQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := firmware(t, soft.Options{})
		d := over(t, tsm.New(tsm.Options{Firmware: p.Transport()}), p.Transport(), snp.Options{Spacing: 2 * time.Second})
		begin := time.Now()
		if _, err := d.Report(t.Context(), platform.Fixed(data)); err != nil {
			t.Fatal(err)
		}
		k, err := d.DeriveKey(t.Context(), [8]byte{1})
		if err == nil {
			k.Wipe()
		}
		if took := time.Since(begin); err != nil || took < 2*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// A race is what another program does to the entry.
type race struct {
	name  string
	at    string // before this attribute
	write bool   // is written; else read
	times int    // how often
	does  func(e *tsm.Entry)
	want  error // nil: the report is good in the end
	made  int   // reports that the firmware made at most
}

// TestRaces: cases 39 and 117. Whatever another program writes to the entry, and whenever, the agent
// returns the report of its own request, or an error. It asks a bounded number of times.
func TestRaces(t *testing.T) {
	theirs := bytes.Repeat([]byte{9}, 64)
	in := func(e *tsm.Entry) { _ = e.WriteBeside(configfs.InBlob, theirs) }
	level := func(e *tsm.Entry) { _ = e.WriteBeside(configfs.Privlevel, []byte("3")) }
	reads := func(e *tsm.Entry) {
		in(e)
		_, _ = e.Read(configfs.OutBlob, 4096)
	}
	var all []race
	for _, does := range []struct {
		name string
		does func(*tsm.Entry)
	}{{"inblob", in}, {"privlevel", level}, {"inblob and read", reads}} {
		for _, at := range []struct {
			name  string
			write bool
		}{{configfs.Privlevel, true}, {configfs.InBlob, true}, {configfs.Generation, false}, {configfs.OutBlob, false}, {configfs.AuxBlob, false}, {configfs.Provider, false}} {
			all = append(all,
				race{does.name + " once before " + at.name, at.name, at.write, 1, does.does, nil, 4},
				race{does.name + " always before " + at.name, at.name, at.write, 1 << 30, does.does, platform.ErrBusy, 6})
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			p, left, inside := firmware(t, soft.Options{}), c.times, false
			e := tsm.New(tsm.Options{Firmware: p.Transport(), Before: func(e *tsm.Entry, write bool, name string) error {
				if write == c.write && name == c.at && left > 0 && !inside {
					left--
					inside = true
					c.does(e)
					inside = false
				}
				return nil
			}})
			d := over(t, e, nil, snp.Options{})
			got, err := d.Report(t.Context(), platform.Fixed(data))
			harmless := c.at == configfs.Provider && err == nil // before the generation was read
			if err != nil && (c.want == nil || !errors.Is(err, c.want)) || err == nil && c.want != nil && !harmless {
				t.Errorf("%v, want %v", err, c.want)
			}
			if err == nil {
				if r, err := report.ParseReport(got.Bytes); err != nil || r.ReportData != data || r.VMPL != 0 || len(got.Certificates) != 3 {
					t.Errorf("the report of another request: %x, VMPL %d, %v", r.ReportData[:3], r.VMPL, err)
				}
			}
			if e.Made() > c.made {
				t.Errorf("%d reports were made, at most %d", e.Made(), c.made)
			}
		})
	}
}

// TestWrongAnswers: cases 39 and 117. What the kernel refuses, and what a hostile host or another kernel
// gives, has an error of its own, and costs at most one report.
func TestWrongAnswers(t *testing.T) {
	refuse := func(at string, err error) tsm.Options {
		return tsm.Options{Before: func(_ *tsm.Entry, _ bool, name string) error {
			if name == at {
				return err
			}
			return nil
		}}
	}
	answer := func(at string, content []byte) tsm.Options {
		return tsm.Options{Content: func(name string, b []byte) []byte {
			if name == at {
				return content
			}
			return b
		}}
	}
	huge := make([]byte, 1<<20)
	for _, c := range []struct {
		name string
		o    tsm.Options
		want error
		says string
	}{
		{"outblob: EBUSY", refuse(configfs.OutBlob, syscall.EBUSY), platform.ErrBusy, "outblob"},
		{"outblob: EAGAIN", refuse(configfs.OutBlob, syscall.EAGAIN), platform.ErrBusy, "outblob"},
		{"outblob: EIO", refuse(configfs.OutBlob, syscall.EIO), platform.ErrFirmware, "outblob"},
		{"outblob: EINVAL", refuse(configfs.OutBlob, syscall.EINVAL), platform.ErrFirmware, "outblob"},
		{"outblob: ENOTTY", refuse(configfs.OutBlob, syscall.ENOTTY), platform.ErrKeyWiped, "outblob"},
		{"outblob: ETIMEDOUT", refuse(configfs.OutBlob, syscall.ETIMEDOUT), platform.ErrTimedOut, "outblob"},
		{"outblob: EFBIG", refuse(configfs.OutBlob, syscall.EFBIG), platform.ErrFirmware, "outblob"},
		{"inblob: EBUSY", refuse(configfs.InBlob, syscall.EBUSY), platform.ErrBusy, "inblob"},
		{"inblob: EACCES", refuse(configfs.InBlob, syscall.EACCES), syscall.EACCES, "inblob"},
		{"privlevel: EINVAL", refuse(configfs.Privlevel, syscall.EINVAL), platform.ErrVMPL, "report.vmpl"},
		{"generation: EIO", refuse(configfs.Generation, syscall.EIO), platform.ErrFirmware, "generation"},
		{"auxblob: EIO", refuse(configfs.AuxBlob, syscall.EIO), platform.ErrFirmware, "auxblob"},
		{"entry gone", refuse(configfs.Provider, fs.ErrNotExist), platform.ErrAbsent, "provider"},
		{"entry gone in between", refuse(configfs.OutBlob, fs.ErrNotExist), platform.ErrAbsent, "outblob"},
		{"another provider", tsm.Options{Provider: "tdx_guest"}, platform.ErrAbsent, "tdx_guest"},
		{"no provider", answer(configfs.Provider, nil), platform.ErrAbsent, "provider"},
		{"huge provider", answer(configfs.Provider, huge), platform.ErrMalformed, "provider"},
		{"provider with a tail", answer(configfs.Provider, []byte("sev_guest\n\n")), platform.ErrAbsent, "provider"},
		{"empty generation", answer(configfs.Generation, nil), platform.ErrMalformed, "generation"},
		{"generation with a sign", answer(configfs.Generation, []byte("+1\n")), platform.ErrMalformed, "generation"},
		{"generation in another form", answer(configfs.Generation, []byte("01\n")), platform.ErrMalformed, "generation"},
		{"generation above 64 bits", answer(configfs.Generation, []byte("18446744073709551616\n")), platform.ErrMalformed, "generation"},
		{"constant generation", answer(configfs.Generation, []byte("1\n")), platform.ErrBusy, "generation"},
		{"huge generation", answer(configfs.Generation, huge), platform.ErrMalformed, "generation"},
		{"empty outblob", answer(configfs.OutBlob, nil), platform.ErrMalformed, "0 bytes"},
		{"short outblob", answer(configfs.OutBlob, make([]byte, 1183)), platform.ErrMalformed, "1183 bytes"},
		{"long outblob", answer(configfs.OutBlob, make([]byte, 1185)), platform.ErrMalformed, "outblob"},
		{"huge outblob", answer(configfs.OutBlob, huge), platform.ErrMalformed, "outblob"},
		{"outblob of zeros", answer(configfs.OutBlob, make([]byte, 1184)), platform.ErrMalformed, "version 0"},
		{"level below the floor", tsm.Options{Floor: 1}, platform.ErrVMPL, "report.vmpl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Firmware = firmware(t, soft.Options{}).Transport()
			e := tsm.New(c.o)
			_, err := over(t, e, nil, snp.Options{}).Report(t.Context(), platform.Fixed(data))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v and %q", err, c.want, c.says)
			}
			if c.want != platform.ErrBusy && e.Made() > 1 {
				t.Errorf("%d reports", e.Made())
			}
		})
	}
}

// TestStaleReport: case 117. A kernel that gives the report of an earlier request, with a generation that
// hides it, is noticed.
func TestStaleReport(t *testing.T) {
	var first []byte
	e := tsm.New(tsm.Options{Firmware: firmware(t, soft.Options{}).Transport(), Content: func(name string, b []byte) []byte {
		if name != configfs.OutBlob {
			return b
		}
		if first == nil {
			first = b
		}
		return first
	}})
	d := over(t, e, nil, snp.Options{})
	if _, err := d.Report(t.Context(), platform.Fixed(data)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Report(t.Context(), platform.Fixed([64]byte{8})); !errors.Is(err, platform.ErrMalformed) {
		t.Errorf("an old report: %v", err)
	}
}

// TestProviderChanges: a driver that is replaced by that of another processor meanwhile is noticed.
func TestProviderChanges(t *testing.T) {
	reads := 0
	e := tsm.New(tsm.Options{Firmware: firmware(t, soft.Options{}).Transport(), Content: func(name string, b []byte) []byte {
		if name == configfs.Provider {
			if reads++; reads > 1 {
				return []byte("another\n")
			}
		}
		return b
	}})
	if _, err := over(t, e, nil, snp.Options{}).Report(t.Context(), platform.Fixed(data)); !errors.Is(err, platform.ErrAbsent) {
		t.Error(err)
	}
}

// TestTable: a host loses only its certificates by what it puts into auxblob.
func TestTable(t *testing.T) {
	for name, c := range map[string]struct {
		table []byte
		says  string
		certs int
	}{
		"none":    {nil, "", 0},
		"huge":    {make([]byte, 1<<20), "more than 65536 bytes", 0},
		"garbage": {bytes.Repeat([]byte{0xff}, 4096), "certificate table", 0},
	} {
		e := tsm.New(tsm.Options{Firmware: firmware(t, soft.Options{}).Transport(), Content: func(name string, b []byte) []byte {
			if name == configfs.AuxBlob {
				return c.table
			}
			return b
		}})
		got, err := over(t, e, nil, snp.Options{}).Report(t.Context(), platform.Fixed(data))
		if err != nil || len(got.Certificates) != c.certs || e.Made() != 1 {
			t.Errorf("%s: %d certificates, %d reports, %v", name, len(got.Certificates), e.Made(), err)
		}
		if (got.TableError != nil) != (c.says != "") || got.TableError != nil && !strings.Contains(got.TableError.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, got.TableError, c.says)
		}
	}
}

// TestHang: case 117. A kernel that does not answer holds a request up no longer than its caller waits, and
// its late answer goes to no other request.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		e := tsm.New(tsm.Options{Firmware: firmware(t, soft.Options{}).Transport(), Before: func(_ *tsm.Entry, _ bool, name string) error {
			if name == configfs.OutBlob {
				<-never
			}
			return nil
		}})
		d := over(t, e, nil, snp.Options{})
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if _, err := d.Report(ctx, platform.Fixed(data)); !errors.Is(err, platform.ErrTimedOut) {
				t.Errorf("%v", err)
			}
			cancel()
		}
		close(never)
		got, err := d.Report(t.Context(), platform.Fixed([64]byte{8}))
		if err != nil || [64]byte(got.Bytes[0x50:]) != [64]byte{8} {
			t.Errorf("after it: %v", err)
		}
	})
}

// TestService: an SVSM's report is over the nonce and its manifest. An entry that was used so
// gives no plain report, and the error says what to do.
func TestService(t *testing.T) {
	p := firmware(t, soft.Options{})
	manifest := []byte("a manifest")
	asked := func(guid string, version uint32) bool { return guid == "the guid" && version == 1 }
	o := tsm.Options{Firmware: p.Transport(), Floor: 1, SVSM: func(nonce [64]byte, guid string, version uint32) ([]byte, []byte, error) {
		if !asked(guid, version) {
			return nil, nil, syscall.EINVAL
		}
		r, err := p.Report(context.Background(), platform.Fixed(snp.ServiceData(nonce, manifest)))
		return r.Bytes, manifest, err
	}}
	e := tsm.New(o)
	d, err := snp.New(configfs.ForServices(e, p.Transport()), snp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r, got, err := d.ServiceReport(t.Context(), platform.Fixed(data), snp.Service{GUID: "the guid", Version: 1})
	if err != nil || !bytes.Equal(got, manifest) || len(r.Bytes) != report.ReportSize {
		t.Errorf("%d bytes, manifest %q, %v", len(r.Bytes), got, err)
	}
	if _, _, err := d.ServiceReport(t.Context(), platform.Fixed(data), snp.Service{GUID: "another", Version: 1}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("another service: %v", err)
	}
	if _, err := d.Report(t.Context(), platform.Fixed(data)); err != nil {
		t.Errorf("a plain report by the driver: %v", err)
	}
	plain := over(t, e, nil, snp.Options{VMPL: 1})
	if _, err := plain.Report(t.Context(), platform.Fixed(data)); !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "restart agentd-configfs.service") {
		t.Errorf("a plain report by an entry of a service: %v", err)
	}
	// Another manifest than the one that the report is over.
	o.Content = func(name string, b []byte) []byte {
		if name == configfs.ManifestBlob {
			return []byte("another manifest")
		}
		return b
	}
	d, err = snp.New(configfs.ForServices(tsm.New(o), nil), snp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, _, err := d.ServiceReport(t.Context(), platform.Fixed(data), snp.Service{GUID: "the guid", Version: 1}); !errors.Is(err, platform.ErrMalformed) {
		t.Errorf("another manifest: %v", err)
	}
}

// attributes are attributes with any content.
type attributes struct {
	content map[string][]byte
	writes  uint64
	counts  bool // generation counts writes
}

func (a *attributes) Has(name string) (bool, error) {
	_, has := a.content[name]
	return has, nil
}

func (a *attributes) Write(string, []byte) error { a.writes++; return nil }

func (a *attributes) Read(name string, most int) ([]byte, error) {
	b, has := a.content[name]
	switch {
	case !has:
		return nil, fs.ErrNotExist
	case a.counts && name == configfs.Generation:
		return append(append([]byte{}, byte('0'+a.writes%10)), '\n'), nil
	case len(b) > most:
		return nil, configfs.ErrTooLarge
	}
	return slices.Clone(b), nil
}

// FuzzAnswers: case 66. Whatever an entry contains, an answer that counts is a report over the data that
// was asked for, at the level that was asked for.
func FuzzAnswers(f *testing.F) {
	good := append([]byte{3}, make([]byte, report.ReportSize-1)...) // a version, report data, VMPL 0
	copy(good[0x50:], data[:])
	f.Add([]byte("sev_guest\n"), []byte("3\n"), good, []byte{}, true)
	f.Add([]byte("sev_guest\n"), []byte("3\n"), good, bytes.Repeat([]byte{1}, 24), false)
	f.Add([]byte("tdx_guest\n"), []byte("x"), []byte{}, []byte{}, true)
	f.Fuzz(func(t *testing.T, provider, generation, out, aux []byte, counts bool) {
		a := &attributes{counts: counts, content: map[string][]byte{
			configfs.Provider: provider, configfs.Generation: generation, configfs.OutBlob: out, configfs.AuxBlob: aux, configfs.Privlevel: nil,
		}}
		d, err := snp.New(configfs.New(a, nil), snp.Options{WithoutKeys: true})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		got, err := d.Report(t.Context(), platform.Fixed(data))
		if err != nil {
			if bytes.Equal(out, good) && counts && string(provider) == "sev_guest\n" {
				t.Errorf("a good report is refused: %v", err)
			}
			return
		}
		if !counts || strings.TrimSuffix(string(provider), "\n") != configfs.ProviderSNP {
			t.Errorf("a report without a count of writes, or of provider %q", provider)
		}
		if len(got.Bytes) != report.ReportSize || [64]byte(got.Bytes[0x50:]) != data || binary.LittleEndian.Uint32(got.Bytes[0x30:]) != 0 {
			t.Errorf("a report over other data: %d bytes", len(got.Bytes))
		}
	})
}
