-- `user` means something else to other databases. Number 3 of SQLite's own mark: from here on the table of migrations says what there is.
ALTER TABLE members RENAME COLUMN user TO who;
ALTER TABLE messages RENAME COLUMN user TO who;
ALTER TABLE reactions RENAME COLUMN user TO who;
PRAGMA user_version = 3;
