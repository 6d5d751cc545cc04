// SPDX-License-Identifier: Apache-2.0

// Package snp asks the AMD security processor for reports and derived keys through
// /dev/sev-guest of Linux (Documentation/virt/coco/sev-guest.rst,
// include/uapi/linux/sev-guest.h).
//
// A guest that asks wrongly, or too often, loses: hosts allow about one report in two
// seconds, and after a message that it cannot account for, the kernel wipes the key that it
// shares with the processor, until the next boot. So all requests wait in one queue, one at a
// time and spaced. Each is checked before it is sent. None is sent again, except once if the
// host asked for more room for its certificates.
package snp
