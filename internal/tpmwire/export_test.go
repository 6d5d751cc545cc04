// SPDX-License-Identifier: Apache-2.0

package tpmwire

// SigningPublic is signingPublic for the tests outside the package.
var SigningPublic = signingPublic
