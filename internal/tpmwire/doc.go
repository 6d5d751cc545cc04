// SPDX-License-Identifier: Apache-2.0

// Package tpmwire reads the structures of TPM 2.0 Part 2 that more than one package reads.
package tpmwire
