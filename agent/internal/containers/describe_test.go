// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"encoding/json"
	"testing"

	"github.com/cvm-agentd/agentd/internal/oci"
)

// TestAllDevices: rules that allow devices which the record does not name count as all devices,
// however they are written, and what each container may use does not.
func TestAllDevices(t *testing.T) {
	const none = `{"allow":false,"access":"rwm"}`
	for rules, want := range map[string]bool{
		`null`:                            true,
		`[]`:                              true,
		`[` + none + `]`:                  false,
		`[{"allow":true,"access":"rwm"}]`: true,
		`[{"allow":true,"type":"a","major":-1,"minor":-1,"access":"rwm"},` + none + `]`:                                                           false,
		`[` + none + `,{"allow":true,"type":"a","access":"rwm"}]`:                                                                                 true,
		`[` + none + `,{"allow":true,"type":"b","access":"rwm"}]`:                                                                                 true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"access":"rwm"}]`:                                                                       true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":-1,"access":"r"}]`:                                                              true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":0,"access":"w"}]`:                                                               true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":0}]`:                                                                            true,
		`[` + none + `,{"allow":true,"type":"c","major":1,"minor":1,"access":"rw"}]`:                                                              true,
		`[` + none + `,{"allow":true,"type":"c","major":1,"access":"rw"}]`:                                                                        true,
		`[` + none + `,{"allow":true,"type":"b","major":1,"minor":3,"access":"rw"}]`:                                                              true,
		`[` + none + `,{"allow":true,"type":"a","major":1,"minor":3,"access":"rw"}]`:                                                              true,
		`[` + none + `,{"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"}]`:                                                          false, // named
		`[` + none + `,{"allow":true,"type":"b","major":10,"minor":229,"access":"rwm"}]`:                                                          true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":0,"access":"rw"},` + none + `]`:                                                 false,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":0,"access":"rw"},{"allow":false,"type":"b","major":8,"minor":1,"access":"rw"}]`: true,
		// as engines write it
		`[` + none + `,{"allow":true,"type":"c","access":"m"},{"allow":true,"type":"b","access":"m"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},` +
			`{"allow":true,"type":"c","major":136,"access":"rwm"},{"allow":true,"type":"c","major":5,"minor":2,"access":"rwm"},{"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]`: false,
	} {
		s := &oci.Spec{Linux: &oci.Linux{Devices: []oci.Device{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}, Resources: new(oci.Resources)}}
		if err := json.Unmarshal([]byte(rules), &s.Linux.Resources.Devices); err != nil {
			t.Fatal(err)
		}
		if got := allDevices(s); got != want {
			t.Errorf("%s: %t", rules, got)
		}
	}
	if !allDevices(&oci.Spec{Linux: new(oci.Linux)}) {
		t.Error("without resources nothing is forbidden")
	}
}
