// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// case 9: a wrong request gets the code of its fault, with the place.
func TestBadJSON(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	c := as(r.client, 1000)
	for name, x := range map[string]struct {
		body  string
		code  api.Code
		where string
	}{
		"empty":             {"", api.CodeMalformed, ""},
		"no JSON":           {"nonce=1", api.CodeMalformed, ""},
		"cut off":           {`{"nonce":"AAAA`, api.CodeMalformed, "/nonce"},
		"trailing value":    {`{"nonce":"` + goodNonce + `"} {}`, api.CodeMalformed, ""},
		"trailing bracket":  {`{"nonce":"` + goodNonce + `"}}`, api.CodeMalformed, ""},
		"trailing nul":      {`{"nonce":"` + goodNonce + "\"}\x00", api.CodeMalformed, ""},
		"comment":           {`{"nonce":"` + goodNonce + `"/**/}`, api.CodeMalformed, ""},
		"invalid UTF-8":     {"{\"audience\":\"\xff\",\"nonce\":\"" + goodNonce + `"}`, api.CodeMalformed, ""},
		"duplicate":         {`{"nonce":"` + goodNonce + `","nonce":"` + goodNonce + `"}`, api.CodeDuplicateMember, "/nonce"},
		"duplicate escaped": {`{"nonce":"` + goodNonce + `","\u006eonce":"` + goodNonce + `"}`, api.CodeDuplicateMember, "/nonce"},
		"unknown":           {`{"nonce":"` + goodNonce + `","x":1}`, api.CodeUnknownMember, "/x"},
		"other case":        {`{"Nonce":"` + goodNonce + `"}`, api.CodeUnknownMember, "/Nonce"},
		"array":             {`[]`, api.CodeInvalidValue, ""},
		"null nonce":        {`{"nonce":null}`, api.CodeInvalidValue, "/nonce"},
		"number for nonce":  {`{"nonce":1}`, api.CodeInvalidValue, "/nonce"},
		"loose base64":      {`{"nonce":"AAAAAAAAAAAAAAAAAAAAAB=="}`, api.CodeInvalidValue, "/nonce"},
		"base64url":         {`{"nonce":"____AAAAAAAAAAAAAAAAAA=="}`, api.CodeInvalidValue, "/nonce"},
		"base64 with break": {`{"nonce":"AAAAAAAAAAAA\nAAAAAAAAAA=="}`, api.CodeInvalidValue, "/nonce"},
		"no nonce":          {`{}`, api.CodeInvalidValue, "/nonce"},
		"null":              {`null`, api.CodeInvalidValue, ""},
		"short nonce":       {`{"nonce":"AAAA"}`, api.CodeInvalidValue, "/nonce"},
		"long nonce":        {`{"nonce":"` + base64Of(make([]byte, 65)) + `"}`, api.CodeInvalidValue, "/nonce"},
		"long audience":     {`{"nonce":"` + goodNonce + `","audience":"` + strings.Repeat("a", 257) + `"}`, api.CodeInvalidValue, "/audience"},
		"control character": {`{"nonce":"` + goodNonce + `","audience":"a\u001bb"}`, api.CodeInvalidValue, "/audience"},
		"C1 control":        {`{"nonce":"` + goodNonce + `","audience":"a\u009bb"}`, api.CodeInvalidValue, "/audience"},
		"turned around":     {`{"nonce":"` + goodNonce + `","audience":"a\u202eb"}`, api.CodeInvalidValue, "/audience"},
		"line separator":    {`{"nonce":"` + goodNonce + `","audience":"a\u2028b"}`, api.CodeInvalidValue, "/audience"},
		"long user data":    {`{"nonce":"` + goodNonce + `","userData":"` + base64Of(make([]byte, 4097)) + `"}`, api.CodeInvalidValue, "/userData"},
		"long key":          {`{"nonce":"` + goodNonce + `","publicKey":"` + base64Of(make([]byte, 8193)) + `"}`, api.CodeInvalidValue, "/publicKey"},
		"freshness":         {`{"nonce":"` + goodNonce + `","freshness":"Fresh"}`, api.CodeInvalidValue, "/freshness"},
		"log":               {`{"nonce":"` + goodNonce + `","log":"all"}`, api.CodeInvalidValue, "/log"},
		"log start alone":   {`{"nonce":"` + goodNonce + `","logStart":1}`, api.CodeInvalidValue, "/logStart"},
		"negative start":    {`{"nonce":"` + goodNonce + `","log":"from","logStart":-1}`, api.CodeInvalidValue, "/logStart"},
		"start of 2^53":     {`{"nonce":"` + goodNonce + `","log":"from","logStart":9007199254740992}`, api.CodeInvalidValue, "/logStart"},
		"start without IMA": {`{"nonce":"` + goodNonce + `","imaStart":1}`, api.CodeInvalidValue, "/imaStart"},
		"negative IMA":      {`{"nonce":"` + goodNonce + `","ima":true,"imaStart":-1}`, api.CodeInvalidValue, "/imaStart"},
		"IMA at 2^53":       {`{"nonce":"` + goodNonce + `","ima":true,"imaStart":9007199254740992}`, api.CodeInvalidValue, "/imaStart"},
		"IMA as a number":   {`{"nonce":"` + goodNonce + `","ima":1}`, api.CodeInvalidValue, "/ima"},
		"null audience":     {`{"nonce":"` + goodNonce + `","audience":null}`, api.CodeInvalidValue, "/audience"},
		"huge start":        {`{"nonce":"` + goodNonce + `","log":"from","logStart":1e30}`, api.CodeInvalidValue, "/logStart"},
		"deep":              {`{"nonce":` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000) + `}`, api.CodeInvalidValue, "/nonce"},
		"deeper":            {`{"nonce":` + strings.Repeat("[", 16000) + strings.Repeat("]", 16000) + `}`, api.CodeMalformed, ""},
		"deep unknown":      {strings.Repeat(`{"a":`, 4000) + "1" + strings.Repeat("}", 4000), api.CodeUnknownMember, "/a"},
		"oversize":          {`{"nonce":"` + strings.Repeat("A", int(api.CallEvidence.Body)) + `"}`, api.CodeTooLarge, ""},
		// case 10: the caller cannot choose what only the agent may.
		"report data":     {`{"nonce":"` + goodNonce + `","reportData":"AAAA"}`, api.CodeUnknownMember, "/reportData"},
		"qualifying data": {`{"nonce":"` + goodNonce + `","qualifyingData":"AAAA"}`, api.CodeUnknownMember, "/qualifyingData"},
		"salt":            {`{"nonce":"` + goodNonce + `","salt":"AAAAAAAAAAAAAAAAAAAAAA=="}`, api.CodeUnknownMember, "/salt"},
		"caller":          {`{"nonce":"` + goodNonce + `","caller":{"uid":0}}`, api.CodeUnknownMember, "/caller"},
		"uid":             {`{"nonce":"` + goodNonce + `","uid":0}`, api.CodeUnknownMember, "/uid"},
	} {
		status, b, p := ask(t, c, "POST", api.CallEvidence.Path, x.body)
		if p == nil || p.Code != x.code || p.Where != x.where || status/100 != 4 {
			t.Errorf("%s: %d %s; want %s at %q", name, status, b, x.code, x.where)
		}
		if len(b) > 1024 {
			t.Errorf("%s: answer of %d bytes repeats what was sent", name, len(b))
		}
	}
	if n := r.fake.calls.Load(); n != 0 {
		t.Errorf("%d bad requests were attested", n)
	}
}

// case 9: a body of a gigabyte is not read, and not held.
func TestEndlessBody(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	sent := &counter{Reader: endless{}}
	request, _ := http.NewRequest("POST", "http://agentd"+api.CallEvidence.Path, io.LimitReader(sent, 1<<30))
	answer, err := as(r.client, 1000).Do(request)
	if err == nil {
		answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", answer.StatusCode)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
	if sent.n.Load() > 8<<20 {
		t.Errorf("%d bytes were taken from the client", sent.n.Load())
	}
}

func FuzzEvidenceRequest(f *testing.F) {
	f.Add([]byte(`{"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","audience":"a","log":"from","logStart":1}`))
	f.Add([]byte(`{"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","nonce":1}`))
	f.Add([]byte(`{"\ud800":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r api.EvidenceRequest
		err := decode(body, &r)
		if err != nil {
			var p *api.Problem
			if !errors.As(err, &p) || p.Code.Info().Status != 400 {
				t.Fatal(err)
			}
			return
		}
		if checkEvidence(&r) != nil {
			return
		}
		// What passes can go into a statement.
		s := evidence.Statement{
			Type: evidence.StatementType, Nonce: r.Nonce, Audience: r.Audience, UserData: r.UserData, PublicKey: r.PublicKey,
			Freshness: r.Freshness, Salt: make([]byte, 16), Caller: evidence.Caller{PID: 1, Method: evidence.MethodPidfd},
		}
		if _, err := s.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}
