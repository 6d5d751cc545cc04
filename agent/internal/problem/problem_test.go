// SPDX-License-Identifier: Apache-2.0

package problem

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

func TestNew(t *testing.T) {
	for _, x := range api.Codes() {
		p := New(x.Code, "d")
		if p.Status != x.Status || !strings.HasSuffix(p.Type, "/docs/api.md#"+string(x.Code)) || p.Title != x.Title || p.Code != x.Code || p.Detail != "d" {
			t.Errorf("%s: %+v", x.Code, p)
		}
	}
	if p := New(api.CodeInternal, errors.Join(errors.New("a"), errors.New("b")).Error()); p.Detail != "a; b" {
		t.Errorf("joined errors: %q", p.Detail)
	}
	if p := Invalid("/nonce", "d"); p.Code != api.CodeInvalidValue || p.Where != "/nonce" || p.Detail != "d" {
		t.Errorf("%+v", p)
	}
}

func TestAfter(t *testing.T) {
	for d, want := range map[time.Duration]int{0: 1, time.Millisecond: 1, time.Second: 1, time.Second + 1: 2, time.Minute: 60} {
		if p := After(New(api.CodeBusy, ""), d); p.RetryAfter != want {
			t.Errorf("%v: %d seconds, want %d", d, p.RetryAfter, want)
		}
	}
}
