// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto/sha512"
	"encoding/binary"
	"io"
)

// Size is the size of a launch measurement in bytes (ABI, section "Launch Digest").
const Size = sha512.Size384

const pageSize = 4096

// pageType is PAGE_TYPE of SNP_LAUNCH_UPDATE (ABI, section "SNP_LAUNCH_UPDATE", table
// "Encodings for the PAGE_TYPE Field").
type pageType uint8

const (
	pageNormal     pageType = 1
	pageVMSA       pageType = 2
	pageZero       pageType = 3
	pageUnmeasured pageType = 4
	pageSecrets    pageType = 5
	pageCPUID      pageType = 6
)

// vmsaAddress is the guest address in the PAGE_INFO of a VMSA: the largest one of a page
// below 2^52 (Linux, arch/x86/kvm/svm/sev.c, snp_launch_update_vmsa).
const vmsaAddress = 0xFFFFFFFFF000

// digest is a launch measurement that is not complete.
type digest [Size]byte

// add extends the measurement by one page. PAGE_INFO (ABI, section "SNP_LAUNCH_UPDATE",
// table "Layout of the PAGE_INFO Structure"), integers little-endian:
//
//	0x00 DIGEST_CUR   48  the measurement so far
//	0x30 CONTENTS     48  SHA-384 of the page, or zeros
//	0x60 LENGTH        2  0x70
//	0x62 PAGE_TYPE     1
//	0x63 IMI_PAGE      1  0: it is not part of an initial migration image
//	0x64 permissions   3  of VMPL 3, 2 and 1: none
//	0x67 reserved      1
//	0x68 GPA           8
func (d *digest) add(kind pageType, address uint64, contents [Size]byte) {
	var info [0x70]byte
	copy(info[:], d[:])
	copy(info[0x30:], contents[:])
	binary.LittleEndian.PutUint16(info[0x60:], uint16(len(info)))
	info[0x62] = byte(kind)
	binary.LittleEndian.PutUint64(info[0x68:], address)
	*d = sha512.Sum384(info[:])
}

// addBytes extends the measurement by a page with content.
func (d *digest) addBytes(kind pageType, address uint64, page *[pageSize]byte) {
	d.add(kind, address, sha512.Sum384(page[:]))
}

// addBare extends the measurement by pages whose content does not count.
func (d *digest) addBare(kind pageType, address, size uint64) {
	for at := address; at < address+size; at += pageSize {
		d.add(kind, at, [Size]byte{})
	}
}

// addImage extends the measurement by all pages of an image, from its first address on.
func (d *digest) addImage(address uint64, image Source) error {
	r := io.NewSectionReader(image, 0, image.Size())
	var page [pageSize]byte
	for at := int64(0); at < image.Size(); at += pageSize {
		if err := readInto(r, at, page[:]); err != nil {
			return err
		}
		d.addBytes(pageNormal, address+uint64(at), &page)
	}
	return nil
}
