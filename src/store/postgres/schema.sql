CREATE TABLE IF NOT EXISTS "idempotency" (
    key bytea PRIMARY KEY,
    expires timestamptz NOT NULL,
    entry bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS "idempotency_expires" ON "idempotency" (expires);
