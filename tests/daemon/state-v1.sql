-- A state file as release 0.1 wrote it at schema version 1, by the code of that time.
BEGIN TRANSACTION;
CREATE TABLE document (kind TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
INSERT INTO "document" VALUES('certificate','-----BEGIN certificate');
INSERT INTO "document" VALUES('license_list','the list');
CREATE TABLE mark (
    serial TEXT PRIMARY KEY, list_number INTEGER NOT NULL, listed TEXT NOT NULL, certified TEXT NOT NULL
) STRICT;
INSERT INTO "mark" VALUES('110123456789',7,'2026-01-02','2025-12-31');
CREATE TABLE meter (cause TEXT PRIMARY KEY, drained REAL NOT NULL) STRICT;
INSERT INTO "meter" VALUES('feature_key_absent',12.5);
CREATE TABLE removed_key (key TEXT PRIMARY KEY) STRICT;
INSERT INTO "removed_key" VALUES('X');
CREATE TABLE typed_key (place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO "typed_key" VALUES(1,'B');
INSERT INTO "typed_key" VALUES(2,'A');
COMMIT;
PRAGMA user_version = 1;
