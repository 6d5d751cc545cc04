// SPDX-License-Identifier: Apache-2.0

// Package kds fetches what AMD's key distribution service hands out and keeps it in a
// folder: certificates of chip keys, the certificates above them, and revocation lists
// (VCEK Certificate and KDS Interface Specification, publication 57230; VLEK, 58369).
//
// Every request is made once. The service allows one request for a chip's certificate
// in about ten seconds and then answers 429; whoever tries again at once is served
// later, not sooner. Nothing here is trusted: what was fetched is checked for being
// what was asked for, so that the cache holds no garbage, and package verify decides.
package kds
