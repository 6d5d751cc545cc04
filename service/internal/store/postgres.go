// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// lockID is the advisory lock under which the tables are made.
const lockID = 0x6167656e7464 // "agentd"

var postgres = &dialect{
	goose: goose.DialectPostgres, folder: "postgres", mark: "$", lock: " FOR UPDATE", passes: postgresPasses,
	options: func() ([]goose.ProviderOption, error) {
		l, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockID), lock.WithLockTimeout(1, 60))
		return []goose.ProviderOption{goose.WithSessionLocker(l)}, err
	},
}

// Postgres is where a PostgreSQL is.
type Postgres struct {
	URL         string // or the words of a connection string
	Password    string // if URL has none
	Connections int    // at most; 0: 16
}

// OpenPostgres returns a store in a PostgreSQL. It does not connect: see [Store.Ready].
func OpenPostgres(p Postgres, limits Limits) (*Store, error) {
	c, err := pgx.ParseConfig(p.URL)
	if err != nil {
		return nil, fmt.Errorf("store: the address of the database: %w", err) // pgx leaves the password out
	}
	if p.Password != "" {
		c.Password = p.Password
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = patience / 2
	}
	// What was committed must not be lost in a crash, whatever the server or the role has as its
	// default: a challenge that was taken would be there again.
	if c.RuntimeParams["synchronous_commit"] == "" {
		c.RuntimeParams["synchronous_commit"] = "on"
	}
	c.RuntimeParams["application_name"] = "agentd-verifier"
	db := stdlib.OpenDB(*c)
	n := p.Connections
	if n == 0 {
		n = 16
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(time.Hour)
	return start(db, postgres, limits), nil
}

// postgresPasses reports whether an error may pass by itself: the server is away, full, read-only, or
// two transactions were in each other's way.
func postgresPasses(err error) bool {
	p, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true // of the connection, or a deadline
	}
	for _, class := range []string{"08", "25006", "40", "53", "55P03", "57", "58"} {
		if strings.HasPrefix(p.Code, class) {
			return true
		}
	}
	return false
}
