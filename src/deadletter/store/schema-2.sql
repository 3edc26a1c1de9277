-- What may bear payload is sealed where a key is configured: the columns that held it are empty then, and `head` has them.
ALTER TABLE letters ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE letters ADD COLUMN head BLOB;
-- The order key itself, where `order_key` is its tag though the letter lies in the clear.
ALTER TABLE letters ADD COLUMN order_word TEXT;
ALTER TABLE contents ADD COLUMN credentials BLOB;
-- An attempt's error and answer, sealed.
ALTER TABLE attempts ADD COLUMN sealed BLOB;

-- Pending letters whose key is not configured: they stepped out of their line (behind = 2), and are nobody's turn.
CREATE INDEX aside ON letters (key_id, n) WHERE behind = 2;

-- Letters by the key that they are sealed with, '' for those in the clear; and the store's key of tags, sealed with that key.
-- A row '' without letters says that what once lay in the clear has not been overwritten yet.
CREATE TABLE seals (
    key_id TEXT NOT NULL PRIMARY KEY,
    letters INTEGER NOT NULL,
    tags BLOB
) STRICT, WITHOUT ROWID;

INSERT INTO seals SELECT '', (SELECT count(*) FROM letters), NULL WHERE EXISTS (SELECT 1 FROM counts);

CREATE TRIGGER seal_comes AFTER INSERT ON letters BEGIN
    INSERT INTO seals VALUES (new.key_id, 1, NULL) ON CONFLICT DO UPDATE SET letters = letters + 1;
END;

CREATE TRIGGER seal_goes AFTER DELETE ON letters BEGIN
    UPDATE seals SET letters = letters - 1 WHERE key_id = old.key_id;
END;

CREATE TRIGGER seal_changes AFTER UPDATE OF key_id ON letters WHEN old.key_id <> new.key_id BEGIN
    UPDATE seals SET letters = letters - 1 WHERE key_id = old.key_id;
    INSERT INTO seals VALUES (new.key_id, 1, NULL) ON CONFLICT DO UPDATE SET letters = letters + 1;
END;
