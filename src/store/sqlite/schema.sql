CREATE TABLE IF NOT EXISTS "idempotency" (
    key BLOB PRIMARY KEY NOT NULL,
    expires INTEGER NOT NULL,
    entry BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS "idempotency_expires" ON "idempotency" (expires);
