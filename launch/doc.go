// SPDX-License-Identifier: Apache-2.0

// Package launch computes the launch measurement of an SEV-SNP guest from the files that it
// is launched with, before it runs anywhere. A report shows this value as MEASUREMENT, and
// a [[launch]] rule of a policy lists it. The package also makes and checks ID blocks, with
// which the owner of a guest signs what the host may launch.
//
// The measurement is a chain of SHA-384. It begins with 48 zero bytes. For each page that
// the host gives to the firmware of the processor it becomes the hash of a PAGE_INFO, which
// contains the value so far (file digest.go). The order for QEMU is:
//
//	pages of the firmware image     it ends at 4 GiB
//	sections that the image names   zeroed memory, secrets, CPUID, hashes of the kernel
//	one VMSA for each processor     its registers at reset
//
// An image says the rest about itself (files footer.go and sections.go): a table of GUIDs
// near its end leads to the list of sections, to the address at which all processors but
// the first start, and to the place of the hash table. If QEMU boots a kernel directly, that
// table contains SHA-256 of command line, initrd and kernel (file hashtable.go), so one
// measurement covers all of them. Without it the measurement covers the firmware alone.
//
// What a host contributes is in file vmm.go: QEMU, EC2 and GCE give processors other
// registers, and treat some sections in another way.
//
// Nothing here opens a file or asks a device. Files are hostile input: each size and count
// has a bound (file limits.go), and an image is read in pieces. A measurement says nothing
// about the guest policy, which a report states beside it: the same measurement with
// debugging allowed hides nothing from the host.
//
// Sources: "SEV Secure Nested Paging Firmware ABI Specification" (AMD publication 56860,
// cited as "ABI"), "AMD64 Architecture Programmer's Manual Volume 2: System Programming"
// (24593, "APM"), "CPUID Specification" (25481, "CPUID"), and source text of the programs
// that decide the rest: EDK II (OvmfPkg/ResetVector), QEMU (hw/i386, target/i386) and the
// SVSM of the COCONUT project.
package launch
