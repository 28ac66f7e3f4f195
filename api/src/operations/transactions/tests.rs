use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::transfer::{TransactionStatus, TransferState};
use cryptopay_entity::{chain_cursor, clock, receiving_address};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::json;

use super::*;
use crate::error::ErrorCode;
use crate::fields::Fields;
use crate::operations::once::{Answer, Once};
use crate::operations::pages::first;
use crate::operations::shop::{Incoming, Shop};
use crate::rest::transactions::Transaction;
use crate::rest::types::AllocateTransfer;

async fn listed(shop: &Shop, principal: &Principal, filter: TransferFilter) -> Vec<Hash> {
    let page = list(&shop.app, principal, &filter, &first(100)).await.unwrap();
    assert_eq!(page.count, u64::try_from(page.rows.len()).unwrap());
    page.rows.into_iter().map(|view| view.transfer.tx_hash).collect()
}

fn matched(matched: bool) -> TransferFilter {
    TransferFilter { matched: Some(matched), ..TransferFilter::default() }
}

on_both_databases!(a_merchant_sees_what_came_to_its_orders_and_wallets_and_nothing_else, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let (bert, his) = shop.merchant("bert").await;
    let order = shop.order(&anna).await;
    let paid = shop.transfer(hers, order.pay_units);
    let stray = shop.transfer(hers, Units::new(7));
    let other = shop.transfer(his, Units::new(8));
    shop.receive("base", &[paid]).await;
    shop.receive("base", &[stray, other]).await;

    let all = TransferFilter::default;
    assert_eq!(listed(&shop, &anna, all()).await, [stray.tx_hash, paid.tx_hash], "newest first");
    assert_eq!(listed(&shop, &anna, matched(true)).await, [paid.tx_hash]);
    assert_eq!(listed(&shop, &anna, matched(false)).await, [stray.tx_hash]);
    assert_eq!(listed(&shop, &bert, all()).await, [other.tx_hash]);
    let of_order = TransferFilter { order: Some(order.id), ..all() };
    assert_eq!(listed(&shop, &anna, of_order.clone()).await, [paid.tx_hash]);
    assert_eq!(listed(&shop, &bert, of_order.clone()).await, [], "an order of somebody else's");
    assert_eq!(listed(&shop, &anna, TransferFilter { matched: Some(false), ..of_order }).await, []);
    let on = |slug: &str| TransferFilter { chain: Some(slug.to_owned()), ..all() };
    assert_eq!(listed(&shop, &anna, on("base")).await.len(), 2);
    assert_eq!(listed(&shop, &anna, on("polygon")).await, []);

    let seen = get(&shop.app, &anna, &paid.tx_hash.to_string().to_uppercase().replace("0X", "0x"), None).await.unwrap();
    assert_eq!(seen.first.order.map(|order| order.id), Some(order.id));
    for unknown in [paid.tx_hash.to_string(), "0x12".to_owned(), "\0".to_owned()] {
        assert_eq!(get(&shop.app, &bert, &unknown, None).await.unwrap_err().code, ErrorCode::NotFound);
    }
});

on_both_databases!(a_transfer_without_evidence_is_shown_with_its_reason, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let reported = shop.transfer(hers, order.pay_units);
    shop.receive_unverifiable("base", reported, "the node does not have its receipt").await;
    shop.mine("base", 30).await;
    assert_eq!(shop.row(&anna, &order.order_id.to_string()).await.status, OrderStatus::Pending);

    let seen = get(&shop.app, &anna, &reported.tx_hash.to_string(), None).await.unwrap();
    let shown = Transaction::new(&seen);
    assert_eq!((shown.status.as_str(), shown.state.as_str(), shown.confirmations), ("pending", "unverifiable", 0));
    assert_eq!(shown.unverifiable_reason.as_deref(), Some("the node does not have its receipt"));
    assert_eq!((shown.transfers[0].position.as_str(), shown.log_index), ("index:17", Some(17)));
    assert!(shown.payment_order.is_none());
    assert_eq!(listed(&shop, &anna, matched(false)).await, [reported.tx_hash]);
    let status = |status| TransferFilter { statuses: vec![status], ..TransferFilter::default() };
    assert_eq!(listed(&shop, &anna, status(TransactionStatus::Pending)).await, [reported.tx_hash]);
    assert_eq!(listed(&shop, &anna, status(TransactionStatus::Confirmed)).await, []);

    // It cannot be given to an order by hand either.
    let given = allocate(&shop, &anna, &order, json!({ "transaction_hash": reported.tx_hash })).await;
    assert!(given.is_err());
});

on_both_databases!(a_page_is_a_window_on_the_whole_list, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let strays: Vec<Incoming> = (1..=5).map(|units| shop.transfer(hers, Units::new(units))).collect();
    shop.receive("base", &strays).await;
    let asked = Asked { number: 2, ..first(2) };
    let page = list(&shop.app, &anna, &TransferFilter::default(), &asked).await.unwrap();
    let (count, shown) = (page.count, page.rows);
    let shown: Vec<Hash> = shown.iter().map(|view| view.transfer.tx_hash).collect();
    assert_eq!((count, shown), (5, vec![strays[2].tx_hash, strays[1].tx_hash]));
});

on_both_databases!(the_status_that_is_asked_for_is_the_status_that_is_shown, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let paid = shop.transfer(hers, order.pay_units);
    let stray = shop.transfer(hers, Units::new(7));
    let gone = shop.transfer(hers, Units::new(8));
    shop.receive("base", &[paid, stray, gone]).await;
    let now = shop.now().await;
    let lost = get(&shop.app, &anna, &gone.tx_hash.to_string(), None).await.unwrap().first.transfer.id;
    let (from, to) = (TransferState::Included, TransferState::Orphaned);
    transfer::Entity::set_state(shop.app.database(), vec![lost], from, to, None, now).await.unwrap();
    // The order asks for fewer confirmations than its chain: one of the two is confirmed first.
    let mut fewer: payment_order::ActiveModel = order.clone().into();
    fewer.required_confirmations = sea_orm::Set(3);
    sea_orm::ActiveModelTrait::update(fewer, shop.app.database()).await.unwrap();

    let default = shop.app.chain("base").unwrap().confirmations;
    let mut confirmed_at = BTreeMap::new();
    for depth in 1..=default {
        let mut seen = 0;
        for status in TransactionStatus::ALL {
            let filter = TransferFilter { statuses: vec![*status], ..TransferFilter::default() };
            let page = list(&shop.app, &anna, &filter, &first(10)).await.unwrap();
            assert_eq!(page.count, u64::try_from(page.rows.len()).unwrap());
            seen += page.rows.len();
            for view in page.rows {
                assert_eq!((view.shown.status, view.shown.confirmations > 0), (*status, view.transfer.id != lost));
                if *status == TransactionStatus::Confirmed {
                    confirmed_at.entry(view.transfer.tx_hash).or_insert(depth);
                }
            }
        }
        assert_eq!(seen, 3, "each has one status");
        shop.mine("base", 1).await;
    }
    assert_eq!(confirmed_at, BTreeMap::from([(paid.tx_hash, 3), (stray.tx_hash, default)]));
});

on_both_databases!(a_transaction_is_confirmed_when_the_finality_tag_confirms_its_order, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let paid = shop.transfer(hers, order.pay_units);
    shop.receive("base", &[paid]).await;
    let confirmed = TransferFilter { statuses: vec![TransactionStatus::Confirmed], ..TransferFilter::default() };
    assert_eq!(listed(&shop, &anna, confirmed.clone()).await, []);
    let cursor = chain_cursor::Entity::of(shop.app.database(), "base").await.unwrap().unwrap();
    for (tag, is_confirmed) in [(cursor.height - 1, false), (cursor.height, true), (cursor.height + 9, true)] {
        let mut tagged: chain_cursor::ActiveModel = cursor.clone().into();
        tagged.final_height = sea_orm::Set(Some(tag));
        sea_orm::ActiveModelTrait::update(tagged, shop.app.database()).await.unwrap();
        assert_eq!(listed(&shop, &anna, confirmed.clone()).await.len(), usize::from(is_confirmed), "{tag}");
        let seen = get(&shop.app, &anna, &paid.tx_hash.to_string(), None).await.unwrap().first.shown;
        let status = if is_confirmed { TransactionStatus::Confirmed } else { TransactionStatus::Pending };
        assert_eq!((seen.status, seen.confirmations), (status, 1), "{tag}");
        let of_order = crate::operations::payment_orders::get(&shop.app, &anna, &order.id.to_string()).await.unwrap();
        assert_eq!(of_order.transfer.unwrap().status, status);
    }
});

on_both_databases!(what_comes_after_an_address_was_let_go_is_no_longer_its_merchants, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let before = shop.transfer(hers, Units::new(1));
    shop.receive("base", &[before]).await;
    let claims = receiving_address::Entity::find().filter(receiving_address::Column::MerchantId.eq(anna.merchant_id()));
    for claim in claims.all(shop.app.database()).await.unwrap() {
        let now = clock::business_now(shop.app.database()).await.unwrap();
        receiving_address::Entity::release(shop.app.database(), claim.id, now).await.unwrap();
    }
    let after = shop.transfer(hers, Units::new(2));
    shop.receive("base", &[after]).await;
    assert_eq!(listed(&shop, &anna, TransferFilter::default()).await, [before.tx_hash]);
});

on_both_databases!(a_transaction_shows_every_transfer_in_it_and_what_it_cost, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let paid = shop.transfer(hers, order.pay_units);
    let second = Incoming { position: Position::Log(3), units: Units::new(5_000_000), ..paid };
    // The scanner may meet them in any order.
    shop.receive("base", &[second, paid]).await;
    let view = get(&shop.app, &anna, &paid.tx_hash.to_string(), Some("BASE")).await.unwrap();
    let shown = Transaction::new(&view);
    assert_eq!(shown.transfers.iter().map(|transfer| transfer.position.as_str()).collect::<Vec<_>>(), ["0", "3"]);
    assert_eq!(shown.amount, shown.transfers[0].amount);
    assert_eq!(shown.transfers[1].amount, "5.00");
    assert_eq!(shown.payment_order.map(|paid| paid.order_id), Some(order.order_id.to_string()));
    assert_eq!(shown.matched_by.method.as_deref(), Some("exact_amount"));
    assert!(shown.transfers[1].payment_order.is_none() && shown.transfers[1].matched_by.method.is_none());
    assert!(shown.transfers[1].matched_by.evidence.0.is_object());
    assert_eq!((shown.to_address, shown.log_index), (hers.to_string(), Some(1)));
    assert_eq!((shown.gas_used, shown.gas_price.as_str()), (60_000, "1500000000"));
    assert_eq!(shown.transaction_fee, "0.000090000000000001");
    assert_eq!((shown.status.as_str(), shown.state.as_str(), shown.confirmations), ("pending", "included", 1));
});

on_both_databases!(a_hash_on_two_chains_needs_its_chain_named, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let twin = shop.transfer(hers, Units::new(5));
    shop.receive("base", &[twin]).await;
    shop.receive("polygon", &[twin]).await;
    let hash = twin.tx_hash.to_string();
    let error = get(&shop.app, &anna, &hash, None).await.unwrap_err();
    assert!(error.details["blockchain"][0].contains("base, polygon"), "{error:?}");
    for slug in ["base", "polygon"] {
        assert_eq!(get(&shop.app, &anna, &hash, Some(slug)).await.unwrap().first.transfer.chain, slug);
    }
    assert_eq!(get(&shop.app, &anna, &hash, Some("bsc")).await.unwrap_err().code, ErrorCode::NotFound);
});

on_both_databases!(what_is_left_of_a_transfer_stays_in_the_inbox, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let (one, other) = (shop.order(&anna).await, shop.order(&anna).await);
    let stray = shop.transfer(hers, Units::new(61_370_000));
    shop.receive("base", &[stray]).await;
    let part = |amount: Option<&str>| match amount {
        Some(amount) => json!({"transaction_hash": stray.tx_hash, "amount": amount}),
        None => json!({"transaction_hash": stray.tx_hash}),
    };
    let of_order = |order: &payment_order::Model| TransferFilter { order: Some(order.id), ..TransferFilter::default() };
    let inbox = async |shop: &Shop| {
        let page = list(&shop.app, &anna, &matched(false), &first(9)).await.unwrap();
        page.rows.into_iter().map(|view| view.unassigned).collect::<Vec<_>>()
    };
    assert_eq!(inbox(&shop).await, ["61.37"]);
    allocate(&shop, &anna, &one, part(Some("20.5"))).await.unwrap();
    assert_eq!(inbox(&shop).await, ["40.87"]);
    assert_eq!(listed(&shop, &anna, matched(true)).await, []);
    allocate(&shop, &anna, &other, part(Some("30"))).await.unwrap();
    assert_eq!(inbox(&shop).await, ["10.87"]);

    // Each order finds itself in what it has a share of.
    for order in [&one, &other] {
        let page = list(&shop.app, &anna, &of_order(order), &first(9)).await.unwrap();
        let named: Vec<_> = page.rows.iter().filter_map(|view| view.order.as_ref()).map(|order| order.id).collect();
        assert_eq!(named, [order.id]);
        let own = crate::operations::payment_orders::get(&shop.app, &anna, &order.id.to_string()).await.unwrap();
        assert_eq!(own.transfer.map(|transfer| transfer.transaction_hash), Some(stray.tx_hash));
    }
    let seen = Transaction::new(&get(&shop.app, &anna, &stray.tx_hash.to_string(), None).await.unwrap());
    assert_eq!((seen.unassigned_amount.as_str(), seen.transfers[0].unassigned_amount.as_str()), ("10.87", "10.87"));
    let shares: Vec<_> = seen.transfers[0].shares.iter().map(|share| (&*share.order_id, &*share.amount)).collect();
    assert_eq!(shares, [(one.order_id.as_str(), "20.50"), (other.order_id.as_str(), "30.00")]);

    let repeated = allocate(&shop, &anna, &one, part(Some("20.5"))).await.unwrap_err();
    assert!(repeated.details["amount"][0].contains("Leave amount out to add the 10.87"), "{repeated:?}");
    let elsewhere = json!({"transaction_hash": stray.tx_hash, "position": "7"});
    let error = allocate(&shop, &anna, &one, elsewhere).await.unwrap_err();
    assert_eq!(error.details["position"], ["This transaction holds no transfer to you at this position. It holds: 0."]);
    allocate(&shop, &anna, &one, part(None)).await.unwrap();
    assert_eq!(inbox(&shop).await, Vec::<String>::new());
    assert_eq!(listed(&shop, &anna, matched(true)).await, [stray.tx_hash]);
});

async fn allocate(
    shop: &Shop,
    principal: &Principal,
    order: &payment_order::Model,
    body: serde_json::Value,
) -> Result<(), ApiError> {
    let fields = Fields::judged_by::<AllocateTransfer>(body.as_object().cloned().unwrap());
    let once = Once::without_key(|_| Answer::default());
    crate::operations::payment_orders::assign(&shop.app, principal, &order.id.to_string(), fields, once).await.map(drop)
}
