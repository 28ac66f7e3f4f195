-- The fault of a transfer's evidence, in words, and the time of its last recheck (database clock).
ALTER TABLE transfer ADD COLUMN unverifiable_reason TEXT;
ALTER TABLE transfer ADD COLUMN rechecked_at BIGINT;

-- The reason that a chain without a cursor cannot start. The row goes with the first cursor.
CREATE TABLE chain_start (
    chain TEXT PRIMARY KEY,
    problem TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
