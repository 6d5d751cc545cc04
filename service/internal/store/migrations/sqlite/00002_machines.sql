-- +goose Up
CREATE TABLE machines (
	policy         TEXT NOT NULL,
	ak             BLOB NOT NULL,
	verdict        TEXT NOT NULL,
	accepted       BIGINT NOT NULL,
	record         BIGINT NOT NULL,
	version        BIGINT NOT NULL,
	product        TEXT NOT NULL,
	tcb            TEXT NOT NULL,
	measurement    TEXT NOT NULL,
	known          BIGINT NOT NULL, -- when it was accepted first
	changed        BIGINT NOT NULL,
	refused        BIGINT NOT NULL, -- 0: never
	refused_record BIGINT NOT NULL,
	PRIMARY KEY (policy, ak)
);
CREATE INDEX machines_changed ON machines (changed);
