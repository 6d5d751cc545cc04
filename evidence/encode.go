// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// An encoder appends JSON objects, as [strictjson.Encode] encodes them. The agent encodes a
// statement for each request and what documents share for each batch, and reflection takes several
// times as long.
type encoder struct {
	b   []byte
	err error // the first one
}

func (e *encoder) begin() { e.b = append(e.b, '{') }
func (e *encoder) end()   { e.b = append(e.b, '}') }

// name appends the name of a member, and a comma before it unless it is the first of its object.
// Names are constants without characters that JSON escapes.
func (e *encoder) name(name string) {
	if n := len(e.b); n == 0 || e.b[n-1] != '{' {
		e.b = append(e.b, ',')
	}
	e.b = append(e.b, '"')
	e.b = append(e.b, name...)
	e.b = append(e.b, '"', ':')
}

func (e *encoder) text(name, value string) {
	e.name(name)
	b, err := jsontext.AppendQuote(e.b, value)
	if err != nil && e.err == nil {
		e.err = fmt.Errorf("%s: %w", name, err)
	}
	e.b = b
}

// textIf leaves out an empty text.
func (e *encoder) textIf(name, value string) {
	if value != "" {
		e.text(name, value)
	}
}

func (e *encoder) bytes(name string, value []byte) {
	e.name(name)
	e.base64(value)
}

func (e *encoder) base64(value []byte) {
	e.b = append(e.b, '"')
	e.b = base64.StdEncoding.AppendEncode(e.b, value)
	e.b = append(e.b, '"')
}

// bytesIf leaves out nil.
func (e *encoder) bytesIf(name string, value []byte) {
	if value != nil {
		e.bytes(name, value)
	}
}

// digestIf leaves out nil, and a digest that was never set.
func (e *encoder) digestIf(name string, value *Digest) {
	if value != nil && !value.IsZero() {
		e.bytes(name, value[:])
	}
}

func (e *encoder) number(name string, value uint64) {
	if value > strictjson.MaxInteger && e.err == nil {
		e.err = fmt.Errorf("%s: %w", name, strictjson.ErrInteger)
	}
	e.name(name)
	e.b = strconv.AppendUint(e.b, value, 10)
}

func (e *encoder) numberIf(name string, value *uint64) {
	if value != nil {
		e.number(name, *value)
	}
}

func (e *encoder) truth(name string, value bool) {
	e.name(name)
	e.b = strconv.AppendBool(e.b, value)
}

// list appends a member that is a list, with one to append each element.
func list[E any](e *encoder, name string, values []E, one func(E)) {
	e.name(name)
	e.b = append(e.b, '[')
	for i, v := range values {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		one(v)
	}
	e.b = append(e.b, ']')
}

func (s *Statement) encode(e *encoder) {
	e.begin()
	e.text("type", s.Type)
	e.bytes("nonce", s.Nonce)
	e.textIf("audience", s.Audience)
	e.bytesIf("userData", s.UserData)
	e.bytesIf("publicKey", s.PublicKey)
	e.bytesIf("keyProof", s.KeyProof)
	e.text("freshness", string(s.Freshness))
	e.bytes("salt", s.Salt)
	e.name("caller")
	s.Caller.encode(e)
	e.end()
}

func (c *Caller) encode(e *encoder) {
	e.begin()
	e.number("uid", uint64(c.UID))
	e.number("gid", uint64(c.GID))
	e.number("pid", uint64(c.PID))
	e.number("started", c.Started)
	e.numberIf("unitStarted", c.UnitStarted)
	e.textIf("unit", c.Unit)
	e.bytesIf("invocation", c.Invocation)
	e.textIf("app", c.App)
	e.text("method", string(c.Method))
	if c.Container != nil {
		e.name("container")
		c.Container.encode(e)
	}
	if c.Executable != nil {
		e.name("executable")
		c.Executable.encode(e)
	}
	e.end()
}

func (c *Container) encode(e *encoder) {
	e.begin()
	e.text("engine", c.Engine)
	e.text("id", c.ID)
	e.number("started", c.Started)
	e.bytes("root", c.Root[:])
	e.digestIf("image", c.Image)
	e.end()
}

func (x *Executable) encode(e *encoder) {
	e.begin()
	e.text("state", string(x.State))
	e.textIf("path", x.Path)
	e.digestIf("digest", x.Digest)
	e.truth("covered", x.Covered)
	e.end()
}

// encodeHead encodes the members before the statement.
func (v *Evidence) encodeHead(e *encoder) {
	e.begin()
	e.text("type", v.Type)
}

// encodeTail encodes the members after the inclusion.
func (v *Evidence) encodeTail(e *encoder) {
	e.name("batch")
	v.Batch.encode(e)
	e.bytes("agentSignature", v.AgentSignature)
	if v.Anchor != nil {
		e.name("anchor")
		v.Anchor.encode(e)
	}
	e.name("report")
	e.begin()
	e.text("kind", string(v.Report.Kind))
	e.bytes("bytes", v.Report.Bytes)
	e.end()
	e.bytes("agentKey", v.AgentKey)
	e.bytes("ak", v.AK)
	v.encodeLogs(e)
	if len(v.Certificates) > 0 {
		list(e, "certificates", v.Certificates, func(c Bytes) { e.base64(c) })
	}
	e.end()
}

func (v *Evidence) encodeLogs(e *encoder) {
	if v.Log != nil {
		e.name("log")
		e.begin()
		e.number("start", v.Log.Start)
		e.digestIf("previous", &v.Log.Previous)
		e.bytes("records", v.Log.Records)
		e.end()
	}
	if len(v.FirmwareLog) > 0 {
		e.bytes("firmwareLog", v.FirmwareLog)
	}
	if v.IMA != nil {
		e.name("ima")
		e.begin()
		e.number("start", v.IMA.Start)
		e.bytes("entries", v.IMA.Entries)
		e.end()
	}
}

func (i *Inclusion) encode(e *encoder) {
	e.begin()
	e.number("index", i.Index)
	if len(i.Path) > 0 {
		list(e, "path", i.Path, func(d Digest) { e.base64(d[:]) })
	}
	e.end()
}

func (s *Snapshot) encode(e *encoder) {
	e.begin()
	e.name("tree")
	e.begin()
	e.bytes("root", s.Tree.Root[:])
	e.number("size", s.Tree.Size)
	e.end()
	e.number("time", s.Time)
	e.name("logHead")
	e.begin()
	e.number("count", s.LogHead.Count)
	e.bytes("digest", s.LogHead.Digest[:])
	e.end()
	e.name("quote")
	e.begin()
	e.bytes("attest", s.Quote.Attest)
	e.bytes("signature", s.Quote.Signature)
	e.end()
	list(e, "pcrs", s.PCRs, func(b Bank) {
		e.begin()
		e.text("algorithm", b.Algorithm)
		list(e, "pcrs", b.PCRs, func(r PCR) {
			e.begin()
			e.number("index", uint64(r.Index))
			e.bytes("value", r.Value)
			e.end()
		})
		e.end()
	})
	e.end()
}
