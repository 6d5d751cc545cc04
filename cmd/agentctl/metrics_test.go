// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"reflect"
	"strconv"
	"testing"

	"github.com/cvm-agentd/agentd/internal/strictjson"
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
	// Whatever a sum of times is, it can be encoded, and integers stay as they are.
	for _, text := range []string{"0.99999999999999989", "0.030000000000000002", "0.00012345678901234567", "1.2345678901234567e-05", "9.876543210987654", "123456.78901234567", "9007199254740991", "NaN"} {
		all, err := samples("a " + text + "\n")
		if _, encoded := strictjson.Encode(all); err != nil || encoded != nil && text != "NaN" {
			t.Errorf("%s: %v, %v", text, err, encoded)
		}
		if want, _ := strconv.ParseFloat(text, 64); math.Abs(all["a"]-want) > want*1e-14 || want == math.Trunc(want) && all["a"] != want {
			t.Errorf("%s: %v", text, all)
		}
	}
	if got, err := samples("a +Inf\n"); err != nil || !math.IsInf(got["a"], 1) {
		t.Errorf("%v, %v", got, err)
	}
}
