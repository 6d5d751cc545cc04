// SPDX-License-Identifier: Apache-2.0

package snp

// EndorsementKeyOf lets a fuzz target change extensions behind the X.509 parser.
var EndorsementKeyOf = endorsementKey
