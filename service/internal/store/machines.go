// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// Machine is what is known of a machine under one policy, under which it was accepted before.
type Machine struct {
	Policy  string         `json:"policy"`  // under which all of this is
	AK      keys.Name      `json:"ak"`      // name of the attestation key
	Verdict verify.Verdict `json:"verdict"` // of its last appraisal; "fail" means that the policy refused genuine evidence

	Accepted    time.Time `json:"accepted"`         // when it was accepted last
	Record      uint64    `json:"record"`           // of that
	Version     uint64    `json:"version"`          // of the policy then
	Product     string    `json:"product"`          // "milan" and so on; of other platforms their name
	TCB         string    `json:"tcb"`              // reported versions of the firmware, as "bootloader=9 microcode=72"; empty if the platform reports none
	Measurement string    `json:"measurement"`      // launch measurement, hexadecimal
	Known       time.Time `json:"known"`            // when it was accepted first
	Changed     time.Time `json:"changed"`          // since when product, TCB and measurement are these
	Refused     time.Time `json:"refused,omitzero"` // when it was refused last
	RefusedBy   uint64    `json:"refusal,omitzero"` // record of that
}

// facts are what accepted evidence says of a machine. Nil: the record says nothing of a known machine.
type facts struct{ product, tcb, measurement string }

// factsOf returns the facts of a record, and whether the policy refused genuine evidence: then the
// attestation key is proven as well. Of all other evidence a stranger chose the key.
func factsOf(r *relying.Record) (f *facts, refused bool) {
	if r.Code != "" || len(r.AK) == 0 {
		return nil, false
	}
	c, err := r.Appraisal.Claims()
	if err != nil {
		return nil, r.Appraisal.Class == verify.ClassPolicy
	}
	f = &facts{product: string(c.Machine.Platform), measurement: c.Machine.Measurement}
	if snp := c.Machine.SNP; snp != nil {
		f.product = snp.Product
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(snp.ReportedTCB)) {
			parts = append(parts, fmt.Sprintf("%s=%d", name, snp.ReportedTCB[name]))
		}
		f.tcb = strings.Join(parts, " ")
	}
	return f, false
}

// know keeps what a record says of a machine. Refused evidence makes no machine known.
func (s *Store) know(ctx context.Context, tx *transaction, record uint64, i *item) error {
	e, f := &i.entry, i.facts
	if f == nil {
		if !i.refused {
			return nil
		}
		_, err := tx.exec(ctx, "UPDATE machines SET verdict = $1, refused = $2, refused_record = $3 WHERE policy = $4 AND ak = $5",
			string(verify.Fail), micro(e.Time), record, e.Policy, []byte(e.AK))
		return err
	}
	n, err := tx.exec(ctx, "UPDATE machines SET changed = CASE WHEN product = $1 AND tcb = $2 AND measurement = $3 THEN changed ELSE $4 END, "+
		"verdict = $5, accepted = $6, record = $7, version = $8, product = $9, tcb = $10, measurement = $11 WHERE policy = $12 AND ak = $13",
		f.product, f.tcb, f.measurement, micro(e.Time), string(verify.Pass), micro(e.Time), record, e.Version, f.product, f.tcb, f.measurement, e.Policy, []byte(e.AK))
	if err != nil || n > 0 {
		return err
	}
	_, err = tx.exec(ctx, "INSERT INTO machines ("+machineColumns+") SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0 WHERE (SELECT count(*) FROM machines) < $12",
		e.Policy, []byte(e.AK), string(verify.Pass), micro(e.Time), record, e.Version, f.product, f.tcb, f.measurement, micro(e.Time), micro(e.Time), s.limits.Machines)
	return err
}

const machineColumns = "policy, ak, verdict, accepted, record, version, product, tcb, measurement, known, changed, refused, refused_record"

func scanMachine(rows *sql.Rows) (*Machine, error) {
	m := new(Machine)
	var ak []byte
	var accepted, known, changed, refused int64
	err := rows.Scan(&m.Policy, &ak, &m.Verdict, &accepted, &m.Record, &m.Version, &m.Product, &m.TCB, &m.Measurement, &known, &changed, &refused, &m.RefusedBy)
	m.AK, m.Accepted, m.Known, m.Changed = ak, fromMicro(accepted), fromMicro(known), fromMicro(changed)
	if refused != 0 {
		m.Refused = fromMicro(refused)
	}
	return m, err
}

// Filter selects machines. What is empty selects all.
type Filter struct {
	Policy, Product, TCB, Measurement string
	Verdict                           verify.Verdict
	Before                            time.Time // accepted before this time
}

// where returns a condition with its parameters, from $1 on.
func (f *Filter) where() (condition string, args []any) {
	condition = "1 = 1"
	add := func(c string, value any) {
		args = append(args, value)
		condition += fmt.Sprintf(" AND %s $%d", c, len(args))
	}
	for _, x := range []struct{ column, value string }{
		{"policy", f.Policy}, {"verdict", string(f.Verdict)}, {"product", f.Product}, {"tcb", f.TCB}, {"measurement", f.Measurement},
	} {
		if x.value != "" {
			add(x.column+" =", x.value)
		}
	}
	if !f.Before.IsZero() {
		add("accepted <", micro(f.Before))
	}
	return condition, args
}

// Machines returns up to MaxPage machines after one, in the order of policy and attestation key. So a
// machine that changes meanwhile is neither left out nor there twice.
func (s *Store) Machines(ctx context.Context, f Filter, afterPolicy string, afterAK keys.Name) (all []*Machine, err error) {
	where, args := f.where()
	n := len(args)
	args = append(args, afterPolicy, afterPolicy, append([]byte{}, afterAK...), MaxPage)
	return s.machines(ctx, fmt.Sprintf("WHERE %s AND (policy > $%d OR policy = $%d AND ak > $%d) ORDER BY policy, ak LIMIT $%d", where, n+1, n+2, n+3, n+4), args...)
}

// maxRecent is how many machines are shown that changed last.
const maxRecent = 20

func (s *Store) machines(ctx context.Context, which string, args ...any) (all []*Machine, err error) {
	err = s.read(ctx, "read machines", func(ctx context.Context, q queries) error {
		return q.rows(ctx, func(rows *sql.Rows) error {
			m, err := scanMachine(rows)
			all = append(all, m)
			return err
		}, "SELECT "+machineColumns+" FROM machines "+which, args...)
	})
	return all, err
}

// Group is how many machines are alike.
type Group struct {
	Policy      string         `json:"policy,omitzero"`      // name of their policy
	Verdict     verify.Verdict `json:"verdict,omitzero"`     // of their last appraisal
	Product     string         `json:"product,omitzero"`     // their product
	TCB         string         `json:"tcb,omitzero"`         // their reported TCB
	Measurement string         `json:"measurement,omitzero"` // their launch measurement, hexadecimal
	Within      string         `json:"within,omitzero"`      // accepted within this time: "1h", "1d", "7d", or "ever"
	Machines    uint64         `json:"machines"`             // how many they are
}

// Fleet is a summary of the machines that a filter selects.
type Fleet struct {
	Machines     uint64     `json:"machines"`     // how many there are
	Most         int        `json:"most"`         // how many are known at most, of all policies: [limits] machines
	Verdicts     []Group    `json:"verdicts"`     // by policy and verdict
	Ages         []Group    `json:"ages"`         // by the time since they were accepted, each in the first group that it fits
	TCBs         []Group    `json:"tcbs"`         // by product and TCB
	Measurements []Group    `json:"measurements"` // by launch measurement
	Changed      []*Machine `json:"changed"`      // whose product, TCB or measurement changed last, and that are not new
	Head         Head       `json:"head"`         // of the records
}

// MaxGroups is how many groups of one kind a summary has: those with the most machines.
const MaxGroups = 100

// ages are the groups by age.
var ages = []struct {
	name string
	is   time.Duration
}{{"1h", time.Hour}, {"1d", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"ever", 0}}

// Fleet returns a summary of the machines that a filter selects.
func (s *Store) Fleet(ctx context.Context, f Filter, now time.Time) (*Fleet, error) {
	out := &Fleet{Most: s.limits.Machines}
	where, args := f.where()
	err := s.read(ctx, "count machines", func(ctx context.Context, q queries) error {
		groups := func(to *[]Group, columns string, fields func(*Group) []any) error {
			return q.rows(ctx, func(rows *sql.Rows) error {
				var g Group
				err := rows.Scan(append(fields(&g), &g.Machines)...)
				*to = append(*to, g)
				return err
			}, fmt.Sprintf("SELECT %s, count(*) AS n FROM machines WHERE %s GROUP BY %s ORDER BY n DESC, %s LIMIT %d", columns, where, columns, columns, MaxGroups), args...)
		}
		if err := groups(&out.Verdicts, "policy, verdict", func(g *Group) []any { return []any{&g.Policy, &g.Verdict} }); err != nil {
			return err
		}
		if err := groups(&out.TCBs, "product, tcb", func(g *Group) []any { return []any{&g.Product, &g.TCB} }); err != nil {
			return err
		}
		if err := groups(&out.Measurements, "measurement", func(g *Group) []any { return []any{&g.Measurement} }); err != nil {
			return err
		}
		var before uint64
		for _, a := range ages {
			since := int64(0)
			if a.is > 0 {
				since = micro(now.Add(-a.is))
			}
			var n uint64
			err := q.row(ctx, fmt.Sprintf("SELECT count(*) FROM machines WHERE %s AND accepted >= $%d", where, len(args)+1), append(slices.Clone(args), since)...).Scan(&n)
			if err != nil {
				return err
			}
			out.Ages = append(out.Ages, Group{Within: a.name, Machines: n - min(n, before)})
			before, out.Machines = n, n
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if out.Changed, err = s.machines(ctx, fmt.Sprintf("WHERE %s AND changed > known ORDER BY changed DESC, policy, ak LIMIT %d", where, maxRecent), args...); err != nil {
		return nil, err
	}
	out.Head, err = s.Head(ctx)
	return out, err
}
