-- The schema, once for both databases. {id} stands for the database's own auto-increment key.
-- Times are microseconds since 1970 (UTC). Money is base units as decimal text of an unsigned 256-bit number.

CREATE TABLE merchant (
    id {id},
    username TEXT NOT NULL,
    username_key TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    shop_name TEXT NOT NULL,
    plan TEXT NOT NULL,
    limit_override BIGINT,
    payment_settings TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE refresh_token (
    id {id},
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    family TEXT NOT NULL,
    token_hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX refresh_token_family ON refresh_token (family);
CREATE INDEX refresh_token_merchant ON refresh_token (merchant_id);
CREATE INDEX refresh_token_expiry ON refresh_token (expires_at);

CREATE TABLE api_key (
    id {id},
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    prefix TEXT NOT NULL,
    secret_hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX api_key_merchant ON api_key (merchant_id, id);

CREATE TABLE merchant_wallet (
    id {id},
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    chain TEXT NOT NULL,
    kind TEXT NOT NULL,
    address TEXT,
    xpub TEXT,
    label TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    dedicated BOOLEAN NOT NULL,
    ownership TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE INDEX merchant_wallet_merchant ON merchant_wallet (merchant_id, id);
CREATE UNIQUE INDEX merchant_wallet_active ON merchant_wallet (merchant_id, chain) WHERE is_active;

-- One claim per (chain, address, realm) at a time. Realm 0 is live; in sandbox mode each merchant is a realm.
CREATE TABLE receiving_address (
    id {id},
    chain TEXT NOT NULL,
    address TEXT NOT NULL,
    realm BIGINT NOT NULL,
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    wallet_id BIGINT NOT NULL REFERENCES merchant_wallet (id),
    claimed_at BIGINT NOT NULL,
    released_at BIGINT
);
CREATE UNIQUE INDEX receiving_address_held ON receiving_address (chain, address, realm) WHERE released_at IS NULL;
CREATE INDEX receiving_address_wallet ON receiving_address (wallet_id);
CREATE INDEX receiving_address_merchant ON receiving_address (merchant_id);

CREATE TABLE payment_order (
    id {id},
    order_id TEXT NOT NULL UNIQUE,
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    nonce BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    chain TEXT NOT NULL,
    currency TEXT NOT NULL,
    asset TEXT NOT NULL,
    decimals BIGINT NOT NULL,
    amount TEXT NOT NULL,
    pay_units TEXT NOT NULL,
    exact_amount BOOLEAN NOT NULL,
    wallet_id BIGINT NOT NULL REFERENCES merchant_wallet (id),
    receiving_address TEXT NOT NULL,
    reference TEXT NOT NULL UNIQUE,
    order_info TEXT NOT NULL,
    webhook_url TEXT,
    redirect_url TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    in_time_until BIGINT NOT NULL,
    late_until BIGINT NOT NULL,
    monitor_until BIGINT NOT NULL,
    required_confirmations BIGINT NOT NULL,
    late_policy TEXT NOT NULL,
    policy TEXT NOT NULL,
    scanned_height BIGINT NOT NULL,
    status TEXT NOT NULL,
    fulfillable BOOLEAN NOT NULL,
    flags TEXT NOT NULL,
    late_decision TEXT,
    received_units TEXT NOT NULL,
    remainder_units TEXT,
    failure_reason TEXT,
    decision TEXT,
    decision_units TEXT,
    decided_at BIGINT,
    generation BIGINT NOT NULL,
    announced_generation BIGINT NOT NULL,
    canceled_at BIGINT,
    closed_at BIGINT,
    confirmed_at BIGINT,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX payment_order_nonce ON payment_order (merchant_id, nonce);
CREATE INDEX payment_order_list ON payment_order (merchant_id, created_at, id);
CREATE INDEX payment_order_status ON payment_order (merchant_id, status, created_at, id);
CREATE INDEX payment_order_open ON payment_order (chain, in_time_until) WHERE closed_at IS NULL;
CREATE INDEX payment_order_address ON payment_order (receiving_address, chain, monitor_until);
CREATE INDEX payment_order_watch ON payment_order (chain, asset, monitor_until);

CREATE TABLE amount_reservation (
    id {id},
    order_id BIGINT NOT NULL REFERENCES payment_order (id),
    chain TEXT NOT NULL,
    asset TEXT NOT NULL,
    address TEXT NOT NULL,
    units TEXT NOT NULL,
    plain_units TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    held_until BIGINT NOT NULL,
    released_at BIGINT,
    cools_until BIGINT
);
CREATE UNIQUE INDEX amount_reservation_held ON amount_reservation (chain, asset, address, units) WHERE released_at IS NULL;
CREATE INDEX amount_reservation_units ON amount_reservation (chain, asset, address, units);
CREATE INDEX amount_reservation_price ON amount_reservation (chain, asset, address, plain_units);
CREATE INDEX amount_reservation_order ON amount_reservation (order_id);
CREATE INDEX amount_reservation_due ON amount_reservation (chain, held_until) WHERE released_at IS NULL;

CREATE TABLE transfer (
    id {id},
    chain TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    position TEXT NOT NULL,
    generation BIGINT NOT NULL,
    log_index BIGINT,
    block_number BIGINT NOT NULL,
    block_hash TEXT NOT NULL,
    block_time BIGINT NOT NULL,
    from_address TEXT NOT NULL,
    to_address TEXT NOT NULL,
    asset TEXT NOT NULL,
    units TEXT NOT NULL,
    sender TEXT NOT NULL,
    sender_nonce BIGINT NOT NULL,
    gas_used BIGINT NOT NULL,
    gas_price TEXT NOT NULL,
    extra_fee TEXT NOT NULL,
    state TEXT NOT NULL,
    missing_since BIGINT,
    allocated_units TEXT NOT NULL,
    evidence TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX transfer_identity ON transfer (chain, tx_hash, position, generation);
CREATE INDEX transfer_hash ON transfer (tx_hash);
CREATE INDEX transfer_state ON transfer (chain, state, block_number);
CREATE INDEX transfer_recipient ON transfer (chain, to_address, created_at, id);

CREATE TABLE allocation (
    id {id},
    transfer_id BIGINT NOT NULL REFERENCES transfer (id),
    order_id BIGINT NOT NULL REFERENCES payment_order (id),
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    units TEXT NOT NULL,
    method TEXT NOT NULL,
    evidence TEXT NOT NULL,
    late_accepted BOOLEAN NOT NULL,
    counted BOOLEAN NOT NULL,
    announced_block TEXT,
    created_at BIGINT NOT NULL,
    reversed_at BIGINT
);
CREATE UNIQUE INDEX allocation_live ON allocation (transfer_id, order_id) WHERE reversed_at IS NULL;
CREATE INDEX allocation_order ON allocation (order_id);
CREATE INDEX allocation_merchant ON allocation (merchant_id, created_at, id);

-- How far each chain is verified, and who may move it. The lease's epoch fences a scanner that woke up too late.
CREATE TABLE chain_cursor (
    chain TEXT NOT NULL PRIMARY KEY,
    height BIGINT NOT NULL,
    hash TEXT NOT NULL,
    block_time BIGINT NOT NULL,
    head_height BIGINT NOT NULL,
    final_height BIGINT,
    lease_owner TEXT,
    lease_until BIGINT NOT NULL,
    lease_epoch BIGINT NOT NULL,
    health TEXT NOT NULL,
    problem TEXT,
    polled_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE chain_block (
    chain TEXT NOT NULL,
    number BIGINT NOT NULL,
    hash TEXT NOT NULL,
    parent TEXT NOT NULL,
    block_time BIGINT NOT NULL,
    vouched_by TEXT,
    PRIMARY KEY (chain, number)
);

-- What each token's contract says about its own decimals.
CREATE TABLE token_check (
    chain TEXT NOT NULL,
    contract TEXT NOT NULL,
    decimals BIGINT NOT NULL,
    checked_at BIGINT NOT NULL,
    PRIMARY KEY (chain, contract)
);

-- The outbox and the history of every order. A sequence is given after commit, by publish_events.
CREATE TABLE event (
    id {id},
    event_id TEXT NOT NULL UNIQUE,
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    order_id BIGINT REFERENCES payment_order (id),
    transfer_id BIGINT REFERENCES transfer (id),
    event_type TEXT NOT NULL,
    order_version BIGINT,
    cause TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    sequence BIGINT UNIQUE,
    created_at BIGINT NOT NULL
);
CREATE INDEX event_unpublished ON event (id) WHERE sequence IS NULL;
CREATE INDEX event_merchant ON event (merchant_id, sequence);
CREATE UNIQUE INDEX event_order_version ON event (order_id, order_version) WHERE order_id IS NOT NULL;
CREATE INDEX event_transfer ON event (transfer_id);

CREATE TABLE event_counter (
    id BIGINT NOT NULL PRIMARY KEY,
    last_sequence BIGINT NOT NULL
);
INSERT INTO event_counter (id, last_sequence) VALUES (1, 0);

CREATE TABLE webhook_endpoint (
    id {id},
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    scope TEXT NOT NULL,
    url TEXT,
    events TEXT NOT NULL,
    description TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    secret TEXT NOT NULL,
    previous_secret TEXT,
    previous_secret_until BIGINT,
    disabled_reason TEXT,
    last_success_at BIGINT,
    last_failure_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE INDEX webhook_endpoint_merchant ON webhook_endpoint (merchant_id, id);
CREATE UNIQUE INDEX webhook_endpoint_order_scope ON webhook_endpoint (merchant_id) WHERE scope = 'order';

-- Failures in a row, by endpoint and origin (the scope `order` endpoint serves many origins).
CREATE TABLE webhook_breaker (
    endpoint_id BIGINT NOT NULL REFERENCES webhook_endpoint (id),
    origin TEXT NOT NULL,
    failures BIGINT NOT NULL,
    failing_since BIGINT,
    open_until BIGINT,
    gone_count BIGINT NOT NULL,
    gone_since BIGINT,
    PRIMARY KEY (endpoint_id, origin)
);

CREATE TABLE webhook_delivery (
    id {id},
    delivery_id TEXT NOT NULL UNIQUE,
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    event_id BIGINT NOT NULL REFERENCES event (id),
    endpoint_id BIGINT NOT NULL REFERENCES webhook_endpoint (id),
    order_id BIGINT,
    order_version BIGINT,
    event_type TEXT NOT NULL,
    url TEXT NOT NULL,
    origin TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    lease_token TEXT,
    lease_until BIGINT,
    last_status BIGINT,
    last_error TEXT,
    dead_reason TEXT,
    delivered_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, origin, next_attempt_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_endpoint ON webhook_delivery (endpoint_id, id);
CREATE INDEX webhook_delivery_event ON webhook_delivery (event_id);
CREATE INDEX webhook_delivery_order ON webhook_delivery (order_id);

CREATE TABLE webhook_attempt (
    id {id},
    delivery_id BIGINT NOT NULL REFERENCES webhook_delivery (id),
    attempt BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    status BIGINT,
    response TEXT,
    error TEXT
);
CREATE INDEX webhook_attempt_delivery ON webhook_attempt (delivery_id, id);

CREATE TABLE idempotency_key (
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status BIGINT,
    body TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, idempotency_key)
);
CREATE INDEX idempotency_key_age ON idempotency_key (created_at);

CREATE TABLE audit_log (
    id {id},
    at BIGINT NOT NULL,
    merchant_id BIGINT,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX audit_log_merchant ON audit_log (merchant_id, id);

-- Which process runs which timer.
CREATE TABLE timer_lease (
    name TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    lease_until BIGINT NOT NULL
);

-- The sandbox: a test clock, simulated chains and the webhook inbox. Empty in live mode.
CREATE TABLE sandbox_clock (
    id BIGINT NOT NULL PRIMARY KEY,
    offset_micros BIGINT NOT NULL
);

CREATE TABLE sandbox_block (
    chain TEXT NOT NULL,
    number BIGINT NOT NULL,
    hash TEXT NOT NULL,
    header TEXT NOT NULL,
    block_time BIGINT NOT NULL,
    PRIMARY KEY (chain, number)
);
CREATE INDEX sandbox_block_hash ON sandbox_block (chain, hash);

CREATE TABLE sandbox_transaction (
    id {id},
    chain TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    sender TEXT NOT NULL,
    sender_nonce BIGINT NOT NULL,
    transaction_json TEXT NOT NULL,
    gas_used BIGINT NOT NULL,
    logs TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    block_number BIGINT,
    tx_index BIGINT,
    first_log_index BIGINT,
    cumulative_gas BIGINT,
    vanish_below_depth BIGINT,
    dropped_at BIGINT
);
CREATE UNIQUE INDEX sandbox_transaction_hash ON sandbox_transaction (chain, tx_hash);
CREATE INDEX sandbox_transaction_block ON sandbox_transaction (chain, block_number, tx_index);
CREATE INDEX sandbox_transaction_sender ON sandbox_transaction (chain, sender, sender_nonce);
CREATE INDEX sandbox_transaction_waiting ON sandbox_transaction (chain, not_before) WHERE block_number IS NULL AND dropped_at IS NULL;
CREATE INDEX sandbox_transaction_vanishing ON sandbox_transaction (chain) WHERE vanish_below_depth IS NOT NULL;

CREATE TABLE sandbox_fault (
    chain TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    until BIGINT NOT NULL
);

CREATE TABLE sandbox_inbox (
    merchant_id BIGINT NOT NULL PRIMARY KEY REFERENCES merchant (id),
    token TEXT NOT NULL UNIQUE,
    answer_status BIGINT NOT NULL,
    answer_delay_ms BIGINT NOT NULL
);

CREATE TABLE sandbox_message (
    id {id},
    merchant_id BIGINT NOT NULL REFERENCES merchant (id),
    received_at BIGINT NOT NULL,
    event TEXT,
    order_id TEXT,
    headers TEXT NOT NULL,
    body TEXT NOT NULL,
    signature_valid BOOLEAN NOT NULL
);
CREATE INDEX sandbox_message_merchant ON sandbox_message (merchant_id, id);
