// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"reflect"
	"testing"
)

func TestSamples(t *testing.T) {
	got, err := samples("# TYPE a gauge\n# HELP a X.\na{x=\"y z\",w=\"\\\"\"} 1.5\nb_total 7\n# EOF\n")
	if want := map[string]float64{`a{x="y z",w="\""}`: 1.5, "b_total": 7}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"a\n", "a x\n", "\n", "a 1 \n"} {
		if got, err := samples(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	if got, err := samples("a +Inf\n"); err != nil || !math.IsInf(got["a"], 1) {
		t.Errorf("%v, %v", got, err)
	}
}
