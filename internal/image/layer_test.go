// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/rootfs"
)

// TestLayers: layers make what overlayfs shows of them.
func TestLayers(t *testing.T) {
	f := func(name, content string) item { return item{name: name, content: content} }
	for name, c := range map[string]struct {
		lower, upper []item
		want         map[string]string
	}{
		"replaced":                        {[]item{f("a", "1")}, []item{f("a", "2")}, map[string]string{"a": "2"}},
		"twice in one":                    {nil, []item{f("a", "1"), f("a", "2")}, map[string]string{"a": "2"}},
		"removed":                         {[]item{f("a", "1"), f("b", "1")}, []item{f(".wh.a", "")}, map[string]string{"b": "1"}},
		"removed, a folder":               {[]item{f("a/b/c", "1"), f("b", "1")}, []item{f(".wh.a", "")}, map[string]string{"b": "1"}},
		"removed, none":                   {[]item{f("b", "1")}, []item{f(".wh.a", "")}, map[string]string{"b": "1"}},
		"removed and made":                {[]item{f("a/x", "1")}, []item{f(".wh.a", ""), f("a/y", "2")}, map[string]string{"a/y": "2"}},
		"made and removed":                {[]item{f("a/x", "1")}, []item{f("a/y", "2"), f(".wh.a", "")}, map[string]string{"a/y": "2"}},
		"not of its own layer":            {nil, []item{f("a", "1"), f(".wh.a", "")}, map[string]string{"a": "1"}},
		"opaque":                          {[]item{f("a/x", "1"), f("a/d/y", "1")}, []item{f("a/.wh..wh..opq", ""), f("a/z", "2")}, map[string]string{"a/z": "2"}},
		"opaque, last":                    {[]item{f("a/x", "1"), f("a/d/y", "1")}, []item{f("a/d/z", "2"), f("a/.wh..wh..opq", "")}, map[string]string{"a/d/z": "2"}},
		"opaque, the root":                {[]item{f("a", "1"), f("b/c", "1")}, []item{f(".wh..wh..opq", ""), f("d", "2")}, map[string]string{"d": "2"}},
		"file for a folder":               {[]item{f("a/x", "1")}, []item{f("a", "2")}, map[string]string{"a": "2"}},
		"folder for a file":               {[]item{f("a", "1")}, []item{dir("a"), f("a/x", "2")}, map[string]string{"a/x": "2"}},
		"folder for a file, not named":    {[]item{f("a", "1")}, []item{f("a/x", "2")}, map[string]string{"a/x": "2"}},
		"folder for a link below":         {[]item{link("a", "etc"), f("etc/x", "1")}, []item{f("a/x", "2")}, map[string]string{"a/x": "2", "etc/x": "1"}},
		"folder stays":                    {[]item{f("a/x", "1")}, []item{dir("a")}, map[string]string{"a/x": "1"}},
		"link for a file":                 {[]item{f("a", "1")}, []item{link("a", "/etc/passwd")}, map[string]string{"a": "-> /etc/passwd"}},
		"link outward":                    {nil, []item{link("a", "../../etc/passwd")}, map[string]string{"a": "-> ../../etc/passwd"}},
		"hard link":                       {nil, []item{f("a", "1"), hard("b/c", "a")}, map[string]string{"a": "1", "b/c": "1"}},
		"hard link, then another content": {nil, []item{f("a", "1"), hard("b", "./a"), f("a", "2")}, map[string]string{"a": "2", "b": "1"}},
		"hard link to a link":             {nil, []item{link("a", "x"), hard("b", "/a")}, map[string]string{"a": "-> x", "b": "-> x"}},
		"names":                           {nil, []item{f("/a", "1"), f("./b//c", "1"), f("d/./e", "1")}, map[string]string{"a": "1", "b/c": "1", "d/e": "1"}},
		"order of paths":                  {nil, []item{f("a/b", "1"), f("a-b", "1"), f("a.b", "1")}, map[string]string{"a/b": "1", "a-b": "1", "a.b": "1"}},
		"a mode":                          {nil, []item{{name: "a", mode: 0o100755}}, map[string]string{"a+x": ""}},
		"the engine's own":                {nil, []item{f("etc/hosts", "x"), f("dev/x", "x"), f("a", "1")}, map[string]string{"a": "1"}},
	} {
		got, err := apply(t, layerOf(t, c.lower...), layerOf(t, c.upper...))
		if err != nil || got != rootOf(c.want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, rootOf(c.want))
		}
	}
}

// TestHostileLayers: entries that engines would take in different ways, or that lead out of the
// root, are errors.
func TestHostileLayers(t *testing.T) {
	f := func(name string) item { return item{name: name} }
	for want, items := range map[string][]item{
		"in a name":              {f("../etc/passwd")},
		"a/../../b":              {f("a/../../b")},
		"4096":                   {f(strings.Repeat("a/", 3000) + "x")},
		"folders deep":           {f(strings.Repeat("a/", rootfs.MaxDepth+1) + "b")},
		"hard link: ":            {hard("a", "../../etc/passwd")},
		"not a file of the same": {hard("a", "b")},
		"to \"d\"":               {dir("d"), hard("a", "d")},
		"to \"c/x\"":             {f("c"), hard("a", "c/x")},
		"of the same layer":      {f("a"), f("a/b")},
		"\"/l\" is not a folder": {link("l", "/etc"), f("l/passwd")},
		"want 1 to":              {link("a", strings.Repeat("x", 5000))},
		"0:0":                    {{name: "a", kind: tar.TypeChar}},
		"without a name":         {f(".wh.")},
		"entry \".wh..\"":        {f(".wh..")},
		"entry \".wh...\"":       {f(".wh...")},
		".wh..wh.plnk":           {f(".wh..wh.plnk")},
		"the root is not":        {f(".")},
	} {
		if got, err := apply(t, layerOf(t, items...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", want, got, err)
		}
	}
}

// TestBombs: what a layer unpacks to is bounded, and reading ends with the context.
func TestBombs(t *testing.T) {
	b := layerOf(t, item{name: "a", content: strings.Repeat("x", 100_000)})
	for how := range packers {
		packed := pack(t, how, b)
		small := budgetOf(t)
		small.bytes = 50_000
		if err := newTree().apply(bytes.NewReader(packed), evidence.Digest(sha256.Sum256(b)), small); err == nil || !strings.Contains(err.Error(), "unpacks to more") {
			t.Errorf("%s: %v", how, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ended := budgetOf(t)
		ended.ctx = ctx
		if err := newTree().apply(bytes.NewReader(packed), evidence.Digest(sha256.Sum256(b)), ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", how, err)
		}
		if err := newTree().apply(bytes.NewReader(packed[:len(packed)/2]), evidence.Digest(sha256.Sum256(b)), budgetOf(t)); err == nil {
			t.Errorf("%s: half of a layer is read", how)
		}
	}
	few := budgetOf(t)
	few.entries = 2
	many := layerOf(t, item{name: "a"}, item{name: "a"}, item{name: "a"})
	if err := newTree().apply(bytes.NewReader(many), evidence.Digest(sha256.Sum256(many)), few); err == nil || !strings.Contains(err.Error(), "entries") {
		t.Errorf("got %v", err)
	}
}

// TestWindow: a zstd stream that may refer back further than the cap is refused, before memory for
// that is taken.
func TestWindow(t *testing.T) {
	b := layerOf(t, item{name: "a"})
	n := len(b)<<3 | 1                                                         // the last block, not compressed
	for exponent, fits := range map[byte]bool{27 - 10: true, 28 - 10: false} { // RFC 8878, 3.1.1.1.2
		packed := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, byte(n), byte(n >> 8), byte(n >> 16)}, b...)
		err := newTree().apply(bytes.NewReader(packed), evidence.Digest(sha256.Sum256(b)), budgetOf(t))
		if (err == nil) != fits {
			t.Errorf("a window of 2^%d bytes: %v", exponent+10, err)
		}
	}
}

// FuzzLayer: no layer makes a name that leads out of the root, and the same layer always makes the
// same digest.
func FuzzLayer(f *testing.F) {
	layers, _ := example(f)
	for _, b := range layers {
		f.Add(b, "tar")
		f.Add(pack(f, "gzip", b), "gzip")
		f.Add(pack(f, "zstd", b), "zstd")
	}
	f.Fuzz(func(t *testing.T, b []byte, _ string) {
		x := newTree()
		left := budgetOf(t)
		left.bytes, left.entries = 1<<20, 1000
		if err := x.apply(bytes.NewReader(b), evidence.Digest{}, left); err == nil {
			t.Fatal("a layer has the digest zero")
		}
		var walk func(n *node, depth int)
		walk = func(n *node, depth int) {
			if depth > rootfs.MaxDepth {
				t.Fatal("too deep")
			}
			for name, c := range n.children {
				if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/") || strings.HasPrefix(name, whiteout) {
					t.Fatalf("the name %q", name)
				}
				walk(c, depth+1)
			}
		}
		walk(&x.root, 0)
		first, second := rootfs.NewSum(rootfs.OfEngine), rootfs.NewSum(rootfs.OfEngine)
		if a, b := x.root.sum("", first), x.root.sum("", second); (a == nil) != (b == nil) || first.Root() != second.Root() {
			t.Fatal("another digest the second time")
		}
	})
}

// TestWays: a layer makes few folders that it has no entry for, however deep its entries are, and
// takes no name that no file system takes.
func TestWays(t *testing.T) {
	x := newTree()
	x.made = maxEntries - 3
	if _, err := x.folder([]string{"a", "b", "c"}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.folder([]string{"a", "b", "c"}); err != nil {
		t.Error(err)
	}
	if _, err := x.folder([]string{"a", "b", "d"}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
	if _, err := split("a/" + strings.Repeat("b", maxName)); err != nil {
		t.Error(err)
	}
	if _, err := split("a/" + strings.Repeat("b", maxName+1)); err == nil {
		t.Error("a name of 256 bytes")
	}
}

// FuzzDocuments: no index, manifest or configuration makes the reader fail in another way than by
// an error.
func FuzzDocuments(f *testing.F) {
	layers, _ := example(f)
	l := newLayout(f, "gzip", layers...)
	l.finish(f)
	f.Add(l.files["index.json"], encode(f, l.config))
	f.Add([]byte(`[{"Config":"c","RepoTags":null,"Layers":["l"]}]`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, index, config []byte) {
		r := &reader{source: fixed{"index.json": index, "manifest.json": index, "c": config, "l": layers[0]}, budget: *budgetOf(t)}
		if _, err := r.image(); err == nil {
			t.Fatal("an image without blobs is read")
		}
		if _, err := r.docker(); err == nil {
			t.Log("an archive of docker save is read")
		}
		if _, err := r.finish(new(Image), config, nil); err == nil {
			t.Log("an image without layers is read")
		}
	})
}

// fixed is a source for tests.
type fixed map[string][]byte

func (x fixed) open(name string) (io.ReadCloser, error) {
	b, ok := x[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (fixed) close() {}
