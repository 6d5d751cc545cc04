-- +goose Up
CREATE TABLE challenges (
	nonce   BYTEA PRIMARY KEY,
	given   BIGINT NOT NULL, -- microseconds since 1970, as all times
	expires BIGINT NOT NULL
);
CREATE INDEX challenges_expires ON challenges (expires);

CREATE TABLE logs (
	ak      BYTEA PRIMARY KEY,
	version BIGINT NOT NULL,
	history BYTEA NOT NULL
);

CREATE TABLE policies (
	name     TEXT NOT NULL,
	version  BIGINT NOT NULL,
	digest   TEXT NOT NULL, -- empty: the policy was withdrawn
	text     BYTEA NOT NULL,
	audience TEXT NOT NULL,
	changer  TEXT NOT NULL,
	changed  BIGINT NOT NULL,
	PRIMARY KEY (name, version)
);

CREATE TABLE enrolments (
	ak    BYTEA PRIMARY KEY,
	state TEXT NOT NULL,
	line  BYTEA NOT NULL
);
CREATE INDEX enrolments_state ON enrolments (state, ak);

CREATE TABLE records (
	sequence BIGINT PRIMARY KEY,
	hash     BYTEA NOT NULL,
	entry    BYTEA NOT NULL
);

CREATE TABLE bodies (
	sequence BIGINT PRIMARY KEY,
	body     BYTEA NOT NULL -- compressed
);

CREATE TABLE head (
	id       BIGINT PRIMARY KEY CHECK (id = 1),
	sequence BIGINT NOT NULL,
	hash     BYTEA NOT NULL
);
INSERT INTO head (id, sequence, hash) VALUES (1, 0, '');
