-- The reference back end's tables. A durable channel (a *stream*: a conversation, a user's own, the team's) counts its events 1, 2, 3 ...
-- in `streams`; the event and its outbox row are written in the transaction that counts. Times are microseconds since 1970.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE users (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    real_name TEXT NOT NULL,
    is_bot INTEGER NOT NULL,
    token TEXT NOT NULL UNIQUE,
    manual_away INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL
) STRICT;
CREATE TABLE streams (
    name TEXT PRIMARY KEY,
    tip INTEGER NOT NULL,
    last_ts INTEGER NOT NULL    -- of its newest event: the next one is above it
) STRICT, WITHOUT ROWID;
CREATE TABLE conversations (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT UNIQUE,           -- none for a conversation of people
    kind INTEGER NOT NULL,      -- 0 public, 1 private, 2 of one or two people, 3 of several
    pair TEXT UNIQUE,           -- the sorted ids of its people
    creator TEXT NOT NULL,
    created INTEGER NOT NULL,
    is_general INTEGER NOT NULL DEFAULT 0,
    topic TEXT NOT NULL DEFAULT '',
    members INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE members (
    channel TEXT NOT NULL,
    user TEXT NOT NULL,
    last_read INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (channel, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user, channel);
CREATE TABLE messages (
    channel TEXT NOT NULL,
    ts INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    user TEXT NOT NULL,
    thread INTEGER,             -- ts of the parent
    is_reply INTEGER NOT NULL,  -- shown in its thread only
    deleted INTEGER NOT NULL DEFAULT 0,
    key TEXT,                   -- what makes a repetition in this channel the same message: see `Key`
    body TEXT NOT NULL,         -- the message as JSON, without its channel
    PRIMARY KEY (channel, ts)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX messages_by_key ON messages (channel, user, key) WHERE key IS NOT NULL;
CREATE INDEX messages_by_thread ON messages (channel, thread, ts) WHERE thread IS NOT NULL;
CREATE TABLE reactions (
    channel TEXT NOT NULL, ts INTEGER NOT NULL, name TEXT NOT NULL, user TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (channel, ts, name, user)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    stream TEXT NOT NULL,
    seq INTEGER NOT NULL,
    life INTEGER NOT NULL,      -- which connection caused it
    conn INTEGER NOT NULL,
    what INTEGER,               -- membership: 1 joined, 2 left
    member TEXT,
    member_channel TEXT,
    member_seq INTEGER,
    payload TEXT NOT NULL,
    PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID;
-- Ids are never used again: a removal that comes late must not hit a newer row.
CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
CREATE TABLE tickets (hash BLOB PRIMARY KEY, until INTEGER NOT NULL, boot BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX tickets_by_time ON tickets (until);
