-- What the sandbox's controls remember.

-- Which order it was sent for. No reference: the order may be deleted, and the chain stays as it is.
ALTER TABLE sandbox_transaction ADD COLUMN pays_order BIGINT;
CREATE INDEX sandbox_transaction_order ON sandbox_transaction (pays_order) WHERE pays_order IS NOT NULL;
-- A reorganisation is to take it out of its block once it has confirmed its order, not once it is seen.
ALTER TABLE sandbox_transaction ADD COLUMN vanish_confirmed BOOLEAN NOT NULL DEFAULT FALSE;
-- Not sent yet: it takes the place of this transaction when that one vanishes.
ALTER TABLE sandbox_transaction ADD COLUMN replaces BIGINT;
CREATE INDEX sandbox_transaction_replaces ON sandbox_transaction (replaces) WHERE replaces IS NOT NULL;

-- Height of the chain when the fault began.
ALTER TABLE sandbox_fault ADD COLUMN height BIGINT NOT NULL DEFAULT 0;

-- A transfer is deleted only where no allocation refers to it, live or not.
CREATE INDEX allocation_transfer ON allocation (transfer_id);

-- Numbers of events that a merchant has deleted by starting anew: the sequence has no other gaps.
CREATE TABLE removed_event (
    sequence BIGINT NOT NULL PRIMARY KEY
);
