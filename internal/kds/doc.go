// SPDX-License-Identifier: Apache-2.0

// Package kds fetches from AMD's key distribution service, and keeps the answers in a folder.
// They are certificates of chip keys, the certificates above them, and revocation lists (VCEK
// Certificate and KDS Interface Specification, publication 57230; VLEK, 58369).
//
// Every request is made once. The service allows one request for a chip's certificate in about
// ten seconds and then answers 429. A client that tries again at once is served later, not
// sooner. The answers are not trusted: the package only checks that they are what was asked
// for, to keep garbage out of the cache. Package verify decides.
package kds
