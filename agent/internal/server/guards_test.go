// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// The default administrator is only root.
func TestDefaultAdmin(t *testing.T) {
	if s := New(Config{}); !slices.Equal(s.AdminUIDs, []uint32{0}) {
		t.Errorf("got %v", s.AdminUIDs)
	}
}

// keeper keeps the slices of secrets that pass by.
type keeper struct {
	*fake
	derived, unsealed, sealed []byte
}

func (k *keeper) Derive(context.Context, Owner, api.DeriveRequest) (api.Derived, error) {
	k.derived = []byte("secret")
	return api.Derived{Secret: k.derived}, nil
}

func (k *keeper) Unseal(context.Context, Owner, api.UnsealRequest) ([]byte, error) {
	k.unsealed = []byte("secret")
	return k.unsealed, nil
}

func (k *keeper) Seal(_ context.Context, _ Owner, r api.SealRequest) error {
	k.sealed = r.Data
	return nil
}

// Secrets are overwritten once they were sent, or taken.
func TestSecretsAreOverwritten(t *testing.T) {
	k := &keeper{fake: &fake{}}
	r := run(t, k.fake, Limits{}, func(c *Config) { c.Keys = k })
	c := as(r.client, 1000)
	want := base64Of([]byte("secret"))
	for path, body := range map[string]string{
		api.CallDerive.Path: `{"label":"disk","length":6}`,
		api.CallUnseal.Path: `{"name":"token"}`,
		api.CallSeal.Path:   `{"name":"token","data":"` + want + `"}`,
	} {
		status, b, _ := ask(t, c, "POST", path, body)
		if status != 200 || path != api.CallSeal.Path && !strings.Contains(string(b), want) {
			t.Errorf("%s: %d %s", path, status, b)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil { // their senders have ended
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"derived": k.derived, "unsealed": k.unsealed, "sealed": k.sealed} {
		if !bytes.Equal(b, make([]byte, 6)) {
			t.Errorf("%s: %q is left", name, b)
		}
	}
}

// case 9: a body that is announced to be huge is refused before room is made for it.
func TestAnnouncedBody(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	for _, path := range []string{api.CallEvidence.Path, api.CallSelf.Path, "/v1/nowhere"} {
		c, err := dial(r.client, 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		method, want := "GET", http.StatusRequestEntityTooLarge
		switch path {
		case api.CallEvidence.Path:
			method = "POST"
		case "/v1/nowhere":
			want = http.StatusNotFound
		}
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", method, path, int64(1)<<50)
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.StatusCode != want {
			t.Errorf("%s: %v %v, want status %d", path, answer, err, want)
		}
	}
}

// Names that a caller made up come back in part only.
func TestLongParameter(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	_, b, p := ask(t, as(r.client, 1000), "GET", api.CallSelf.Path+"?"+strings.Repeat("%1b", 1000)+"=1", "")
	if p == nil || p.Code != api.CodeUnknownParameter || len(b) > 1024 || bytes.ContainsRune(b, 0x1b) {
		t.Errorf("%d bytes: %.200s", len(b), b)
	}
}

// A connection that is evicted while its request is being read is still answered: the agent
// reads no more from it, but its peer waits.
func TestRetiredIsAnswered(t *testing.T) {
	var first atomic.Bool
	reading, goOn := make(chan struct{}), make(chan struct{})
	f := &fake{attest: func(ctx context.Context, q api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		select {
		case <-ctx.Done():
			return nil, errors.New("taken for gone")
		case <-time.After(200 * time.Millisecond): // for what must not come
			return answerFor(q, c), nil
		}
	}}
	r := run(t, f, Limits{Connections: 8, ConnectionsEach: 2, Requests: 12, RequestsEach: 6}, func(c *Config) {
		c.Identifier = arrivals{fakeIdentifier{}, func(uint32) {
			if first.CompareAndSwap(false, true) {
				close(reading)
				<-goOn
			}
		}}
	})
	c, err := dial(r.client, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "POST /v1/evidence HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(nonceBody(1)), nonceBody(1))
	<-reading
	for range 3 {
		other, err := dial(r.client, 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
	}
	eventually(t, "it gave way", func() bool {
		r.shares[Client].conns.mu.Lock()
		defer r.shares[Client].conns.mu.Unlock()
		for x := range r.shares[Client].conns.open {
			if x.retired.Load() {
				return true
			}
		}
		return false
	})
	close(goOn)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(answer.Body); answer.StatusCode != 200 {
		t.Errorf("%d %s", answer.StatusCode, b)
	}
}

// A digest is needed to authorise or withdraw one, and an app to ask for a contract.
func TestStoreParameters(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	c := as(r.admin, 1000)
	for _, x := range []struct{ method, target, body, where string }{
		{"POST", api.CallDigests.Path, `{"app":"billing","action":"authorize"}`, "/digest"},
		{"POST", api.CallDigests.Path, `{"app":"billing","action":"withdraw"}`, "/digest"},
		{"POST", api.CallDigests.Path, `{"app":"billing","action":"forget"}`, "/action"},
		{"GET", api.CallStoreContract.Path, "", "app"},
		{"GET", api.CallStoreContract.Path + "?name=token", "", "app"},
	} {
		_, b, p := ask(t, c, x.method, x.target, x.body)
		if p == nil || p.Code != api.CodeInvalidValue || p.Where != x.where {
			t.Errorf("%s %s %s: %s", x.method, x.target, x.body, b)
		}
	}
}
