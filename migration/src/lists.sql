-- What lists are read by, so that a page costs the same however many rows there are and however deep it lies.

-- Which merchant sees which transfer: the one whose order it pays, or whoever held the address that it came to. `waiting`
-- while no order has a share of it; since m20261129_000006 while something of it belongs to none.
CREATE TABLE merchant_transfer (
    transfer_id BIGINT NOT NULL REFERENCES transfer (id),
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    chain TEXT NOT NULL,
    waiting BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (transfer_id, merchant_id)
);
CREATE INDEX merchant_transfer_list ON merchant_transfer (merchant_id, created_at, transfer_id);
CREATE INDEX merchant_transfer_chain ON merchant_transfer (merchant_id, chain, created_at, transfer_id);
CREATE INDEX merchant_transfer_waiting ON merchant_transfer (merchant_id, created_at, transfer_id) WHERE waiting;
INSERT INTO merchant_transfer (transfer_id, merchant_id, chain, waiting, created_at)
    SELECT DISTINCT t.id, a.merchant_id, t.chain, FALSE, t.created_at
    FROM allocation a JOIN transfer t ON t.id = a.transfer_id WHERE a.reversed_at IS NULL;
INSERT INTO merchant_transfer (transfer_id, merchant_id, chain, waiting, created_at)
    SELECT DISTINCT t.id, r.merchant_id, t.chain, TRUE, t.created_at
    FROM transfer t JOIN receiving_address r ON r.chain = t.chain AND r.address = t.to_address
    WHERE (r.released_at IS NULL OR r.released_at >= t.block_time)
    AND NOT EXISTS (SELECT 1 FROM allocation a WHERE a.transfer_id = t.id AND a.reversed_at IS NULL);

-- Transfers that are not settled for good: few, whatever the size of the table.
CREATE INDEX transfer_unsettled ON transfer (state, created_at, id) WHERE state <> 'final';

CREATE INDEX payment_order_chain ON payment_order (merchant_id, chain, created_at, id);
CREATE INDEX payment_order_currency ON payment_order (merchant_id, lower(currency), created_at, id);

DROP INDEX webhook_delivery_endpoint;
CREATE INDEX webhook_delivery_list ON webhook_delivery (endpoint_id, created_at, id);
CREATE INDEX webhook_delivery_type ON webhook_delivery (endpoint_id, event_type, created_at, id);
CREATE INDEX webhook_delivery_dead ON webhook_delivery (endpoint_id, created_at, id) WHERE state = 'dead';
