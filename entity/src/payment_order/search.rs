//! Search of a merchant's orders by a text.
//!
//! Ids, nonces and transaction hashes are found by an index. `order_info` has none: it is read in batches and compared
//! here, because the `LIKE` and `strpos` of the databases take time in proportion to text times pattern. `str::contains`
//! takes time in proportion to their sum, for all contents. Each batch is one statement over an index.

use std::collections::BTreeSet;

use cryptopay_domain::address::Hash;
use cryptopay_domain::ids::{MerchantId, OrderId, OrderRef};
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::{QuerySelect, QueryTrait, Select};

use super::{Column, Entity, Model, OrderFilter};
use crate::pages::{Place, Start, Window};
use crate::{allocation, transfer};

/// Orders whose `order_info` one search reads: the newest that the filter lets through.
pub const MAX_INFO_SEARCHED: u64 = 10_000;
/// Orders that are read at once: at most 4 MiB of `order_info`.
const BATCH: u64 = 500;

impl Entity {
    /// Places of the merchant's orders that the filter lets through and that contain a text, newest first: as their whole
    /// public id, nonce or transaction hash, or as a part of `order_info` in any case.
    pub async fn search(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &OrderFilter,
        text: &str,
    ) -> Result<Vec<Place>, DbErr> {
        let mut found = in_info(connection, merchant, filter, text).await?;
        let among = || Self::find().filter(filter.condition(merchant));
        if let Ok(order_id) = in_its_case(text).parse::<OrderRef>() {
            found.extend(places(connection, among().filter(Column::OrderId.eq(order_id))).await?);
        }
        if let Ok(nonce) = text.parse::<i64>() {
            found.extend(places(connection, among().filter(Column::Nonce.eq(nonce))).await?);
        }
        if let Ok(hash) = text.to_lowercase().parse::<Hash>() {
            let paid = paid_by(connection, merchant, hash).await?;
            found.extend(places(connection, among().filter(Column::Id.is_in(paid))).await?);
        }
        Ok(found.into_iter().rev().collect())
    }

    /// The merchant's orders at these places, in the order of the places. Orders that are gone are left out.
    pub async fn at_places(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        places: &[Place],
    ) -> Result<Vec<Model>, DbErr> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let rows = Self::find()
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::Id.is_in(places.iter().map(|place| place.id)));
        let mut rows = rows.all(connection).await?;
        rows.sort_by_key(|row| places.iter().position(|place| place.id == row.id.0));
        Ok(rows)
    }
}

/// Places of the newest orders whose `order_info` contains the text.
async fn in_info(
    connection: &impl ConnectionTrait,
    merchant: MerchantId,
    filter: &OrderFilter,
    text: &str,
) -> Result<BTreeSet<Place>, DbErr> {
    let pattern = folded(text.to_owned());
    let mut found = BTreeSet::new();
    let mut start = Start::End;
    let mut left = MAX_INFO_SEARCHED;
    while left > 0 {
        let limit = BATCH.min(left);
        let window = Window { start, oldest_first: false, skip: 0, limit };
        let rows =
            filter.window(merchant, window).select_only().columns([Column::CreatedAt, Column::Id, Column::OrderInfo]);
        let rows: Vec<(Timestamp, OrderId, String)> = rows.into_tuple().all(connection).await?;
        let read = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let Some((created_at, id, _)) = rows.last() else { break };
        start = Start::Behind(place(*created_at, *id));
        let pattern = pattern.clone();
        // Off the threads that serve requests: a batch of long texts takes milliseconds.
        let matched = tokio::task::spawn_blocking(move || {
            let matched = rows
                .into_iter()
                .filter_map(|(created_at, id, info)| folded(info).contains(&pattern).then(|| place(created_at, id)));
            matched.collect::<Vec<Place>>()
        });
        found.extend(matched.await.map_err(|error| DbErr::Custom(format!("a search ended early: {error}")))?);
        if read < limit {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(found)
}

async fn places(connection: &impl ConnectionTrait, rows: Select<Entity>) -> Result<Vec<Place>, DbErr> {
    let rows = rows.select_only().columns([Column::CreatedAt, Column::Id]);
    let rows: Vec<(Timestamp, OrderId)> = rows.into_tuple().all(connection).await?;
    Ok(rows.into_iter().map(|(created_at, id)| place(created_at, id)).collect())
}

fn place(created_at: Timestamp, id: OrderId) -> Place {
    Place { created_at, id: id.0 }
}

/// Keys of the merchant's orders that a transaction pays.
async fn paid_by(connection: &impl ConnectionTrait, merchant: MerchantId, hash: Hash) -> Result<Vec<OrderId>, DbErr> {
    let transfers = transfer::Entity::find()
        .select_only()
        .column(transfer::Column::Id)
        .filter(transfer::Column::TxHash.eq(hash))
        .into_query();
    allocation::Entity::find()
        .select_only()
        .column(allocation::Column::OrderId)
        .filter(allocation::Column::MerchantId.eq(merchant))
        .filter(allocation::Column::TransferId.in_subquery(transfers))
        .distinct()
        .into_tuple()
        .all(connection)
        .await
}

/// A public id in its own case, from a text in any case.
fn in_its_case(text: &str) -> String {
    let lowered = text.to_lowercase();
    lowered.strip_prefix("ord-").map_or(lowered.clone(), |rest| format!("ORD-{rest}"))
}

/// A text in lower case, letter by letter: the result for a letter does not depend on its neighbours.
/// (`str::to_lowercase` writes a sigma at the end of a word in another way.)
fn folded(mut text: String) -> String {
    if text.is_ascii() {
        text.make_ascii_lowercase();
        return text;
    }
    text.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn capitals_of_any_alphabet_are_folded_letter_by_letter() {
        for (text, part) in [("Zoë ÄPFEL", "äpfel"), ("ΟΔΟΣΧ", "ΟΔΟΣ"), ("Иван", "ИВАН"), ("a!%_b", "!%_")]
        {
            let (text, part) = (folded(text.to_owned()), folded(part.to_owned()));
            assert!(text.contains(&part), "{text} {part}");
        }
    }

    proptest! {
        #[test]
        fn a_part_of_a_text_is_found_in_any_case(before in ".{0,20}", part in ".{1,20}", after in ".{0,20}") {
            let text = folded(format!("{before}{part}{after}"));
            prop_assert!(text.contains(&folded(part.clone())));
            let upper: String = part.chars().map(|char| char.to_ascii_uppercase()).collect();
            prop_assert!(text.contains(&folded(upper)));
        }
    }
}
