-- Tokens have a table of their own, and of each only its hash is kept: the same as SQLite's migration of this number.
CREATE TABLE tokens (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    who TEXT NOT NULL,
    label TEXT NOT NULL DEFAULT '',
    created BIGINT NOT NULL,
    revoked BIGINT
);
CREATE INDEX tokens_by_user ON tokens (who);
INSERT INTO tokens (hash, who, created) SELECT sha256(convert_to(token, 'UTF8')), id, updated * 1000000 FROM users ORDER BY n;
ALTER TABLE users DROP COLUMN token;
ALTER TABLE users ADD COLUMN revoked BIGINT;
DROP TABLE tickets;
CREATE TABLE tickets (hash BYTEA PRIMARY KEY, token BIGINT NOT NULL, until BIGINT NOT NULL, boot BYTEA NOT NULL);
CREATE INDEX tickets_by_time ON tickets (until);
