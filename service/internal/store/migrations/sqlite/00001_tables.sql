-- +goose Up
CREATE TABLE challenges (
	nonce   BLOB PRIMARY KEY,
	given   BIGINT NOT NULL, -- microseconds since 1970, as all times
	expires BIGINT NOT NULL
);
CREATE INDEX challenges_expires ON challenges (expires);

CREATE TABLE logs (
	ak      BLOB PRIMARY KEY,
	version BIGINT NOT NULL,
	history BLOB NOT NULL
);

CREATE TABLE policies (
	name     TEXT NOT NULL,
	version  BIGINT NOT NULL,
	digest   TEXT NOT NULL, -- empty: the policy was withdrawn
	text     BLOB NOT NULL,
	audience TEXT NOT NULL,
	changer  TEXT NOT NULL,
	changed  BIGINT NOT NULL,
	PRIMARY KEY (name, version)
);

CREATE TABLE enrolments (
	ak    BLOB PRIMARY KEY,
	state TEXT NOT NULL,
	line  BLOB NOT NULL
);
CREATE INDEX enrolments_state ON enrolments (state, ak);

CREATE TABLE records (
	sequence BIGINT PRIMARY KEY,
	hash     BLOB NOT NULL,
	entry    BLOB NOT NULL
);

CREATE TABLE bodies (
	sequence BIGINT PRIMARY KEY,
	body     BLOB NOT NULL -- compressed
);

CREATE TABLE head (
	id       BIGINT PRIMARY KEY CHECK (id = 1),
	sequence BIGINT NOT NULL,
	hash     BLOB NOT NULL
);
INSERT INTO head (id, sequence, hash) VALUES (1, 0, X'');
