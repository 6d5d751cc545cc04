// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	length := flag.Int("length", 6, "events in a history, with all items in place; one less without an item")
	traces := flag.Bool("traces", true, "print the trace of each attack")
	flag.Parse()
	if *length < 3 || *length > longest {
		fmt.Fprintf(os.Stderr, "model: -length is %d: use 3 to %d\n", *length, longest)
		os.Exit(2)
	}
	if !model(int8(*length), *traces) {
		os.Exit(1)
	}
}

// model runs everything and prints what it finds. It reports whether all is as claimed.
func model(length int8, traces bool) bool {
	begin, ok := time.Now(), true
	found, histories := run(length, 0, nil)
	fmt.Printf("all in place: %d histories of %d events\n\n%s\n", histories, length, boundaryTable())
	for _, difference := range differences(found) {
		fmt.Println("NOT AS CLAIMED: " + difference)
		ok = false
	}
	if traces {
		fmt.Println("The attacks at the boundary:")
		printBoundaries(found)
	}
	for i := range removals {
		r := &removals[i]
		trace, err := r.verify(length-1, length-1)
		switch {
		case err != nil:
			fmt.Printf("NOT AS CLAIMED: %v\n", err)
			ok = false
		case r.by == nothing:
			fmt.Printf("without %s: nothing breaks\n", itemNames[r.item])
		default:
			fmt.Printf("without %s: %q is broken by %s\n", only(r.item)|r.with, propertyNames[r.breaks].name, r.by)
		}
		if traces && trace != "" {
			fmt.Println(indent(trace))
		}
	}
	fmt.Printf("model: as claimed: %t, in %.0f s\n", ok, time.Since(begin).Seconds())
	return ok
}

func printBoundaries(found *findings) {
	for m := range modes {
		for p := range properties {
			for _, x := range found.boundaries[m][p] {
				fmt.Printf("%s: %q is broken by %s\n%s\n", modeNames[m], propertyNames[p].name, x.need, indent(x.trace))
			}
		}
	}
}
