// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// maxEnrolments is the most that is read of enrolments apart from a policy, in bytes.
const maxEnrolments = 1 << 30

// enrolmentSuffix is how the files of a folder end that are read. Others are passed over.
const enrolmentSuffix = ".json"

// readEnrolments reads a file of enrolments, or the files of a folder.
func (t *terminal) readEnrolments(path string) (*keys.Enrolments, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return readAs(t, path, maxEnrolments, keys.ParseEnrolments)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, misuse(err)
	}
	var failed error
	left := int64(maxEnrolments)
	set, err := keys.CollectEnrolments(func(yield func(string, []byte) bool) {
		for _, e := range entries {
			if e.IsDir() || !strings.HasSuffix(e.Name(), enrolmentSuffix) {
				continue
			}
			name := filepath.Join(path, e.Name())
			b, err := durable.ReadRegular(name, left)
			if err != nil {
				failed = fmt.Errorf("%s: %w", name, err)
				return
			}
			if left -= int64(len(b)); !yield(name, b) {
				return
			}
		}
	})
	if err = errors.Join(failed, err); err != nil {
		return nil, misuse(err).withHint("each file that ends in " + enrolmentSuffix + " has enrolments as `agentctl enroll add` writes them, one on each line")
	}
	return set, nil
}

// addEnrolments reads enrolments apart from a policy that looks at them.
func (t *terminal) addEnrolments(path string, policy *verify.Policy, c *verify.Config) (err error) {
	if path == "" {
		return nil
	}
	if policy.Outside != verify.OutsideApproved {
		return misuse(errors.New("enrolments: the policy does not look at enrolments apart from it")).withHint(`put outside_enrolments = "approved" at the head of the policy, or leave --enrolments out`)
	}
	c.Enrolments, err = t.readEnrolments(path)
	return err
}

// enrolmentList is what the commands about enrolments print as JSON.
type enrolmentList struct {
	Enrolments []enrolmentLine `json:"enrolments"` // in the order of the attestation keys
}

// enrolmentLine is one enrolment apart from a policy.
type enrolmentLine struct {
	AK           keys.Name  `json:"ak"`           // name of the attestation key
	EK           keys.Name  `json:"ek"`           // name of the endorsement key
	EKIssuer     string     `json:"ekIssuer"`     // root that certified the endorsement key when it was enrolled, or "none"
	Certificates int        `json:"certificates"` // of the endorsement key and of issuers
	State        keys.State `json:"state"`        // pending or approved
	By           string     `json:"by,omitzero"`  // name of the party that approved it
	Since        time.Time  `json:"since"`        // time of the last change of the state
}

func lineOf(l *keys.Listed) enrolmentLine {
	e := &l.Enrolment
	return enrolmentLine{e.AK, e.EK, e.EKIssuer, len(e.EKCertificates), l.State, l.By, l.Since}
}

func (t *terminal) printEnrolments(lines []enrolmentLine) error {
	if t.json {
		return t.writeJSON(enrolmentList{lines})
	}
	for _, l := range lines {
		state := string(l.State)
		if l.By != "" {
			state += " by " + l.By
		}
		fmt.Fprintf(t.out, "%s  %s since %s, TPM certified by %s\n", l.AK, cleanLine(state), l.Since.UTC().Format(time.RFC3339), cleanLine(l.EKIssuer))
	}
	return nil
}

func enrollAdd(t *terminal) *cobra.Command {
	var dir, by string
	c := command("add", enrollAddUsage, atLeastOne("RECORD"), func(c *cobra.Command, args []string) error {
		if dir == "" {
			return misuse(errors.New("--enrolments is missing: name the folder")).withHint(helpHint(c))
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return misuse(err)
		}
		lines := []enrolmentLine{}
		for _, name := range args {
			e, err := readDocument[keys.Enrolment](t, name, maxEnroll)
			if err != nil {
				return err
			}
			l, err := keys.NewListed(e, by, time.Now())
			if err != nil {
				return misuse(fmt.Errorf("%s: %w", name, err))
			}
			b, err := l.Encode()
			if err != nil {
				return misuse(fmt.Errorf("%s: %w", name, err))
			}
			err = durable.WriteNew(enrolmentFile(dir, e.AK), b, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return misuse(fmt.Errorf("%s: this attestation key is enrolled already", name)).withHint("remove " + enrolmentFile(dir, e.AK) + " first, if the new record is to count")
			}
			if err != nil {
				return misuse(err)
			}
			lines = append(lines, lineOf(l))
		}
		return t.printEnrolments(lines)
	})
	c.Flags().StringVar(&dir, "enrolments", "", "")
	c.Flags().StringVar(&by, "approved-by", "", "")
	return c
}

// enrolmentFile returns the file of an attestation key in a folder. A name is hexadecimal, so that it
// leads nowhere else.
func enrolmentFile(dir string, ak keys.Name) string {
	return filepath.Join(dir, ak.String()+enrolmentSuffix)
}

func enrollApprove(t *terminal) *cobra.Command {
	var dir, by string
	c := command("approve", enrollApproveUsage, atLeastOne("AK"), func(c *cobra.Command, args []string) error {
		if dir == "" || by == "" {
			return misuse(errors.New("--enrolments or --by is missing: name the folder and the party that approves")).withHint(helpHint(c))
		}
		lines := []enrolmentLine{}
		for _, arg := range args {
			l, err := t.approve(dir, arg, by)
			if err != nil {
				return err
			}
			lines = append(lines, lineOf(l))
		}
		return t.printEnrolments(lines)
	})
	c.Flags().StringVar(&dir, "enrolments", "", "")
	c.Flags().StringVar(&by, "by", "", "")
	return c
}

// approve approves the enrolment of one attestation key.
func (t *terminal) approve(dir, arg, by string) (*keys.Listed, error) {
	var ak keys.Name
	if err := ak.UnmarshalText([]byte(arg)); err != nil {
		return nil, misuse(fmt.Errorf("AK %q: %w", arg, err)).withHint("`agentctl enroll list` prints the names")
	}
	name := enrolmentFile(dir, ak)
	l, err := readAs(t, name, keys.MaxListed, keys.ParseListed)
	switch {
	case err != nil:
		return nil, err
	case !l.Enrolment.AK.Equal(ak):
		return nil, misuse(fmt.Errorf("%s: it is the enrolment of another attestation key, %s", name, l.Enrolment.AK))
	case l.State == keys.Approved:
		return nil, misuse(fmt.Errorf("%s: it was approved by %s already", name, cleanLine(l.By)))
	}
	approved, err := keys.NewListed(&l.Enrolment, by, time.Now())
	if err != nil {
		return nil, misuse(err)
	}
	b, err := approved.Encode()
	if err != nil {
		return nil, misuse(err)
	}
	return approved, misuseIf(durable.WriteFile(name, b, 0o644))
}

func enrollList(t *terminal) *cobra.Command {
	var pending bool
	c := command("list", enrollListUsage, arguments("FILE|DIR"), func(_ *cobra.Command, args []string) error {
		set, err := t.readEnrolments(args[0])
		if err != nil {
			return err
		}
		lines := []enrolmentLine{}
		for l, err := range set.All() {
			if err != nil {
				return misuse(fmt.Errorf("%s: %w", args[0], err))
			}
			if !pending || l.State == keys.Pending {
				lines = append(lines, lineOf(l))
			}
		}
		return t.printEnrolments(lines)
	})
	c.Flags().BoolVar(&pending, "pending", false, "")
	return c
}
