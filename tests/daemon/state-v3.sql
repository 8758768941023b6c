-- A state file as release 0.1 wrote it at schema version 3, by the code of that time.
BEGIN TRANSACTION;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY, wall INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    message TEXT NOT NULL, fields TEXT NOT NULL, digest TEXT NOT NULL
) STRICT;
INSERT INTO "audit" VALUES(1,1767225600,'uid 0','license_added','Taken.','{"FEATURE":"trunk"}','afbd78ac7b90f143009fac4406c398bf102d5a95ac3ff71c5d2ac07178d292e9');
CREATE TABLE configuration_lease (
    holder TEXT NOT NULL, key TEXT NOT NULL, lease TEXT NOT NULL, PRIMARY KEY (holder, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "configuration_lease" VALUES('asterisk','tenant-1','{"type":"lease","holder":"asterisk","key":"tenant-1","uid":1000,"scope":"configuration","wants":{"tenant":1},"granted":5.0}');
CREATE TABLE document (kind TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
INSERT INTO "document" VALUES('certificate','-----BEGIN certificate');
INSERT INTO "document" VALUES('license_list','the list');
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE mark (
    serial TEXT PRIMARY KEY, list_number INTEGER NOT NULL, listed TEXT NOT NULL, certified TEXT NOT NULL
) STRICT;
INSERT INTO "mark" VALUES('110123456789',7,'2026-01-02','2025-12-31');
CREATE TABLE meter (cause TEXT PRIMARY KEY, drained REAL NOT NULL) STRICT;
INSERT INTO "meter" VALUES('feature_key_absent',12.5);
CREATE TABLE removed_key (key TEXT PRIMARY KEY) STRICT;
INSERT INTO "removed_key" VALUES('X');
CREATE TABLE reservation (
    place INTEGER PRIMARY KEY, feature TEXT NOT NULL, key TEXT NOT NULL, holder TEXT, instances INTEGER NOT NULL,
    UNIQUE (feature, key)
) STRICT;
INSERT INTO "reservation" VALUES(1,'trunk','201','asterisk',3);
CREATE TABLE seal (
    one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, digest TEXT NOT NULL
) STRICT;
INSERT INTO "seal" VALUES(1,2,'2c319a86ce8f6d7c32df736d55c94d8f7c7e2639c5ff10f1b3495238f676d76c');
CREATE TABLE trial (
    serial TEXT NOT NULL, code INTEGER NOT NULL, issued TEXT NOT NULL, PRIMARY KEY (serial, code)
) STRICT;
INSERT INTO "trial" VALUES('110123456789',7,'2026-01-05');
CREATE TABLE typed_key (place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO "typed_key" VALUES(1,'B');
INSERT INTO "typed_key" VALUES(2,'A');
COMMIT;
PRAGMA user_version = 3;
