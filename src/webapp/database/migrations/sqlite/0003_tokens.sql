-- Tokens have a table of their own, and of each only its hash is kept. Those of before come over as they were; the process hashes them
-- before it serves anybody: a hash has 32 bytes, and none of them had. SQLite lets no column go that is unique: `users` is made anew.
CREATE TABLE tokens (
    n INTEGER PRIMARY KEY AUTOINCREMENT,    -- connections know their token by it: it is never given again
    hash BLOB NOT NULL UNIQUE,
    who TEXT NOT NULL,
    label TEXT NOT NULL DEFAULT '',
    created INTEGER NOT NULL,
    revoked INTEGER                         -- when: from then on it opens nothing
) STRICT;
CREATE INDEX tokens_by_user ON tokens (who);
INSERT INTO tokens (hash, who, created) SELECT CAST(token AS BLOB), id, updated * 1000000 FROM users ORDER BY n;
CREATE TABLE people (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    real_name TEXT NOT NULL,
    is_bot INTEGER NOT NULL,
    manual_away INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL,
    revoked INTEGER                         -- when: from then on no token of the user opens anything
) STRICT;
INSERT INTO people SELECT n, id, name, real_name, is_bot, manual_away, updated, NULL FROM users;
DROP TABLE users;
ALTER TABLE people RENAME TO users;
-- A ticket dies with the token that it came of. Those of before live for seconds.
DROP TABLE tickets;
CREATE TABLE tickets (hash BLOB PRIMARY KEY, token INTEGER NOT NULL, until INTEGER NOT NULL, boot BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX tickets_by_time ON tickets (until);
