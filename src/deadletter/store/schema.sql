-- Times are milliseconds since 1970. Words are those of the contract.
CREATE TABLE letters (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE CHECK (length(id) = 26),
    upstream TEXT NOT NULL,
    route TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'delivered', 'parked', 'discarded')),
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    parked_because TEXT,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    order_key TEXT,
    idempotency_key TEXT,
    key_name TEXT,
    key_value TEXT,
    body_bytes INTEGER NOT NULL,
    body_sha256 BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    next_attempt_at INTEGER,
    heartbeat_at INTEGER,
    expires_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    repeatable INTEGER NOT NULL,
    attempts_made INTEGER NOT NULL,
    -- How many attempts its trail holds.
    trail INTEGER NOT NULL,
    -- A pending letter behind another of its key: not its turn, whatever the time.
    behind INTEGER NOT NULL
) STRICT;

-- Apart, so that lists do not read bodies. The checksum is over all that goes up.
CREATE TABLE contents (
    n INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL,
    headers BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE attempts (
    a INTEGER PRIMARY KEY,
    n INTEGER NOT NULL,
    at INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,
    error TEXT,
    duration_ms INTEGER NOT NULL,
    answer TEXT
) STRICT;

-- Lists, newest first: all that a filter asks about stands in the index.
CREATE INDEX listed ON letters (created_at, id, state, upstream, reason);
-- Retention, and what a crash left sending.
CREATE INDEX standing ON letters (state, updated_at);
-- What may be replayed, in its order, and by its time.
CREATE INDEX turns ON letters (upstream, priority DESC, id, next_attempt_at) WHERE state = 'pending' AND behind = 0;
CREATE INDEX times ON letters (upstream, next_attempt_at) WHERE state = 'pending' AND behind = 0;
CREATE INDEX keyed ON letters (order_key, upstream, state, behind, id) WHERE order_key IS NOT NULL;
CREATE INDEX expiring ON letters (expires_at) WHERE state = 'pending';
CREATE INDEX oldest ON letters (upstream, created_at) WHERE state = 'pending';
CREATE INDEX idempotent ON letters (idempotency_key, upstream, method, path)
    WHERE idempotency_key IS NOT NULL AND state IN ('pending', 'sending', 'parked');
CREATE INDEX trails ON attempts (n);

-- Counted in the transaction that changes what is counted, whoever makes it.
CREATE TABLE counts (
    upstream TEXT NOT NULL,
    state TEXT NOT NULL,
    letters INTEGER NOT NULL,
    PRIMARY KEY (upstream, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE trail_lengths (
    upstream TEXT NOT NULL,
    trail INTEGER NOT NULL,
    letters INTEGER NOT NULL,
    PRIMARY KEY (upstream, trail)
) STRICT, WITHOUT ROWID;

CREATE TABLE spent (
    upstream TEXT NOT NULL PRIMARY KEY,
    attempts INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER letter_comes AFTER INSERT ON letters BEGIN
    INSERT INTO counts VALUES (new.upstream, new.state, 1) ON CONFLICT DO UPDATE SET letters = letters + 1;
    INSERT INTO trail_lengths VALUES (new.upstream, new.trail, 1) ON CONFLICT DO UPDATE SET letters = letters + 1;
END;

CREATE TRIGGER letter_goes AFTER DELETE ON letters BEGIN
    UPDATE counts SET letters = letters - 1 WHERE upstream = old.upstream AND state = old.state;
    UPDATE trail_lengths SET letters = letters - 1 WHERE upstream = old.upstream AND trail = old.trail;
END;

CREATE TRIGGER letter_moves AFTER UPDATE OF state ON letters WHEN old.state <> new.state BEGIN
    UPDATE counts SET letters = letters - 1 WHERE upstream = old.upstream AND state = old.state;
    INSERT INTO counts VALUES (new.upstream, new.state, 1) ON CONFLICT DO UPDATE SET letters = letters + 1;
END;

CREATE TRIGGER trail_grows AFTER UPDATE OF trail ON letters WHEN old.trail <> new.trail BEGIN
    UPDATE trail_lengths SET letters = letters - 1 WHERE upstream = old.upstream AND trail = old.trail;
    INSERT INTO trail_lengths VALUES (new.upstream, new.trail, 1) ON CONFLICT DO UPDATE SET letters = letters + 1;
END;

CREATE TRIGGER attempt_comes AFTER INSERT ON attempts BEGIN
    INSERT INTO spent SELECT upstream, 1, new.duration_ms FROM letters WHERE n = new.n
        ON CONFLICT DO UPDATE SET attempts = attempts + 1, duration_ms = duration_ms + excluded.duration_ms;
END;

CREATE TRIGGER attempt_goes AFTER DELETE ON attempts BEGIN
    UPDATE spent SET attempts = attempts - 1, duration_ms = duration_ms - old.duration_ms
        WHERE upstream = (SELECT upstream FROM letters WHERE n = old.n);
END;
