//! What a new order depends on, as one statement finds it.

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::amount::DecimalAmount;
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

async fn read(db: &TestDatabase, merchant: MerchantId, asset: Asset, values: &[u128]) -> Preconditions {
    let amounts: Vec<_> = values.iter().map(|units| DecimalAmount::new(Units::new(*units), 2)).collect();
    let txn = begin(db.connection()).await.unwrap();
    let known = Preconditions::read(&txn, Asked { merchant, chain: CHAIN, asset, amounts: &amounts }).await.unwrap();
    txn.rollback().await.unwrap();
    known
}

/// An order of this price holds these units. Released, they cool, or are free.
#[derive(Clone, Copy)]
enum State {
    Held,
    Cooling,
    Free,
}

async fn hold(db: &TestDatabase, order: i64, (price, units): (u128, u128), state: State) {
    let wanted = Wanted {
        order: OrderId(order),
        place: Place { chain: CHAIN, asset: Asset::Native, address: address() },
        decimals: 2,
        units: Units::new(units),
        plain_units: Units::new(price),
        kind: ReservationKind::Due,
        held_until: VERIFIED,
        now: VERIFIED,
    };
    assert!(amount_reservation::Entity::hold(db.connection(), wanted).await.unwrap());
    let held = amount_reservation::Entity::held_by(db.connection(), OrderId(order)).await.unwrap();
    let ids: Vec<_> = held.iter().map(|row| row.id).collect();
    if !matches!(state, State::Held) {
        amount_reservation::Entity::release(db.connection(), ids.clone(), VERIFIED, VERIFIED).await.unwrap();
    }
    if matches!(state, State::Free) {
        amount_reservation::Entity::free(db.connection(), ids, VERIFIED).await.unwrap();
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
    hold(&db, 1, (101, 100), State::Held).await;
    hold(&db, 2, (102, 99), State::Cooling).await;
    hold(&db, 3, (103, 98), State::Free).await;
    hold(&db, 4, (104, 97), State::Held).await;

    let values = [104, 103, 102, 100, 99, 98, 96];
    let known = read(&db, MERCHANT, Asset::Native, &values).await;
    assert_eq!(known.place.address, Some(address()));
    assert_eq!((known.place.height, known.place.block_time), (Some(7), Some(VERIFIED)));
    let mut taken = known.taken.clone();
    taken.sort_unstable();
    let expected = ["0.99", "1", "1.02", "1.04"].map(DecimalAmount::from);
    assert_eq!(taken, expected, "held, cooling, or the price of an order");
    assert_eq!(known.endpoints.iter().map(|endpoint| endpoint.id.0).collect::<Vec<_>>(), [1, 3]);

    let elsewhere = read(&db, MERCHANT, Asset::Token(address()), &values).await;
    let mut taken = elsewhere.taken;
    taken.sort_unstable();
    assert_eq!(taken, expected, "in whatever asset");
});

on_both_databases!(what_is_not_there_is_not_known, async |db: TestDatabase| {
    let known = read(&db, MERCHANT, Asset::Native, &[]).await;
    assert_eq!((known.place.wallet_id, known.place.height, known.place.contract_decimals), (None, None, None));
    assert!(known.taken.is_empty() && known.endpoints.is_empty());
    assert_eq!((known.order.0, known.event.0), (1, 1), "of a table without rows");
});
