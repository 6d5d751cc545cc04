// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// dialect is what differs between the databases.
type dialect struct {
	goose     goose.Dialect
	folder    string // of migrations
	options   func() ([]goose.ProviderOption, error)
	mark      string // before the number of a parameter
	lock      string // after a SELECT whose row the transaction will change
	oneWriter bool
	passes    func(error) bool // whether an error may pass by itself
}

// migrate brings the tables to the state that this program knows. Several processes may do so at once.
func (d *dialect) migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations/"+d.folder)
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger())}
	if d.options != nil {
		more, err := d.options()
		if err != nil {
			return err
		}
		options = append(options, more...)
	}
	p, err := goose.NewProvider(d.goose, db, files, options...)
	if err != nil {
		return err
	}
	// In a database that cannot lock this another process may be quicker. Then a step fails here because
	// it is made already, and the next ones are left.
	for made := int64(-1); ; {
		_, err = p.Up(ctx)
		if err == nil {
			break
		}
		is, again := p.GetDBVersion(ctx)
		if again != nil || is <= made {
			return err
		}
		made = is
	}
	is, known, err := p.GetVersions(ctx)
	if err == nil && is > known {
		err = fmt.Errorf("the tables are of version %d, and this program knows %d: use a later one", is, known)
	}
	return err
}

// querier is a database or a transaction.
type querier interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// queries runs statements whose parameters are $1, $2 and so on.
type queries struct {
	q querier
	d *dialect
}

func (q queries) text(s string) string { return strings.ReplaceAll(s, "$", q.d.mark) }

// row returns the first row of what a query finds.
func (q queries) row(ctx context.Context, s string, args ...any) *sql.Row {
	return q.q.QueryRowContext(ctx, q.text(s), args...)
}

// rows calls f for each row of what a query finds.
func (q queries) rows(ctx context.Context, f func(*sql.Rows) error, s string, args ...any) error {
	rows, err := q.q.QueryContext(ctx, q.text(s), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// exec returns how many rows a statement changed.
func (q queries) exec(ctx context.Context, s string, args ...any) (int64, error) {
	r, err := q.q.ExecContext(ctx, q.text(s), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// transaction is one that writes.
type transaction struct {
	tx *sql.Tx
	d  *dialect
}

func (t *transaction) queries() queries { return queries{t.tx, t.d} }

func (t *transaction) row(ctx context.Context, s string, args ...any) *sql.Row {
	return t.queries().row(ctx, s, args...)
}

// exec returns how many rows a statement changed.
func (t *transaction) exec(ctx context.Context, s string, args ...any) (int64, error) {
	return t.queries().exec(ctx, s, args...)
}

// insert inserts rows into a table with its columns, in one statement: each is a way to the database and
// back.
func (t *transaction) insert(ctx context.Context, into string, rows [][]any) error {
	var values []string
	var args []any
	for _, row := range rows {
		values = append(values, "("+marks(len(args), len(row))+")")
		args = append(args, row...)
	}
	if len(values) == 0 {
		return nil
	}
	_, err := t.exec(ctx, "INSERT INTO "+into+" VALUES "+strings.Join(values, ", "), args...)
	return err
}

// absent reports whether a query found nothing.
func absent(err error) bool { return errors.Is(err, sql.ErrNoRows) }
