//! What a new order depends on, as one statement finds it.

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::ids::{MerchantId, OrderId};
use cryptopay_domain::reservation::ReservationKind;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::amount_reservation::{self, Place, Wanted};
use cryptopay_entity::chain_cursor;
use cryptopay_entity::preconditions::{Asked, Preconditions};
use cryptopay_entity::txn::begin;
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::rows::{self, MERCHANT};

const CHAIN: &str = "base";
const VERIFIED: Timestamp = Timestamp::from_micros(1_000);

fn address() -> AccountAddress {
    "0x00000000000000000000000000000000000000a1".parse().unwrap()
}

async fn read(db: &TestDatabase, merchant: MerchantId, asset: Asset, values: &[Units]) -> Preconditions {
    let txn = begin(db.connection()).await.unwrap();
    let known = Preconditions::read(&txn, Asked { merchant, chain: CHAIN, asset, values }).await.unwrap();
    txn.rollback().await.unwrap();
    known
}

/// An order of this price holds these units. Let go, they cool until then.
async fn hold(db: &TestDatabase, order: i64, (price, units): (u128, u128), cools_until: Option<Timestamp>) {
    let wanted = Wanted {
        order: OrderId(order),
        place: Place { chain: CHAIN, asset: Asset::Native, address: address() },
        units: Units::new(units),
        plain_units: Units::new(price),
        kind: ReservationKind::Due,
        held_until: VERIFIED,
        now: VERIFIED,
    };
    assert!(amount_reservation::Entity::hold(db.connection(), wanted).await.unwrap());
    if cools_until.is_some() {
        let held = amount_reservation::Entity::held_by(db.connection(), OrderId(order)).await.unwrap();
        let ids = held.iter().map(|row| row.id).collect();
        amount_reservation::Entity::release(db.connection(), ids, VERIFIED, cools_until).await.unwrap();
    }
}

on_both_databases!(place_amounts_and_endpoints_are_known_at_once, async |db: TestDatabase| {
    rows::merchants(&db).await;
    rows::orders(&db, 4, "0").await;
    let mine = |id: i64, deleted: &str| {
        format!(
            "INSERT INTO webhook_endpoint (id, merchant_id, scope, url, events, description, is_active, secret, \
             created_at, updated_at, deleted_at) \
             VALUES ({id}, 1, 'merchant', 'https://b.example/', '*', '', TRUE, '', 0, 0, {deleted})"
        )
    };
    rows::run(&db, &[mine(3, "NULL"), mine(4, "7")]).await;
    let hash: Hash = format!("0x{:064}", 7).parse().unwrap();
    assert!(chain_cursor::Entity::begin(db.connection(), CHAIN, 7, hash, VERIFIED, VERIFIED).await.unwrap());
    hold(&db, 1, (100, 100), None).await;
    hold(&db, 2, (100, 99), Some(VERIFIED.plus(std::time::Duration::from_secs(1)))).await;
    hold(&db, 3, (98, 98), Some(VERIFIED)).await;
    hold(&db, 4, (97, 97), None).await;

    let values = [100, 99, 98, 96].map(Units::new);
    let known = read(&db, MERCHANT, Asset::Native, &values).await;
    assert_eq!(known.place.address, Some(address()));
    assert_eq!((known.place.height, known.place.block_time), (Some(7), Some(VERIFIED)));
    let mut taken = known.taken.clone();
    taken.sort_unstable();
    assert_eq!(taken, [99, 100].map(Units::new), "held or cooling, and asked about");
    assert!(known.price_is_shared, "another value was held for this price");
    assert_eq!(known.endpoints.iter().map(|endpoint| endpoint.id.0).collect::<Vec<_>>(), [1, 3]);

    assert!(!read(&db, MERCHANT, Asset::Native, &[Units::new(97)]).await.price_is_shared);
    let elsewhere = read(&db, MERCHANT, Asset::Token(address()), &values).await;
    assert!(elsewhere.taken.is_empty() && !elsewhere.price_is_shared);
});

on_both_databases!(what_is_not_there_is_not_known, async |db: TestDatabase| {
    let known = read(&db, MERCHANT, Asset::Native, &[]).await;
    assert_eq!((known.place.wallet_id, known.place.height, known.place.contract_decimals), (None, None, None));
    assert!(known.taken.is_empty() && !known.price_is_shared && known.endpoints.is_empty());
    assert_eq!((known.order.0, known.event.0), (1, 1), "of a table without rows");
});
