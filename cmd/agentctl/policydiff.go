// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/verify"
)

const policyDiffUsage = `Usage: agentctl policy diff [flags] POLICY [EVIDENCE]...

Show which applications have digests that a policy does not list. If a log has a
version that it lists, show which files changed since. Without evidence, the log is
that of the agent on this machine. Nothing in evidence is verified here. Of a signed
policy, say first who signed it, and whether that was verified.

The exit code is 5 if a digest or declaration is not listed.

  --policy-keys FILE     public keys, one of which must have signed the policy; without
                         it, no signature is verified
  --policy-threshold N   how many of these keys must have signed (default 1)
  --policy-number N      refuse a signed policy with a smaller number: an older one
  --json                 every file, with mode, size and digest

Examples:
  agentctl policy diff policy.toml
  agentctl policy diff policy.toml golden.json today.json
`

// exitPolicy is the exit code for what a policy does not accept, as in package verify.
const exitPolicy = 5

// unlisted is one digest or declaration that a policy does not list.
type unlisted struct {
	App         string       `json:"app"`   // name of the application
	Known       bool         `json:"known"` // whether the policy has an [[app]] for it
	Now         *side        `json:"now"`
	Digest      bool         `json:"digest"`      // whether the digest is listed
	Declaration bool         `json:"declaration"` // whether the declaration is, or the policy lists none
	Listed      *side        `json:"listed,omitzero"`
	Files       []fileChange `json:"files,omitempty"` // changed since the listed version
}

func policyDiffCommand(t *terminal, s *sockets) *cobra.Command {
	var f policyKeyFlags
	c := command("diff", policyDiffUsage, atLeastOne("POLICY"), func(c *cobra.Command, args []string) error {
		p, signature, err := t.readShownPolicy(args[0], &f)
		if err != nil {
			return err
		}
		all, err := t.versionsIn(c.Context(), s, args[1:])
		if err != nil {
			return err
		}
		found := compareWithPolicy(p, all)
		if t.json {
			err = t.writeJSON(policyDifference{found, signature})
		} else {
			t.saySignature(signature)
			t.printUnlisted(args[0], signature != nil, found, len(current(all)))
		}
		if err == nil && slices.ContainsFunc(found, func(u unlisted) bool { return u.Known }) {
			err = &exitError{code: exitPolicy}
		}
		return err
	})
	f.add(c.Flags())
	return c
}

// policyDifference is what policy diff prints as JSON.
type policyDifference struct {
	Unlisted  []unlisted       `json:"unlisted"`           // in the order of their names
	Signature *policySignature `json:"signature,omitzero"` // absent if the policy is not signed
}

// compareWithPolicy returns the applications whose last version a policy does not list.
func compareWithPolicy(p *verify.Policy, all []measuredApp) []unlisted {
	out := []unlisted{}
	now := current(all)
	for _, name := range slices.Sorted(maps.Keys(now)) {
		v := now[name]
		u := unlisted{App: name, Now: sideOf(v)}
		var rule *verify.App
		for i := range p.Apps {
			if p.Apps[i].Name == name {
				rule, u.Known = &p.Apps[i], true
			}
		}
		if rule != nil {
			u.Digest = slices.Contains(rule.Digests, v.Digest.String())
			u.Declaration = len(rule.Declarations) == 0 || slices.Contains(rule.Declarations, v.Declaration.String())
			for i := range all {
				if all[i].App == name && slices.Contains(rule.Digests, all[i].Digest.String()) && !u.Digest {
					u.Listed, u.Files = sideOf(&all[i]), changes(all[i].Manifest, v.Manifest)
				}
			}
		}
		if !u.Digest || !u.Declaration {
			out = append(out, u)
		}
	}
	return out
}

func (t *terminal) printUnlisted(policy string, signed bool, all []unlisted, apps int) {
	advice := "if that is as it should be:"
	if signed {
		policy, advice = "FILE", "if that is as it should be, change the policy and sign it again:"
	}
	for _, u := range all {
		if !u.Known {
			t.tell("", u.App+": no [[app]] of the policy names it", 2)
			continue
		}
		n := &node{text: cleanLine(fmt.Sprintf("%s: the policy does not list what is measured now", u.App))}
		line := fmt.Sprintf("agentctl policy add-digest --policy %s --app %s", quoteWord(policy), quoteWord(u.App))
		if !u.Declaration {
			n.add("declaration %s", u.Now.Declaration)
			line += " --declaration " + u.Now.Declaration.String()
		}
		if !u.Digest {
			n.add("digest %s, record %d of %s", u.Now.Digest, u.Now.Record, u.Now.From)
			line += " " + u.Now.Digest.String()
		}
		if u.Listed != nil {
			n.add("%s since %s, record %d of %s, which it lists", changedFiles(u.Files), u.Listed.Digest, u.Listed.Record, u.Listed.From).addChanges(u.Files)
		} else if !u.Digest {
			n.add("no record has a version that it lists, to compare the files with: name evidence that has one")
		}
		n.add("%s", advice).addCommand(line)
		n.draw(t)
	}
	if len(all) == 0 {
		fmt.Fprintf(t.out, "%s measured, all as the policy lists\n", count(apps, "application"))
	}
}

const policyAddUsage = `Usage: agentctl policy add-digest --policy FILE --app NAME [DIGEST] [--declaration DIGEST]

Add a digest to what a policy lists for an application. The rest of the file stays
as it is, comments too. The policy is checked before it is written.

  --policy FILE          the policy; required
  --app NAME             the application; the policy must have an [[app]] for it
  --declaration DIGEST   add the digest of a declaration
  --out FILE             write another file (default: the policy itself)

Examples:
  agentctl policy add-digest --policy policy.toml --app billing 49ac...
`

func policyAddCommand(t *terminal) *cobra.Command {
	var policy, app, declaration, out string
	c := command("add-digest", policyAddUsage, cobra.MaximumNArgs(1), func(c *cobra.Command, args []string) error {
		if policy == "" || app == "" || len(args) == 0 && declaration == "" {
			return misuse(errors.New("want --policy, --app and a digest")).withHint(helpHint(c))
		}
		text, err := t.readInput(policy, verify.MaxPolicy)
		if err != nil {
			return err
		}
		if _, err := verify.ParsePolicy(text); err != nil {
			return misuse(fmt.Errorf("%s: %w", policy, err))
		}
		var says []string
		for _, x := range []struct{ what, digest string }{{"declaration", declaration}, {"digest", strings.Join(args, "")}} {
			if x.digest == "" {
				continue
			}
			added, err := addDigest(text, app, x.what+"s", x.digest)
			if err != nil {
				return misuse(fmt.Errorf("%s: %w", policy, err))
			}
			did := "added the %s %s to %s"
			if bytes.Equal(added, text) {
				did = "the %s %s was listed already for %s"
			}
			text, says = added, append(says, fmt.Sprintf(did, x.what, x.digest, app))
		}
		out = cmp.Or(out, policy)
		if err := t.writeOutput(out, text); err != nil {
			return err
		}
		w := t.out
		if out == "-" {
			w = t.err // the policy went to standard output
		}
		for _, s := range says {
			fmt.Fprintf(w, "%s: %s\n", cleanLine(out), cleanLine(s))
		}
		return nil
	})
	c.Flags().StringVar(&policy, "policy", "", "")
	c.Flags().StringVar(&app, "app", "", "")
	c.Flags().StringVar(&declaration, "declaration", "", "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

// addDigest adds a digest to a list of the [[app]] with a name, and changes nothing else of the
// text.
func addDigest(text []byte, app, key, digest string) ([]byte, error) {
	if b, err := hex.DecodeString(digest); err != nil || len(b) != 32 || digest != strings.ToLower(digest) {
		return nil, fmt.Errorf("%q is not a digest: want 64 hexadecimal digits in lower case", digest)
	}
	before, err := verify.ParsePolicy(text)
	if err != nil {
		return nil, err
	}
	if list := listOf(before, app, key); slices.Contains(list, digest) {
		return text, nil
	} else if list == nil && !slices.ContainsFunc(before.Apps, func(a verify.App) bool { return a.Name == app }) {
		return nil, fmt.Errorf("no [[app]] has the name %q: `agentctl policy init` and `policy reference` write one", app)
	}
	at, alone, err := placeOf(text, app, key)
	if err != nil {
		return nil, err
	}
	added := fmt.Sprintf("%q, ", digest)
	switch rest := text[at:]; {
	case alone: // the key is missing
		added = fmt.Sprintf("%s = [%q]\n", key, digest)
	case bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), []byte("\n")), bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r"), []byte("\n")):
		added = fmt.Sprintf("\n  %q,", digest)
	}
	out := slices.Insert(slices.Clone(text), at, []byte(added)...)
	after, err := verify.ParsePolicy(out)
	if err != nil || !slices.Contains(listOf(after, app, key), digest) || len(after.Apps) != len(before.Apps) {
		return nil, fmt.Errorf("the list cannot be changed without changing more: add %q to it by hand", digest)
	}
	return out, nil
}

func listOf(p *verify.Policy, app, key string) []string {
	for _, a := range p.Apps {
		if a.Name == app && key == "digests" {
			return a.Digests
		} else if a.Name == app {
			return a.Declarations
		}
	}
	return nil
}

// errInline is returned for an [[app]] that is written in another way.
var errInline = errors.New("the application is not written as an [[app]] with one key in a line: change it by hand")

// placeOf returns the offset after the "[" of a list of an [[app]]. If the table has no such key,
// it returns true and the offset of a line of the table.
func placeOf(text []byte, app, key string) (at int, missing bool, err error) {
	var p unstable.Parser
	p.Reset(text)
	inApp, named, list, line := false, false, 0, 0
	done := func() bool { return inApp && named && line > 0 }
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind == unstable.Table || e.Kind == unstable.ArrayTable {
			if done() {
				break
			}
			it := e.Key()
			it.Next()
			inApp, named, list, line = e.Kind == unstable.ArrayTable && string(it.Node().Data) == "app" && it.IsLast(), false, 0, 0
			continue
		}
		if !inApp || e.Kind != unstable.KeyValue {
			continue
		}
		it := e.Key()
		it.Next()
		name := it.Node()
		if line == 0 {
			line = int(name.Raw.Offset)
		}
		switch {
		case string(name.Data) == "name" && e.Value().Kind == unstable.String:
			named = string(e.Value().Data) == app
		case string(name.Data) == key && e.Value().Kind == unstable.Array:
			end := int(name.Raw.Offset + name.Raw.Length)
			list = end + bytes.IndexByte(text[end:], '[') + 1
		}
	}
	if err := p.Error(); err != nil {
		return 0, false, err
	}
	switch {
	case !done():
		return 0, false, errInline
	case list == 0:
		return line, true, nil
	}
	return list, false, nil
}
