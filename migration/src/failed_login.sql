-- How often a password failed: one row for each account, address and hour. Account 0: names that no account has. An empty
-- address: the sum of all further addresses of the hour.
CREATE TABLE failed_login (
    merchant_id BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    action TEXT NOT NULL,
    address TEXT NOT NULL,
    failures BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, hour, action, address)
);
CREATE INDEX failed_login_hour ON failed_login (hour);
