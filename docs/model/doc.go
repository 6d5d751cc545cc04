// SPDX-License-Identifier: Apache-2.0

// Command model is a formal model of evidence. It searches a bounded world for documents that
// a verifier accepts although a property does not hold, with everything in place and without
// each commitment and check. README.md explains it.
//
// An example of what it finds: without the root in a quote's qualifying data, root of a guest
// takes a measurement back.
//
//  1. the agent measures an application
//  2. an attacker who is root signs a tree of its own, with a quote from before event 1
//
// claims.go has what the search has to find, and items.go what it removes.
package main
