-- A register as an earlier build wrote it, schema version 3: that of version 2, upgraded; one rescue and one check.
BEGIN TRANSACTION;
CREATE TABLE certificates (
        id INTEGER PRIMARY KEY,
        serial TEXT NOT NULL REFERENCES systems (serial),
        catalog TEXT NOT NULL,
        signer TEXT NOT NULL,
        digest TEXT NOT NULL,
        day TEXT NOT NULL
    , rescue_days INTEGER, rescue_anchor TEXT) STRICT;
INSERT INTO "certificates" VALUES(1,'110877942912','ip-office','959dcb9747d379f6','4c1f9f5b26ddd2f84ff4f8b824070f11a8b03288afb6f9c2df5953261c4a503e','2026-01-31',NULL,NULL);
CREATE TABLE checks (
        serial TEXT NOT NULL REFERENCES systems (serial),
        number INTEGER NOT NULL CHECK (number >= 1),
        nonce TEXT NOT NULL,
        checked TEXT NOT NULL,
        until TEXT NOT NULL,
        retired INTEGER NOT NULL CHECK (retired IN (0, 1)),
        rolled_back INTEGER NOT NULL CHECK (rolled_back IN (0, 1)),
        state_head TEXT,
        audit_head TEXT,
        emergency_claims INTEGER,
        catalog_digest TEXT,
        list_number INTEGER,
        enrolled_host TEXT,
        signer TEXT NOT NULL,
        digest TEXT NOT NULL,
        day TEXT NOT NULL,
        PRIMARY KEY (serial, number)
    ) STRICT;
INSERT INTO "checks" VALUES('110000000002',7,'00','2026-01-31T12:00:00+00:00','2026-02-03T12:00:00+00:00',0,0,NULL,NULL,NULL,NULL,NULL,NULL,'signer','digest','2026-01-31');
CREATE TABLE exchanges (
        old_serial TEXT PRIMARY KEY NOT NULL REFERENCES systems (serial),
        new_serial TEXT NOT NULL UNIQUE REFERENCES systems (serial),
        day TEXT NOT NULL,
        CHECK (old_serial <> new_serial)
    ) STRICT;
INSERT INTO "exchanges" VALUES('110877942912','110000000002','2026-02-01');
CREATE TABLE license_keys (
        id INTEGER PRIMARY KEY,
        serial TEXT NOT NULL REFERENCES systems (serial),
        catalog TEXT NOT NULL,
        feature TEXT NOT NULL,
        feature_code INTEGER NOT NULL,
        title TEXT NOT NULL,
        instances INTEGER NOT NULL,
        issued TEXT NOT NULL,
        term INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        key TEXT NOT NULL UNIQUE,
        day TEXT NOT NULL,
        license_set TEXT,
        UNIQUE (serial, catalog, feature_code, instances, issued, term, sequence)
    ) STRICT;
INSERT INTO "license_keys" VALUES(1,'110877942912','ip-office','sip-trunk-channels',10,'SIP Trunk Channels',8,'2026-01-31',0,0,'40A0-0H56-W008-3TXG-TAPS-75JB-VJZA-PZRN','2026-01-31',NULL);
INSERT INTO "license_keys" VALUES(2,'110877942912','ip-office','softconsole',30,'SoftConsole',2,'2026-01-31',0,0,'40Y0-0556-W002-H9QK-PH19-TPKF-BXVQ-P591','2026-01-31',NULL);
INSERT INTO "license_keys" VALUES(3,'110877942912','ip-office','softconsole',30,'SoftConsole',2,'2026-01-31',1,0,'40Y0-0556-WG09-FZSG-CWF7-ZQA5-63KZ-613J','2026-01-31',NULL);
CREATE TABLE lists (
        serial TEXT NOT NULL REFERENCES systems (serial),
        number INTEGER NOT NULL CHECK (number >= 1),
        catalog TEXT NOT NULL,
        signer TEXT NOT NULL,
        digest TEXT NOT NULL,
        day TEXT NOT NULL,
        PRIMARY KEY (serial, number)
    ) STRICT;
INSERT INTO "lists" VALUES('110877942912',1,'ip-office','959dcb9747d379f6','a28c2b16fc18de4dda7877ca425144e878a5f6b648a51178bfefa667f16bbfd9','2026-01-31');
CREATE TABLE programmings (
        id INTEGER PRIMARY KEY,
        hardware_id TEXT NOT NULL,
        simulated INTEGER NOT NULL CHECK (simulated IN (0, 1)),
        day TEXT NOT NULL
    ) STRICT;
CREATE TABLE rescues (
        id INTEGER PRIMARY KEY,
        serial TEXT NOT NULL REFERENCES systems (serial),
        code_day TEXT NOT NULL,
        certified TEXT NOT NULL,
        issuer TEXT NOT NULL,
        reason TEXT NOT NULL,
        time TEXT NOT NULL,
        day TEXT NOT NULL
    ) STRICT;
INSERT INTO "rescues" VALUES(7,'110000000002','2026-02-01','2026-01-31','anna','','2026-01-31T12:00:00+00:00','2026-01-31');
CREATE TABLE revocations (
        license_key INTEGER PRIMARY KEY NOT NULL REFERENCES license_keys (id),
        reason TEXT NOT NULL,
        day TEXT NOT NULL
    ) STRICT;
INSERT INTO "revocations" VALUES(2,'returned','2026-01-31');
CREATE TABLE systems (
        serial TEXT PRIMARY KEY NOT NULL,
        kind TEXT NOT NULL,
        hardware_id TEXT NOT NULL,
        simulated INTEGER NOT NULL CHECK (simulated IN (0, 1)),
        day TEXT NOT NULL,
        UNIQUE (kind, hardware_id, simulated)
    ) STRICT;
INSERT INTO "systems" VALUES('110877942912','sd-card','035344535530384780deadbeef0136',0,'2026-01-31');
INSERT INTO "systems" VALUES('110000000002','sd-card','01',0,'2026-01-31');
CREATE TRIGGER systems_no_update BEFORE UPDATE ON systems BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER systems_no_delete BEFORE DELETE ON systems BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER systems_taken_0 BEFORE INSERT ON systems WHEN EXISTS (SELECT 1 FROM systems WHERE serial = NEW.serial) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER systems_taken_1 BEFORE INSERT ON systems WHEN EXISTS (SELECT 1 FROM systems WHERE kind = NEW.kind AND hardware_id = NEW.hardware_id AND simulated = NEW.simulated) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER programmings_no_update BEFORE UPDATE ON programmings BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER programmings_no_delete BEFORE DELETE ON programmings BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER programmings_taken_0 BEFORE INSERT ON programmings WHEN EXISTS (SELECT 1 FROM programmings WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER certificates_no_update BEFORE UPDATE ON certificates BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER certificates_no_delete BEFORE DELETE ON certificates BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER certificates_taken_0 BEFORE INSERT ON certificates WHEN EXISTS (SELECT 1 FROM certificates WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER license_keys_no_update BEFORE UPDATE ON license_keys BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER license_keys_no_delete BEFORE DELETE ON license_keys BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER license_keys_taken_0 BEFORE INSERT ON license_keys WHEN EXISTS (SELECT 1 FROM license_keys WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER license_keys_taken_1 BEFORE INSERT ON license_keys WHEN EXISTS (SELECT 1 FROM license_keys WHERE key = NEW.key) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER license_keys_taken_2 BEFORE INSERT ON license_keys WHEN EXISTS (SELECT 1 FROM license_keys WHERE serial = NEW.serial AND catalog = NEW.catalog AND feature_code = NEW.feature_code AND instances = NEW.instances AND issued = NEW.issued AND term = NEW.term AND sequence = NEW.sequence) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER revocations_no_update BEFORE UPDATE ON revocations BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER revocations_no_delete BEFORE DELETE ON revocations BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER revocations_taken_0 BEFORE INSERT ON revocations WHEN EXISTS (SELECT 1 FROM revocations WHERE license_key = NEW.license_key) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER lists_no_update BEFORE UPDATE ON lists BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER lists_no_delete BEFORE DELETE ON lists BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER lists_taken_0 BEFORE INSERT ON lists WHEN EXISTS (SELECT 1 FROM lists WHERE serial = NEW.serial AND number = NEW.number) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER exchanges_no_update BEFORE UPDATE ON exchanges BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER exchanges_no_delete BEFORE DELETE ON exchanges BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER exchanges_taken_0 BEFORE INSERT ON exchanges WHEN EXISTS (SELECT 1 FROM exchanges WHERE old_serial = NEW.old_serial) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER exchanges_taken_1 BEFORE INSERT ON exchanges WHEN EXISTS (SELECT 1 FROM exchanges WHERE new_serial = NEW.new_serial) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE UNIQUE INDEX one_trial ON license_keys (serial, catalog, feature_code) WHERE term = 1;
CREATE TRIGGER license_keys_one_trial BEFORE INSERT ON license_keys WHEN NEW.term = 1 AND EXISTS (SELECT 1 FROM license_keys WHERE term = 1 AND serial = NEW.serial AND catalog = NEW.catalog AND feature_code = NEW.feature_code) BEGIN SELECT RAISE(ABORT, 'a second trial of one feature'); END;
CREATE TRIGGER certificates_retired BEFORE INSERT ON certificates WHEN EXISTS (SELECT 1 FROM exchanges WHERE old_serial = NEW.serial) BEGIN SELECT RAISE(ABORT, 'the serial was exchanged'); END;
CREATE TRIGGER license_keys_retired BEFORE INSERT ON license_keys WHEN EXISTS (SELECT 1 FROM exchanges WHERE old_serial = NEW.serial) BEGIN SELECT RAISE(ABORT, 'the serial was exchanged'); END;
CREATE TRIGGER exchanges_retired BEFORE INSERT ON exchanges WHEN EXISTS (SELECT 1 FROM exchanges WHERE old_serial = NEW.new_serial) BEGIN SELECT RAISE(ABORT, 'the serial was exchanged'); END;
CREATE TRIGGER rescues_no_update BEFORE UPDATE ON rescues BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER rescues_no_delete BEFORE DELETE ON rescues BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER rescues_taken_0 BEFORE INSERT ON rescues WHEN EXISTS (SELECT 1 FROM rescues WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER checks_no_update BEFORE UPDATE ON checks BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER checks_no_delete BEFORE DELETE ON checks BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER checks_taken_0 BEFORE INSERT ON checks WHEN EXISTS (SELECT 1 FROM checks WHERE serial = NEW.serial AND number = NEW.number) BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END;
CREATE TRIGGER rescues_retired BEFORE INSERT ON rescues WHEN EXISTS (SELECT 1 FROM exchanges WHERE old_serial = NEW.serial) BEGIN SELECT RAISE(ABORT, 'the serial was exchanged'); END;
COMMIT;
PRAGMA application_id = 1718315379;
PRAGMA user_version = 3;
