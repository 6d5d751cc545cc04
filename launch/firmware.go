// SPDX-License-Identifier: Apache-2.0

package launch

import "errors"

// firmware is what an image of OVMF says of itself.
type firmware struct {
	address  uint64 // of its first byte; it ends at 4 GiB
	reset    uint32 // where processors but the first start
	hashes   hashArea
	sections []section
}

// parseFirmware reads what an image says of itself.
func parseFirmware(image Source) (*firmware, error) {
	if err := checkImage(image, MaxFirmware); err != nil {
		return nil, err
	}
	f := &firmware{address: fourGiB - uint64(image.Size())}
	table, err := parseFooter(image)
	if err != nil {
		return nil, err
	}
	var found bool
	if f.reset, found, err = table.number(guidReset); err != nil {
		return nil, err
	}
	if !found || f.reset == 0 {
		return nil, errors.New("the table does not say where application processors start: the file is not firmware for SEV-SNP")
	}
	if f.hashes, err = table.hashArea(); err != nil {
		return nil, err
	}
	f.sections, err = parseSections(image, table)
	return f, err
}

// memory is the memory that the image occupies.
func (f *firmware) memory() section {
	return section{address: f.address, size: fourGiB - f.address}
}
