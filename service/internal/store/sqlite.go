// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var inFile = &dialect{goose: goose.DialectSQLite3, folder: "sqlite", mark: "?", oneWriter: true, passes: sqlitePasses}

// OpenSQLite returns a store in a file, which it makes if it is absent. Several processes of one machine
// may share it. The folder must be on a local disk.
func OpenSQLite(path string, limits Limits) (*Store, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite would make it readable for others
	if err != nil {
		return nil, fmt.Errorf("store: the file of the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("store: the file of the database: %w", err)
	}
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"}}
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("store: open the file of the database: %w", err)
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	return start(db, inFile, limits), nil
}

// sqlitePasses reports whether an error may pass by itself: another process writes, the disk is full or
// fails, or a deadline passed.
func sqlitePasses(err error) bool {
	if x, ok := errors.AsType[*sqlite.Error](err); ok {
		switch x.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT:
			return true
		}
		return false
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrNotExist)
}
