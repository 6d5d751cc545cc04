// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"math"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/collateral"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/conformance"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/internal/oci"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/internal/tunnel"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// documents are the exported types that are written or read as JSON. Types inside them need
// no entry.
var documents = []reflect.Type{
	reflect.TypeFor[evidence.Evidence](), reflect.TypeFor[evidence.Statement](), reflect.TypeFor[pcr.Event](),
	reflect.TypeFor[verify.Appraisal](), reflect.TypeFor[verify.Claims](), reflect.TypeOf((*verify.Policy).Explain).Out(0).Elem(),
	reflect.TypeFor[keys.Challenge](), reflect.TypeFor[keys.Enrolment](), reflect.TypeFor[keys.Listed](), reflect.TypeFor[tpmkeys.Auths](), reflect.TypeFor[collateral.Fetched](),
	reflect.TypeFor[relying.Challenge](), reflect.TypeFor[relying.Request](), reflect.TypeFor[relying.Answer](), reflect.TypeFor[relying.History](),
	reflect.TypeFor[api.Problem](), reflect.TypeFor[api.Status](), reflect.TypeFor[api.Self](), reflect.TypeFor[api.Process](), reflect.TypeFor[api.Apps](), reflect.TypeFor[api.Reloaded](),
	reflect.TypeFor[api.AK](), reflect.TypeFor[api.ActivateRequest](), reflect.TypeFor[api.Activated](), reflect.TypeFor[api.Replaced](),
	reflect.TypeFor[api.EvidenceRequest](), reflect.TypeFor[api.DeriveRequest](), reflect.TypeFor[api.Derived](),
	reflect.TypeFor[api.SignRequest](), reflect.TypeFor[api.Signed](), reflect.TypeFor[api.PublicKey](), reflect.TypeFor[api.CertifyRequest](), reflect.TypeFor[api.Certified](),
	reflect.TypeFor[api.SealRequest](), reflect.TypeFor[api.Sealed](), reflect.TypeFor[api.UnsealRequest](), reflect.TypeFor[api.Unsealed](),
	reflect.TypeFor[api.DiscardRequest](), reflect.TypeFor[api.Discarded](), reflect.TypeFor[api.KeyStatus](), reflect.TypeFor[api.Store](), reflect.TypeFor[api.SealedBlob](), reflect.TypeFor[api.Contract](),
	reflect.TypeFor[api.Rewritten](), reflect.TypeFor[api.RotateRequest](), reflect.TypeFor[api.RetireRequest](), reflect.TypeFor[api.RootVersion](),
	reflect.TypeFor[api.RecoverRequest](), reflect.TypeFor[api.RecipientsRequest](), reflect.TypeFor[api.DigestRequest](), reflect.TypeFor[api.Probed](),
	reflect.TypeFor[api.SecretRequest](), reflect.TypeFor[api.RemoveSecretRequest](), reflect.TypeFor[api.Secrets](), reflect.TypeFor[api.ProvisionedSecret](),
	reflect.TypeFor[api.DiskHeader](), reflect.TypeFor[api.DiskArea](), reflect.TypeFor[api.Disk](), reflect.TypeFor[api.Disks](), reflect.TypeFor[api.DiskRequest](),
	reflect.TypeFor[api.DiskChecked](), reflect.TypeFor[api.DiskKey](), reflect.TypeFor[api.DiskEnrollRequest](), reflect.TypeFor[api.DiskChangeRequest](), reflect.TypeFor[api.DiskName](),
	reflect.TypeFor[api.ContainerRequest](), reflect.TypeFor[api.Containers](), reflect.TypeFor[oci.Spec](), reflect.TypeFor[oci.State](),
	reflect.TypeFor[api.ReleaseKeyRequest](), reflect.TypeFor[api.PrepareRequest](), reflect.TypeFor[api.PreparedUpgrade](),
	reflect.TypeFor[api.SuccessorRequest](), reflect.TypeFor[api.SuccessorMessage](), reflect.TypeFor[api.HandOverRequest](), reflect.TypeFor[api.HandedOver](),
	reflect.TypeFor[api.AcceptUpgradeRequest](), reflect.TypeFor[api.AcceptedUpgrade](), reflect.TypeFor[api.AbortedUpgrade](),
	reflect.TypeFor[api.EventRequest](), reflect.TypeFor[api.RecordedEvent](), reflect.TypeFor[api.Events](), reflect.TypeFor[api.Event](), reflect.TypeFor[api.EventQuota](),
	reflect.TypeFor[gatewire.ToAgent](), reflect.TypeFor[gatewire.ToGate](),
	reflect.TypeFor[store.Upgrade](), reflect.TypeFor[transfer.Release](),
	reflect.TypeFor[api.TicketRequest](), reflect.TypeFor[api.DeliveryTicket](), reflect.TypeFor[api.ReceiveRequest](), reflect.TypeFor[api.ReceivedSecret](),
	reflect.TypeFor[delivery.Record](), reflect.TypeFor[delivery.Sent](), reflect.TypeFor[tunnel.Record](), reflect.TypeFor[conformance.Report](),
}

// TestNumbersInJSON sets each number of each JSON type to more than 2^53 - 1. Nothing may
// write that number: either the type writes it as text, or encoding it is an error, and so
// is reading it. The largest number that is allowed passes both ways.
func TestNumbersInJSON(t *testing.T) {
	types, numbers := map[reflect.Type]bool{}, 0
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array}, typ.Kind()) {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || types[typ] || !strings.HasPrefix(typ.PkgPath(), module) {
			return
		}
		types[typ] = true
		for f := range typ.Fields() {
			walk(f.Type)
			if f.IsExported() && f.Tag.Get("json") != "-" {
				numbers += checkNumber(t, typ, f)
			}
		}
	}
	for _, d := range documents {
		walk(d)
	}
	if numbers < 40 {
		t.Fatalf("found only %d numbers of 64 bits: the walk is wrong", numbers)
	}
	known := func(folder, name string) bool {
		for typ := range types {
			if typ.PkgPath() == module+"/"+folder && typ.Name() == name {
				return true
			}
		}
		return false
	}
	sources(t, func(file string, _ *token.FileSet, f *ast.File) {
		// Other modules cannot be linked here. They write JSON by strictjson, which refuses such numbers,
		// and TestModulesAreApart holds them to that.
		apart := slices.Contains(modules, top(file))
		if folder := path.Dir(file); !apart && !testOnly(folder) && !strings.HasSuffix(file, "_test.go") {
			for _, name := range taggedStructs(f) {
				if !known(folder, name) {
					t.Errorf("%s: %s is written as JSON and not in the list of this test: add it to documents", file, name)
				}
			}
		}
	})
}

// checkNumber checks what JSON makes of field f of typ, and returns 1 if it is a number of
// 64 bits. Numbers of 32 bits fit, and fractions are not part of any document.
func checkNumber(t *testing.T, typ reflect.Type, f reflect.StructField) int {
	name := fmt.Sprintf("%v.%s", typ, f.Name)
	at := f.Type
	if at.Kind() == reflect.Pointer {
		at = at.Elem()
	}
	set := reflect.Value.SetUint
	switch at.Kind() {
	case reflect.Uint64, reflect.Uint, reflect.Uintptr:
	case reflect.Int64, reflect.Int:
		set = func(v reflect.Value, n uint64) { v.SetInt(int64(min(n, math.MaxInt64))) }
	case reflect.Float32, reflect.Float64, reflect.Interface:
		t.Errorf("%s is a %v: documents have integers and named types only", name, at)
		return 0
	default:
		return 0
	}
	encode := func(n uint64) ([]byte, error) {
		v, to := reflect.New(typ), reflect.New(at)
		set(to.Elem(), n)
		if f.Type.Kind() != reflect.Pointer {
			to = to.Elem()
		}
		v.Elem().FieldByIndex(f.Index).Set(to)
		return strictjson.Encode(v.Interface())
	}
	for _, n := range []uint64{strictjson.MaxInteger + 1, math.MaxInt64, math.MaxUint64} {
		if b, err := encode(n); err == nil && longNumber.Match(quoted.ReplaceAll(b, nil)) {
			t.Errorf("%s: %d is written as %s", name, n, b)
		}
	}
	b, err := encode(strictjson.MaxInteger)
	if err != nil {
		t.Errorf("%s: the largest integer: %v", name, err)
		return 1
	}
	again, only := reflect.New(typ), reflect.New(typ) // other numbers of again may say that they are absent
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	one := regexp.MustCompile(`"` + tag + `":("[^"]*"|[0-9]+)`).FindSubmatch(b)
	if one == nil {
		t.Errorf("%s is not in %s", name, b)
		return 1
	}
	if err := strictjson.Decode(fmt.Appendf(nil, `{%q:%s}`, tag, one[1]), len(b), again.Interface()); err != nil {
		t.Errorf("%s: read %s: %v", name, one[0], err)
		return 1
	}
	only.Elem().FieldByIndex(f.Index).Set(again.Elem().FieldByIndex(f.Index))
	if back, err := strictjson.Encode(only.Interface()); err != nil || !bytes.Contains(back, one[0]) {
		t.Errorf("%s: %s is read as %v and written as %s, %v", name, one[0], again.Elem().FieldByIndex(f.Index), back, err)
	}
	if bytes.HasPrefix(one[1], []byte(`"`)) {
		return 1
	}
	if err := strictjson.Decode(fmt.Appendf(nil, `{%q:%d}`, tag, strictjson.MaxInteger+1), len(b), again.Interface()); err == nil {
		t.Errorf("%s: %d is read", name, strictjson.MaxInteger+1)
	}
	return 1
}

var (
	quoted     = regexp.MustCompile(`"[^"]*"`)
	longNumber = regexp.MustCompile(`[0-9]{17,}|9007199254740992`)
)

// taggedStructs returns the exported types of a file that have members with names of JSON.
func taggedStructs(f *ast.File) []string {
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.TypeSpec)
		if !ok || !s.Name.IsExported() {
			return true
		}
		if fields, ok := s.Type.(*ast.StructType); ok && slices.ContainsFunc(fields.Fields.List, func(m *ast.Field) bool {
			return m.Tag != nil && strings.Contains(m.Tag.Value, `json:"`)
		}) {
			names = append(names, s.Name.Name)
		}
		return true
	})
	return names
}

// TestJSONIsWrittenInOnePlace checks that only package strictjson encodes JSON, since only
// it refuses what its reader would refuse. Tests and tools may use the standard library.
func TestJSONIsWrittenInOnePlace(t *testing.T) {
	n := 0
	sources(t, func(file string, set *token.FileSet, f *ast.File) {
		folder := path.Dir(file)
		if testOnly(folder) || top(file) == "tools" || strings.HasSuffix(file, "_test.go") || folder == "internal/strictjson" {
			return
		}
		for _, i := range f.Imports {
			if i.Path.Value == `"encoding/json"` {
				t.Errorf("%s imports encoding/json: use internal/strictjson", file)
			}
		}
		ast.Inspect(f, func(node ast.Node) bool {
			x, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch p, ok := x.X.(*ast.Ident); {
			case ok && p.Name == "strictjson" && x.Sel.Name == "Encode":
				n++
			case ok && (p.Name == "json" || p.Name == "jsontext") && strings.HasPrefix(x.Sel.Name, "Marshal"), ok && p.Name == "jsontext" && x.Sel.Name == "NewEncoder":
				t.Errorf("%v: %s.%s: use strictjson.Encode", set.Position(x.Pos()), p.Name, x.Sel.Name)
			}
			return true
		})
	})
	if n < 10 {
		t.Fatalf("found only %d calls of strictjson.Encode: the test looks in the wrong place", n)
	}
}
