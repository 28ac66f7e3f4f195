-- Open orders number :first to :last, like the one that was created, spread over :shops shops.
BEGIN;
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT number, 1000000 + number AS id, number::numeric * 10000 AS units, shop.merchant_id, shop.wallet_id, shop.address,
    translate(encode(sha256(number::text::bytea), 'hex'), '0189', 'ghij') AS word
FROM generate_series(:first, :last) AS number JOIN bench_shop AS shop ON shop.n = number % :shops + 1;

INSERT INTO payment_order
SELECT new.* FROM payment_order AS first, made, jsonb_populate_record(first, jsonb_build_object('id', made.id,
    'order_id', 'ORD-' || substr(word, 1, 12), 'merchant_id', made.merchant_id, 'nonce', number,
    'amount', trunc(units / 1000000, 2)::text, 'pay_units', units::text, 'wallet_id', made.wallet_id,
    'receiving_address', address, 'reference', md5(word),
    'created_at', first.created_at + number, 'updated_at', first.created_at + number)) AS new
WHERE first.nonce = 0;

INSERT INTO amount_reservation
SELECT new.* FROM payment_order AS first, amount_reservation AS held, made, jsonb_populate_record(held, jsonb_build_object(
    'id', made.id, 'order_id', made.id, 'address', made.address,
    'units', made.units::text, 'amount', trim_scale(made.units / 1000000)::text,
    'plain_units', (made.units + 1)::text, 'plain_amount', trim_scale((made.units + 1) / 1000000)::text)) AS new
WHERE first.nonce = 0 AND held.order_id = first.id;
COMMIT;
VACUUM ANALYZE;
