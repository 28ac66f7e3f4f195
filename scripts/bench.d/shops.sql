-- :shops shops like the one that was registered, each with a wallet, endpoints and an API key of its own.
BEGIN;
CREATE TABLE bench_shop AS
SELECT n, merchant.id + n AS merchant_id,
    (SELECT max(id) FROM merchant_wallet) + n AS wallet_id,
    '0x' || lpad(n::text, 40, '1') AS address,
    -- Forty of the characters that keys are made of.
    'sk_test_' || substr(translate(encode(sha256(n::text::bytea), 'hex'), '0189', 'ghij'), 1, 40) AS key
FROM merchant, generate_series(1, :shops) AS n WHERE username_key = 'bench';

INSERT INTO merchant
SELECT new.* FROM merchant, bench_shop AS shop, jsonb_populate_record(merchant, jsonb_build_object('id', merchant_id,
    'username', 'bench' || n, 'username_key', 'bench' || n, 'email', 'b' || n || '@example.com',
    'email_key', 'b' || n || '@example.com')) AS new
WHERE merchant.username_key = 'bench';

INSERT INTO api_key
SELECT new.* FROM api_key, bench_shop AS shop, jsonb_populate_record(api_key, jsonb_build_object('id', api_key.id + n,
    'merchant_id', shop.merchant_id, 'prefix', substr(key, 1, 12),
    'secret_hash', encode(sha256(key::bytea), 'hex'))) AS new;

INSERT INTO merchant_wallet
SELECT new.* FROM merchant_wallet AS wallet, bench_shop AS shop, jsonb_populate_record(wallet, jsonb_build_object(
    'id', wallet_id, 'merchant_id', shop.merchant_id, 'address', shop.address)) AS new;

INSERT INTO receiving_address
SELECT new.* FROM receiving_address AS held, bench_shop AS shop, jsonb_populate_record(held, jsonb_build_object(
    'id', held.id + n, 'merchant_id', shop.merchant_id, 'wallet_id', shop.wallet_id, 'address', shop.address,
    'realm', shop.merchant_id)) AS new;

INSERT INTO webhook_endpoint
SELECT new.* FROM webhook_endpoint AS endpoint, bench_shop AS shop, jsonb_populate_record(endpoint, jsonb_build_object(
    'id', endpoint.id + 10 * n, 'merchant_id', shop.merchant_id)) AS new;

SELECT setval(pg_get_serial_sequence(name, 'id'), 1000000)
FROM unnest(ARRAY['merchant', 'api_key', 'merchant_wallet', 'receiving_address', 'webhook_endpoint']) AS name;
COMMIT;
ANALYZE;
