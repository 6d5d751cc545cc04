// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// A measuredApp is an application as one record of a log has it.
type measuredApp struct {
	*pcr.AppEvent
	record uint64
	from   string // file of the evidence, or that it is the agent's log
}

// ownLog is where a version comes from if not from evidence.
const ownLog = "the agent's log"

func (v *measuredApp) String() string {
	return fmt.Sprintf("%s (record %d of %s)", v.Digest, v.record, v.from)
}

// versionsOf returns the applications in a log, in the order of their records. Nothing in it is
// verified.
func versionsOf(l *evidence.Log, from string) ([]measuredApp, error) {
	records, err := pcr.DecodeLog(l.Records, l.Start)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	var out []measuredApp
	for _, r := range records {
		e, err := r.Event()
		if err != nil {
			return nil, fmt.Errorf("%s: record %d: %w", from, r.Number, err)
		}
		if e.Type == pcr.EventApp {
			out = append(out, measuredApp{AppEvent: e.App, record: r.Number, from: from})
		}
	}
	return out, nil
}

// versionsIn returns the applications in the logs of evidence, or without any in that of the agent.
func (t *terminal) versionsIn(ctx context.Context, s *sockets, files []string) ([]measuredApp, error) {
	if len(files) == 0 {
		l, err := s.clientSocket().Log(ctx, 0)
		if err != nil {
			return nil, failed(err)
		}
		return misuseOr(versionsOf(l, ownLog))
	}
	var out []measuredApp
	for _, name := range files {
		e, err := t.readEvidence(name)
		if err != nil {
			return nil, err
		}
		if e.Log == nil {
			return nil, misuse(fmt.Errorf("%s contains no log: ask for evidence with --log whole", name))
		}
		all, err := misuseOr(versionsOf(e.Log, name))
		if err != nil {
			return nil, err
		}
		out = append(out, all...)
	}
	return out, nil
}

// misuseOr returns v, or err as one of wrong use.
func misuseOr[T any](v T, err error) (T, error) {
	if err != nil {
		return v, misuse(err)
	}
	return v, nil
}

// current returns the last version of each application, by its name.
func current(all []measuredApp) map[string]*measuredApp {
	out := map[string]*measuredApp{}
	for i := range all {
		out[all[i].App] = &all[i]
	}
	return out
}

// minPrefix is how many digits of a digest name a version.
const minPrefix = 8

// pickVersion returns the version that a person names: by the digest or its first digits, or as the
// last one of an application in a file of evidence.
func pickVersion(all []measuredApp, name, app string) (*measuredApp, error) {
	prefix := strings.ToLower(name)
	if _, err := os.Stat(name); err == nil {
		all = slices.DeleteFunc(slices.Clone(all), func(v measuredApp) bool { return v.from != name })
		prefix = ""
	} else if len(prefix) < minPrefix || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%q is neither a file of evidence nor a digest: want at least %d of its hexadecimal digits", name, minPrefix)
	}
	var found *measuredApp
	for i := range all {
		v := &all[i]
		switch {
		case app != "" && v.App != app, !strings.HasPrefix(v.Digest.String(), prefix):
		case found != nil && prefix == "" && found.App != v.App:
			return nil, fmt.Errorf("%s has several applications, %q and %q among them: choose with --app", name, found.App, v.App)
		case found != nil && prefix != "" && found.Digest != v.Digest:
			return nil, fmt.Errorf("%s begins two digests, %s and %s: write more of it", name, found.Digest, v.Digest)
		default:
			found = v
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no record of an application for %s: --in FILE looks into further evidence", name)
	}
	return found, nil
}

// A fileChange is a file that two manifests have differently.
type fileChange struct {
	Path   string    `json:"path"`   // path of the file
	Change string    `json:"change"` // added, removed, changed, or mode
	Before *fileSeen `json:"before,omitzero"`
	After  *fileSeen `json:"after,omitzero"`
}

// fileSeen is a file in a manifest.
type fileSeen struct {
	Mode   uint32          `json:"mode"`   // st_mode
	Size   uint64          `json:"size"`   // bytes
	Digest evidence.Digest `json:"digest"` // SHA-256 of the content, of a symbolic link's target
}

func seen(e *pcr.ManifestEntry) *fileSeen {
	return &fileSeen{Mode: e.Mode, Size: e.Size, Digest: e.Digest}
}

// changes returns in which files two manifests differ, in the order of the paths.
func changes(before, after pcr.Manifest) []fileChange {
	out := []fileChange{}
	for i, j := 0, 0; i < len(before) || j < len(after); {
		order := 0
		switch {
		case i == len(before):
			order = 1
		case j == len(after):
			order = -1
		default:
			order = cmp.Compare(before[i].Path, after[j].Path)
		}
		switch {
		case order < 0:
			out = append(out, fileChange{Path: before[i].Path, Change: "removed", Before: seen(&before[i])})
		case order > 0:
			out = append(out, fileChange{Path: after[j].Path, Change: "added", After: seen(&after[j])})
		case before[i] != after[j]:
			change := "changed"
			if before[i].Digest == after[j].Digest && before[i].Size == after[j].Size {
				change = "mode"
			}
			out = append(out, fileChange{Path: after[j].Path, Change: change, Before: seen(&before[i]), After: seen(&after[j])})
		}
		if order <= 0 {
			i++
		}
		if order >= 0 {
			j++
		}
	}
	return out
}

// addChanges adds the changed files, of which a person reads the first.
func (n *node) addChanges(all []fileChange) {
	for i, c := range all {
		if i == maxShownFiles {
			n.add("%s", text.Count(len(all)-i, "more file"))
			return
		}
		switch {
		case c.Change == "mode":
			n.add("mode     %s: %s, was %s", c.Path, fileMode(c.After.Mode), fileMode(c.Before.Mode))
		case c.Before != nil && c.After != nil:
			n.add("changed  %s: %d bytes, was %d", c.Path, c.After.Size, c.Before.Size)
		case c.Before != nil:
			n.add("removed  %s", c.Path)
		default:
			n.add("added    %s: %d bytes", c.Path, c.After.Size)
		}
	}
}

// difference is what app diff prints as JSON.
type difference struct {
	App    string       `json:"app"` // name of the application
	Before *side        `json:"before"`
	After  *side        `json:"after"`
	Files  []fileChange `json:"files"` // files that differ, in the order of their paths
}

// side is one version in a difference.
type side struct {
	Digest      evidence.Digest `json:"digest"`      // digest of the manifest
	Declaration evidence.Digest `json:"declaration"` // digest of the declaration
	Record      uint64          `json:"record"`      // number of its record in the log
	From        string          `json:"from"`        // file of the evidence, or that it is the log of the agent
}

func sideOf(v *measuredApp) *side {
	return &side{Digest: v.Digest, Declaration: v.Declaration, Record: v.record, From: v.from}
}

var errNoVersions = errors.New("there is only one version of it in the log since boot")
