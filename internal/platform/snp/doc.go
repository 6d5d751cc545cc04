// SPDX-License-Identifier: Apache-2.0

// Package snp asks the AMD security processor for reports and derived keys through
// /dev/sev-guest of Linux (Documentation/virt/coco/sev-guest.rst,
// include/uapi/linux/sev-guest.h).
//
// A guest that asks wrongly, or too often, loses: hosts allow about one report in
// two seconds, and a message that the kernel cannot account for makes it wipe the
// key that it talks to the processor with, until the next boot. So all requests
// stand in one queue, one at a time and spaced; each is checked before it is sent;
// and nothing is sent again, but once when the host asked for more room for its
// certificates.
package snp
