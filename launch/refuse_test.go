// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/launchtest"
	"github.com/cvm-agentd/agentd/launch"
)

// wants checks that a launch is refused with words.
func wants(t *testing.T, name, words string, c *launch.Config, vcpus ...int) {
	t.Helper()
	if m, err := launch.Measure(c, vcpus...); err == nil || m != nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: got %v, error %v, want %q", name, m, err, words)
	}
}

// faults are images that no host can launch as they are, each with one fault.
var faults = []struct {
	name   string
	change func(*launchtest.Image)
	words  string
	ovmf   bool // the numbers are about the sections and the size of ovmf
}{
	{"another table", func(i *launchtest.Image) { i.GUID = launchtest.GUIDOther }, "no table of GUIDs", false},
	{"table longer than the file", func(i *launchtest.Image) { i.Claimed = 0x4000 }, "claims", true},
	{"table shorter than its footer", func(i *launchtest.Image) { i.Entries, i.Claimed = nil, -1 }, "claims 17 bytes", false},
	{"table that begins in an entry", func(i *launchtest.Image) { i.Claimed = -2 }, "want 18 to", false},
	{"table that begins before its entries", func(i *launchtest.Image) { i.Claimed = 5 }, "begins with 5 bytes", false},
	{"entry twice", func(i *launchtest.Image) { i.Entries = append(i.Entries, i.Entries[0]) }, "occurs twice", false},
	{"no metadata", func(i *launchtest.Image) { i.Set(launchtest.GUIDMetadata, nil) }, "no SNP metadata", false},
	{"place of the metadata too short", func(i *launchtest.Image) { i.Set(launchtest.GUIDMetadata, []byte{0, 8}) }, "has 2 bytes of data, want 4", false},
	{"metadata before the file", func(i *launchtest.Image) { i.Set(launchtest.GUIDMetadata, launchtest.Words(0x4001)) }, "begin 16385 bytes before the end", true},
	{"metadata far before the file", func(i *launchtest.Image) { i.Set(launchtest.GUIDMetadata, launchtest.Words(math.MaxUint32)) }, "begin 4294967295 bytes", false},
	{"metadata in the last bytes", func(i *launchtest.Image) { i.Set(launchtest.GUIDMetadata, launchtest.Words(15)) }, "begin 15 bytes", false},
	{"metadata elsewhere", func(i *launchtest.Image) { i.Set(launchtest.GUIDMetadata, launchtest.Words(0x7FC)) }, "want \"ASEV\"", false},
	{"other metadata", func(i *launchtest.Image) { i.Magic = "TDVF" }, `begin with "TDVF"`, false},
	{"metadata of version 2", func(i *launchtest.Image) { i.Version = 2 }, "version 2", false},
	{"no section", func(i *launchtest.Image) { i.Sections = nil }, "with 0 sections", false},
	{"many sections", func(i *launchtest.Image) { i.Count = 65 }, "with 65 sections", false},
	{"very many sections", func(i *launchtest.Image) { i.Count = math.MaxUint32 }, "sections, want 1 to", false},
	{"metadata too short for their sections", func(i *launchtest.Image) { i.Length = 16 + 12*len(i.Sections) - 1 }, "sections need", false},
	{"metadata longer than the file", func(i *launchtest.Image) { i.Length = 0x801 }, "there are 2048", false},
	{"unknown section", func(i *launchtest.Image) { i.Sections[0][2] = 5 }, "unknown type 0x5", false},
	{"empty section", func(i *launchtest.Image) { i.Sections[0][1] = 0 }, "not whole pages", false},
	{"section of half a page", func(i *launchtest.Image) { i.Sections[0][1] = 0x800 }, "not whole pages", false},
	{"section at half a page", func(i *launchtest.Image) { i.Sections[0][0] += 0x800 }, "not whole pages", false},
	{"two secrets pages", func(i *launchtest.Image) { i.Sections[2][1] = 0x2000; i.Sections[1][0] = 0x820000 }, "want one page", true},
	{"second CPUID page", func(i *launchtest.Image) { i.Sections[0] = [3]uint32{0x800000, 0x1000, 3} }, "second of type 0x3", false},
	{"section beyond 4 GiB", func(i *launchtest.Image) { i.Sections[5] = [3]uint32{0xFFFFF000, 0x2000, 1} }, "beyond 4 GiB", true},
	{"sections of too much memory", func(i *launchtest.Image) { i.Sections[5] = [3]uint32{0x10000000, 0x10000000, 1} }, "more than", true},
	{"same section twice", func(i *launchtest.Image) { i.Sections[5] = i.Sections[0] }, "overlaps", true},
	{"section that begins in another", func(i *launchtest.Image) { i.Sections[5] = [3]uint32{0x808000, 0x2000, 1} }, "overlaps", true},
	{"section around another", func(i *launchtest.Image) { i.Sections[5] = [3]uint32{0x7FF000, 0x20000, 1} }, "overlaps", true},
}

// TestBadImages: a firmware or SVSM with a fault is refused with words that name it, with
// and without a kernel, and on every host. The images without the fault are measured.
func TestBadImages(t *testing.T) {
	measured(t, directBoot(launchtest.OVMF()), 1)
	measured(t, underSVSM(launchtest.OVMF(), launchtest.Coconut()), 1)
	for _, f := range faults {
		bad := launchtest.OVMF()
		f.change(bad)
		wants(t, f.name, "firmware: ", guest(bad), 1)
		wants(t, f.name, f.words, guest(bad), 1)
		wants(t, f.name, f.words, directBoot(bad), 1)
		cloud := guest(bad)
		cloud.VMM = launch.GCE
		wants(t, f.name, f.words, cloud, 1)
	}
	for _, f := range []struct {
		name   string
		change func(*launchtest.Image)
		words  string
	}{
		{"no reset address", func(i *launchtest.Image) { i.Set(launchtest.GUIDReset, nil) }, "where application processors start"},
		{"reset address of zero", func(i *launchtest.Image) { i.Set(launchtest.GUIDReset, launchtest.Words(0)) }, "where application processors start"},
		{"long reset address", func(i *launchtest.Image) { i.Set(launchtest.GUIDReset, launchtest.Words(1, 2)) }, "has 8 bytes of data, want 4"},
		{"place of the hash table without a size", func(i *launchtest.Image) { i.Set(launchtest.GUIDHashTable, launchtest.Words(0x810000)) }, "has 4 bytes of data, want 8"},
		{"section in the firmware", func(i *launchtest.Image) { i.Sections[5] = [3]uint32{0xFFFFB000, 0x2000, 1} }, "overlaps memory at 0xffffc000"},
	} {
		bad := launchtest.OVMF()
		f.change(bad)
		wants(t, f.name, f.words, guest(bad), 1)
		wants(t, f.name, f.words, directBoot(bad), 1)
	}
}

// TestBadSVSM: an SVSM with a fault is refused, and so is firmware under it.
func TestBadSVSM(t *testing.T) {
	for _, f := range faults {
		if f.ovmf {
			continue
		}
		bad := launchtest.Coconut()
		f.change(bad)
		wants(t, f.name, "SVSM: ", underSVSM(launchtest.OVMF(), bad), 1)
		wants(t, f.name, f.words, underSVSM(launchtest.OVMF(), bad), 1)
	}
	for _, f := range []struct {
		name   string
		change func(*launchtest.Image)
		words  string
	}{
		{"firmware in its place", func(i *launchtest.Image) { i.Set(launchtest.GUIDSVSM, nil) }, "is not an SVSM"},
		{"start of two numbers", func(i *launchtest.Image) { i.Set(launchtest.GUIDSVSM, launchtest.Words(1, 2)) }, "has 8 bytes of data"},
		{"start after its end", func(i *launchtest.Image) { i.Set(launchtest.GUIDSVSM, launchtest.Words(0x2000)) }, "starts at offset 0x2000"},
		{"section in it", func(i *launchtest.Image) { i.Sections[0] = [3]uint32{0xFFFF8000, 0x1000, 1} }, "overlaps memory at 0xffff8000"},
		{"section in the variables", func(i *launchtest.Image) { i.Sections[0] = [3]uint32{0xFFFFA000, 0x1000, 1} }, "overlaps memory at 0xffff8000"},
		{"section in the firmware", func(i *launchtest.Image) { i.Sections[0] = [3]uint32{0xFFFFF000, 0x1000, 1} }, "overlaps memory at 0xffff8000"},
		{"same section twice", func(i *launchtest.Image) { i.Sections[3] = i.Sections[0] }, "overlaps"},
		{"half a page", func(i *launchtest.Image) { i.Size += 0x800 }, "whole pages"},
		{"too large", func(i *launchtest.Image) { i.Size = launch.MaxSVSM + 0x1000 }, "an image has 4096 to"},
	} {
		bad := launchtest.Coconut()
		f.change(bad)
		wants(t, f.name, "SVSM: ", underSVSM(launchtest.OVMF(), bad), 1)
		wants(t, f.name, f.words, underSVSM(launchtest.OVMF(), bad), 1)
	}
	broken := launchtest.OVMF()
	broken.GUID = launchtest.GUIDOther
	wants(t, "broken firmware under an SVSM", "firmware: no table", underSVSM(broken, launchtest.Coconut()), 1)
	for size, words := range map[int64]string{-0x1000: "variables of -4096 bytes", 0x800: "want whole pages", launch.MaxVars + 0x1000: "at most"} {
		c := underSVSM(launchtest.OVMF(), launchtest.Coconut())
		c.VarsSize = size
		wants(t, "variables", words, c, 1)
	}
}

// TestKernelNeedsItsHashes: firmware without a place for the hashes boots any kernel, so a
// measurement that claims to cover one is refused.
func TestKernelNeedsItsHashes(t *testing.T) {
	for name, change := range map[string]func(*launchtest.Image){
		"no section":               func(i *launchtest.Image) { i.Sections = append(i.Sections[:4], i.Sections[5]) },
		"no entry":                 func(i *launchtest.Image) { i.Set(launchtest.GUIDHashTable, nil) },
		"entry of an address of 0": func(i *launchtest.Image) { i.Set(launchtest.GUIDHashTable, launchtest.Words(0, 0x400)) },
	} {
		bad := launchtest.OVMF()
		change(bad)
		measured(t, guest(bad), 1)
		if _, err := launch.Measure(directBoot(bad), 1); !errors.Is(err, launch.ErrNoHashTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for words, place := range map[string][]byte{
		"has 175 bytes, the table needs 176": launchtest.Words(0x810C00, 175),
		"0x80f000, is not in the section":    launchtest.Words(0x80F000, 0x400),
		"0x80ff80, is not in the section":    launchtest.Words(0x80FF80, 0x400),
		"0x810f51, is not in the section":    launchtest.Words(0x810F51, 0x400),
	} {
		bad := launchtest.OVMF()
		bad.Set(launchtest.GUIDHashTable, place)
		wants(t, "place", words, directBoot(bad), 1)
	}
	last := launchtest.OVMF()
	last.Set(launchtest.GUIDHashTable, launchtest.Words(0x810F50, 176))
	measured(t, directBoot(last), 1)
}

// TestBadLaunches: what no host launches is refused before a file is read.
func TestBadLaunches(t *testing.T) {
	for _, f := range []struct {
		name   string
		change func(*launch.Config)
		words  string
	}{
		{"no firmware", func(c *launch.Config) { c.Firmware = nil }, "firmware is missing"},
		{"unknown VMM", func(c *launch.Config) { c.VMM = "xen" }, `VMM "xen" is not known: want qemu, ec2, gce`},
		{"initrd without a kernel", func(c *launch.Config) { c.Kernel, c.CommandLine = nil, "" }, "a kernel must be given too"},
		{"command line without a kernel", func(c *launch.Config) { c.Kernel, c.Initrd = nil, nil }, "a kernel must be given too"},
		{"kernel on EC2", func(c *launch.Config) { c.VMM = launch.EC2 }, "ec2 does not boot a kernel"},
		{"kernel on GCE", func(c *launch.Config) { c.VMM = launch.GCE }, "gce does not boot a kernel"},
		{"variables without an SVSM", func(c *launch.Config) { c.VarsSize = 0x1000 }, "counts only with an SVSM"},
		{"SVSM with a kernel", func(c *launch.Config) { c.SVSM = c.Firmware }, "covers no kernel"},
		{"SVSM on GCE", func(c *launch.Config) {
			c.Kernel, c.Initrd, c.CommandLine, c.SVSM, c.VMM = nil, nil, "", c.Firmware, launch.GCE
		}, "only QEMU does"},
		{"features without SNP", func(c *launch.Config) { c.GuestFeatures = 0x20 }, "without bit 0"},
		{"no CPU", func(c *launch.Config) { c.CPU = 0 }, "signature of the processor is missing"},
		{"CPU with reserved bits", func(c *launch.Config) { c.CPU |= 1 << 31 }, "bits that are reserved"},
		{"empty kernel", func(c *launch.Config) { c.Kernel = strings.NewReader("") }, "kernel: the file is empty"},
		{"NUL in the command line", func(c *launch.Config) { c.CommandLine = "ro\x00rw" }, "contains a NUL"},
		{"long command line", func(c *launch.Config) { c.CommandLine = strings.Repeat("x", launch.MaxCommandLine+1) }, "command line of"},
		{"large kernel", func(c *launch.Config) { c.Kernel = sized{c.Kernel, launch.MaxBoot + 1} }, "kernel: 4294967296 bytes"},
		{"large initrd", func(c *launch.Config) { c.Initrd = sized{c.Initrd, launch.MaxBoot + 1} }, "initrd: 4294967296 bytes"},
		{"large firmware", func(c *launch.Config) { c.Firmware = sized{c.Firmware, launch.MaxFirmware + 4096} }, "an image has 4096 to"},
		{"very large firmware", func(c *launch.Config) { c.Firmware = sized{c.Firmware, math.MaxInt64} }, "an image has 4096 to"},
		{"negative size", func(c *launch.Config) { c.Firmware = sized{c.Firmware, -4096} }, "an image has 4096 to"},
		{"empty firmware", func(c *launch.Config) { c.Firmware = strings.NewReader("") }, "0 bytes: an image has"},
		{"part of a firmware", func(c *launch.Config) { c.Firmware = sized{c.Firmware, 0x4000 - 1} }, "truncated"},
		{"first half of a firmware", func(c *launch.Config) { c.Firmware = sized{c.Firmware, 0x2000} }, "no table of GUIDs"},
	} {
		c := directBoot(launchtest.OVMF())
		f.change(c)
		wants(t, f.name, f.words, c, 1)
	}
	for words, counts := range map[string][]int{
		"0 numbers": nil, "65 numbers": make([]int, 65), "0 processors": {0}, "-1 processors": {1, -1}, "4097 processors": {launch.MaxVCPUs + 1}, "2 processors are given twice": {2, 1, 2},
	} {
		wants(t, "counts", words, guest(launchtest.OVMF()), counts...)
	}
}

// sized is a source that claims another size.
type sized struct {
	io.ReaderAt
	size int64
}

func (s sized) Size() int64 { return s.size }

// failing fails at one read, or gives one byte less.
type failing struct {
	launch.Source
	left  *int
	short bool
}

var errRead = errors.New("the disk failed")

func (f failing) ReadAt(b []byte, at int64) (int, error) {
	if *f.left--; *f.left == 0 {
		if f.short {
			n, _ := f.Source.ReadAt(b[:len(b)-1], at)
			return n, io.EOF
		}
		return 0, errRead
	}
	return f.Source.ReadAt(b, at)
}

// TestReadsThatFail breaks each read of each file, as a failure and as an early end. There
// is an error every time and never a measurement.
func TestReadsThatFail(t *testing.T) {
	for name, of := range map[string]func(*launch.Config) *launch.Source{
		"firmware": func(c *launch.Config) *launch.Source { return &c.Firmware },
		"kernel":   func(c *launch.Config) *launch.Source { return &c.Kernel },
		"initrd":   func(c *launch.Config) *launch.Source { return &c.Initrd },
		"SVSM":     func(c *launch.Config) *launch.Source { return &c.SVSM },
		// the firmware under an SVSM
		"firmware: ": func(c *launch.Config) *launch.Source { return &c.Firmware },
	} {
		for _, short := range []bool{false, true} {
			for n := 1; ; n++ {
				c, left := directBoot(launchtest.OVMF()), n
				if name == "SVSM" || name == "firmware: " {
					c = underSVSM(launchtest.OVMF(), launchtest.Coconut())
				}
				source := of(c)
				*source = failing{*source, &left, short}
				m, err := launch.Measure(c, 1)
				if left > 0 {
					if n < 2 || err != nil {
						t.Errorf("%s: %d reads, %v", name, n-1, err)
					}
					break
				}
				want := errRead
				if short {
					want = io.ErrUnexpectedEOF
				}
				if m != nil || !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s, read %d, short %v: %v, %v", name, n, short, m, err)
				}
			}
		}
	}
}

// TestMemoryIsBounded measures the largest firmware with the largest table, sections and
// number of processors. It takes less memory than the firmware has.
func TestMemoryIsBounded(t *testing.T) {
	i := launchtest.OVMF()
	i.Size = launch.MaxFirmware
	i.Sections[5] = [3]uint32{0x10000000, 0x0F000000, 1}
	i.Back = 0x20000 // before the largest table
	i.Set(launchtest.GUIDMetadata, launchtest.Words(0x20000))
	for n := range 2900 { // 62 KiB of entries
		i.Entries = append(i.Entries, launchtest.Entry{GUID: fmt.Sprintf("%08d%s", n, launchtest.GUIDOther[8:]), Data: launchtest.Words(7)})
	}
	c := guest(i)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := launch.Measure(c, launch.MaxVCPUs, 1); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > launch.MaxFirmware/4 {
		t.Errorf("%d bytes were allocated", used)
	}
}
