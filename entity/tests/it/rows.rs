//! Merchants with as many rows as it takes, written by the database itself.

use cryptopay_domain::ids::{EndpointId, MerchantId};
use cryptopay_test_support::TestDatabase;
use sea_orm::ConnectionTrait;

/// Whose rows are listed. Merchant 2 has as many.
pub(crate) const MERCHANT: MerchantId = MerchantId(1);
/// Of merchant 1.
pub(crate) const ENDPOINT: EndpointId = EndpointId(1);
/// In the one form that addresses are stored in: with the capitals of EIP-55.
const ADDRESS: &str = "0x00000000000000000000000000000000000000A1";

/// Runs statements.
pub(crate) async fn run(db: &TestDatabase, statements: &[String]) {
    for statement in statements {
        let done = db.connection().execute_unprepared(statement).await;
        done.unwrap_or_else(|error| panic!("{error}\n{statement}"));
    }
}

/// A number as text of letters and digits that ids may have.
fn letters(number: &str, length: usize) -> String {
    let digits = format!("CAST({number} AS TEXT)");
    let padding = "a".repeat(length);
    let padded = format!("substr('{padding}', 1, {length} - length({digits})) || {digits}");
    format!("replace(replace(replace(replace({padded}, '0', 'b'), '1', 'c'), '8', 'd'), '9', 'e')")
}

fn hex(number: &str, length: usize) -> String {
    let zeros = "0".repeat(length);
    format!("substr('{zeros}', 1, {length} - length(CAST({number} AS TEXT))) || CAST({number} AS TEXT)")
}

/// Merchants 1 and 2, each with a wallet and an endpoint of the same number.
pub(crate) async fn merchants(db: &TestDatabase) {
    let mut statements = Vec::new();
    for id in 1..=2 {
        statements.push(format!(
            "INSERT INTO merchant (id, username, username_key, email, email_key, password_hash, shop_name, plan, \
             payment_settings, created_at, updated_at) \
             VALUES ({id}, 'm{id}', 'm{id}', 'm{id}@e', 'm{id}@e', '', '', 'standard', '{{}}', 0, 0)"
        ));
        statements.push(format!(
            "INSERT INTO merchant_wallet (id, merchant_id, chain, kind, address, label, is_active, dedicated, ownership, \
             created_at, updated_at) VALUES ({id}, {id}, 'base', 'address', '{ADDRESS}', '', TRUE, FALSE, 'unproven', 0, 0)"
        ));
        statements.push(format!(
            "INSERT INTO webhook_endpoint (id, merchant_id, scope, url, events, description, is_active, secret, \
             created_at, updated_at) VALUES ({id}, {id}, 'merchant', 'https://a.example/', '*', '', TRUE, '', 0, 0)"
        ));
    }
    run(db, &statements).await;
}

/// Orders 1 to `count`, odd ones of merchant 1. `created_at` is SQL over the number `i`.
pub(crate) async fn orders(db: &TestDatabase, count: u64, created_at: &str) {
    let (order_id, reference) = (letters("i", 12), hex("i", 32));
    let statement = format!(
        "INSERT INTO payment_order (id, order_id, merchant_id, nonce, fingerprint, chain, currency, asset, decimals, amount, \
         pay_units, wallet_id, receiving_address, reference, order_info, created_at, expires_at, \
         in_time_until, late_until, monitor_until, required_confirmations, late_policy, scanned_height, status, \
         fulfillable, flags, received_units, generation, announced_generation, version, updated_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
         SELECT i, 'ORD-' || {order_id}, 2 - i % 2, i, '', CASE WHEN i % 1000 = 7 THEN 'polygon' ELSE 'base' END, \
         CASE WHEN i % 1000 = 9 THEN 'ETH' ELSE 'USDC' END, 'native', 18, '1.00', '1', 2 - i % 2, '{ADDRESS}', \
         {reference}, '{{\"number\":' || CAST(i AS TEXT) || '}}', {created_at}, 0, 0, 0, 0, 3, 'accept', 0, \
         CASE WHEN i % 1000 = 3 THEN 'pending' WHEN i % 1000 = 5 THEN 'underpaid' ELSE 'confirmed' END, FALSE, '', '0', \
         1, 0, 1, 0 FROM n"
    );
    run(db, &[statement]).await;
}

/// Transfers 1 to `count`, odd ones shown to merchant 1.
pub(crate) async fn transfers(db: &TestDatabase, count: u64, created_at: &str) {
    let hash = hex("i", 64);
    let block = "0".repeat(64);
    let statements = [
        format!(
            "INSERT INTO transfer (id, chain, tx_hash, position, generation, block_number, block_hash, block_time, \
             from_address, to_address, asset, units, sender, sender_nonce, gas_used, gas_price, extra_fee, state, \
             allocated_units, evidence, version, created_at, updated_at) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             SELECT i, 'base', '0x' || {hash}, 'native', 0, i, '0x{block}', 0, '{ADDRESS}', '{ADDRESS}', 'native', '1', \
             '{ADDRESS}', 0, 1, '1', '0', CASE WHEN i % 1000 = 3 THEN 'included' WHEN i % 1000 = 5 THEN 'orphaned' \
             ELSE 'final' END, '0', '{{}}', 1, {created_at}, 0 FROM n"
        ),
        "INSERT INTO merchant_transfer (transfer_id, merchant_id, chain, waiting, created_at) \
         SELECT id, 2 - id % 2, chain, id % 1000 = 9, created_at FROM transfer"
            .to_owned(),
    ];
    run(db, &statements).await;
}

/// Deliveries 1 to `count`, odd ones to endpoint 1.
pub(crate) async fn deliveries(db: &TestDatabase, count: u64, created_at: &str) {
    let (event, delivery) = (letters("i", 24), letters("i", 24));
    let statements = [
        format!(
            "INSERT INTO event (id, event_id, merchant_id, event_type, cause, snapshot, created_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
         SELECT i, 'evt_' || {event}, 2 - i % 2, 'order.created', '', '{{}}', 0 FROM n"
        ),
        format!(
            "INSERT INTO webhook_delivery (id, delivery_id, merchant_id, event_id, endpoint_id, event_type, url, origin, \
         body, state, attempts, next_attempt_at, created_at, updated_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
         SELECT i, 'wh_' || {delivery}, 2 - i % 2, i, 2 - i % 2, \
         CASE WHEN i % 1000 = 3 THEN 'order.expired' WHEN i % 1000 = 5 THEN 'payment.failed' ELSE 'payment.confirmed' END, \
         '', '', '{{}}', CASE WHEN i % 1000 = 7 THEN 'dead' ELSE 'delivered' END, 1, 0, {created_at}, 0 FROM n"
        ),
    ];
    run(db, &statements).await;
}
