//! What an honest node's answers turn into.

use cryptopay_chain::{ChainClient, ChainError, LogsBloom, ShownTransfer};
use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::registry::FinalityTag;
use cryptopay_domain::transfer::{ObservedTransfer, Position};
use cryptopay_domain::units::Units;
use serde_json::json;

use crate::node::{Node, OTHER_TOKEN, PAYER, SHOP, SHOP_2, TOKEN, Tx, hex, merge};

fn places(found: &[ObservedTransfer]) -> Vec<(u64, Position, u128, bool)> {
    found
        .iter()
        .map(|transfer| (transfer.block.number, transfer.position, transfer.units.0.to(), transfer.sole))
        .collect()
}

#[tokio::test]
async fn a_token_transfer_comes_with_its_receipts_facts() {
    let node = Node::with(&[vec![Tx::token(PAYER, 1), Tx::token(SHOP, 25)]]);
    let (query, block) = (node.query(2, false), node.block(2));
    let found = node.client().transfers(&query).await.unwrap();
    let [transfer] = &found[..] else { panic!("{found:?}") };
    assert_eq!((transfer.position, transfer.log_index, transfer.block), (Position::Log(0), Some(1), block));
    assert_eq!((transfer.from, transfer.to), (AccountAddress(PAYER), AccountAddress(SHOP)));
    assert_eq!((transfer.asset, transfer.units), (Asset::Token(AccountAddress(TOKEN)), Units::new(25)));
    assert_eq!((transfer.sender, transfer.sender_nonce), (AccountAddress(Node::signer().address()), 1));
    assert_eq!((transfer.gas_used, transfer.gas_price, transfer.extra_fee), (21_000, Units::new(6), Units::ZERO));
    assert_eq!((&transfer.input[..], transfer.sole), ([0xa9, 0x05, 0x9c, 0xbb].as_slice(), true));
}

#[tokio::test]
async fn transfers_are_ordered_and_their_place_is_counted_inside_their_own_transaction() {
    let node = Node::with(&[
        vec![
            Tx::token(SHOP_2, 1),
            Tx::batch(&[(OTHER_TOKEN, PAYER, SHOP, 9), (TOKEN, PAYER, SHOP, 2), (TOKEN, PAYER, SHOP, 3)]),
        ],
        vec![Tx::native(SHOP, 4), Tx::token(SHOP, 5)],
    ]);
    let query = node.query(0, true);
    let found = node.client().transfers(&query).await.unwrap();
    assert_eq!(
        places(&found),
        [
            (2, Position::Log(0), 1, true),
            (2, Position::Log(1), 2, false),
            (2, Position::Log(2), 3, false),
            (3, Position::Native, 4, true),
            (3, Position::Log(0), 5, true),
        ]
    );
}

#[tokio::test]
async fn what_is_no_income_is_left_out() {
    let failed = Tx { succeeds: false, ..Tx::native(SHOP, 7) };
    let node = Node::with(&[vec![
        Tx::token(SHOP, 0),
        Tx::batch(&[(TOKEN, SHOP, SHOP, 5)]),
        Tx::batch(&[(OTHER_TOKEN, PAYER, SHOP, 5)]),
        Tx::native(SHOP, 0),
        Tx::native(PAYER, 3),
        failed,
    ]]);
    let query = node.query(1, true);
    assert_eq!(node.client().transfers(&query).await.unwrap(), []);
}

#[tokio::test]
async fn native_coins_are_looked_for_only_where_asked() {
    let node = Node::with(&[vec![Tx::native(SHOP, 4)]]);
    let query = node.query(2, false);
    assert_eq!(node.client().transfers(&query).await.unwrap(), []);
}

#[tokio::test]
async fn hundreds_of_recipients_and_hits_travel_in_bounded_batches() {
    let node = Node::with(&[(0..60).map(|value| Tx::token(SHOP, value + 1)).collect()]);
    let mut query = node.query(0, false);
    query.recipients.extend(
        (0..1_200_u64)
            .map(|n| AccountAddress(alloy::primitives::Address::left_padding_from(&(n + 1_000).to_be_bytes()))),
    );
    assert_eq!(node.client().transfers(&query).await.unwrap().len(), 60);
}

#[tokio::test]
async fn the_op_stacks_data_fee_is_told_apart() {
    let node = Node::with(&[vec![Tx::token(SHOP, 1)]]);
    let query = node.query(2, false);
    let client = node.lying(|method, _, truth| {
        let mut truth = truth?;
        if method == "eth_getTransactionReceipt" {
            truth["l1Fee"] = json!("0x3e8");
        }
        Ok(truth)
    });
    assert_eq!(client.transfers(&query).await.unwrap()[0].extra_fee, Units::new(1_000));
}

#[tokio::test]
async fn long_input_is_cut() {
    let node = Node::with(&[vec![Tx { input: vec![7; 140_000], ..Tx::token(SHOP, 1) }]]);
    let query = node.query(2, false);
    assert_eq!(node.client().transfers(&query).await.unwrap()[0].input.len(), 128 * 1024);
}

#[tokio::test]
async fn a_block_with_a_transaction_of_an_unknown_type_still_shows_its_payments() {
    let node = Node::with(&[vec![Tx::native(PAYER, 1), Tx::native(SHOP, 4)]]);
    let query = node.query(2, true);
    let client = node.lying(|method, _, truth| {
        let mut truth = truth?;
        if method == "eth_getBlockByHash" {
            truth["transactions"][0]["type"] = json!("0x7e");
        }
        Ok(truth)
    });
    assert_eq!(places(&client.transfers(&query).await.unwrap()), [(2, Position::Native, 4, true)]);
}

#[tokio::test]
async fn a_side_chains_state_sync_that_nobody_signed_is_income_too() {
    let node = Node::with(&[vec![Tx::token(SHOP, 25)]]);
    let query = node.query(2, false);
    let client = node.lying(|method, _, truth| {
        let mut answer = truth?;
        if method == "eth_getTransactionByHash" {
            merge(&mut answer, &json!({ "type": "0x0", "r": "0x0", "s": "0x0", "v": "0x0", "gas": "0x0" }));
        }
        Ok(answer)
    });
    assert_eq!(places(&client.transfers(&query).await.unwrap()), [(2, Position::Log(0), 25, true)]);
}

#[tokio::test]
async fn blocks_come_verified_and_exactly_as_asked() {
    let node = Node::with(&vec![Vec::new(); 120]);
    let expected: Vec<_> = (1..=121).map(|number| node.header(number)).collect();
    let client = node.client();
    assert_eq!(client.blocks(1..=121).await.unwrap(), expected);
    assert_eq!(client.head().await.unwrap(), expected[120]);
    assert_eq!(client.block(1).await.unwrap(), Some(expected[0].block));
    assert_eq!(client.block(500).await.unwrap(), None);
    assert!(matches!(client.blocks(120..=122).await, Err(ChainError::BlockMissing { number: 122 })));
    assert!(matches!(client.blocks(0..=u64::MAX).await, Err(ChainError::RangeTooLarge { limit: Some(_) })));
    #[expect(clippy::reversed_empty_ranges, reason = "an empty range is what is asked for")]
    let nothing = client.blocks(5..=4).await.unwrap();
    assert_eq!(nothing, []);
}

#[tokio::test]
async fn a_tag_that_the_node_does_not_know_is_none() {
    let node = Node::with(&[]);
    let first = node.block(0);
    let client = node.client();
    assert_eq!(client.tagged(FinalityTag::Safe).await.unwrap(), None);
    assert_eq!(client.tagged(FinalityTag::Finalized).await.unwrap(), Some(first));
}

#[tokio::test]
async fn small_questions_have_small_answers() {
    let failed = Tx { succeeds: false, ..Tx::native(SHOP, 7) };
    let node = Node::with(&[vec![failed]]);
    let block = node.block(2);
    let tx_hash = node.answer("eth_getBlockByNumber", &json!(["latest", false])).unwrap()["transactions"][0].clone();
    let client = node.client();
    assert_eq!(client.chain_id().await.unwrap(), 1);
    assert_eq!(client.decimals(AccountAddress(TOKEN)).await.unwrap(), 6);
    let inclusion = client.inclusion(serde_json::from_value(tx_hash).unwrap()).await.unwrap().unwrap();
    assert_eq!((inclusion.block_number, inclusion.block_hash, inclusion.succeeded), (2, block.hash, false));
    assert_eq!(client.inclusion(block.hash).await.unwrap(), None);
}

#[tokio::test]
async fn many_transactions_are_asked_for_at_once_and_show_all_that_they_move() {
    let failed = Tx { succeeds: false, ..Tx::native(SHOP, 7) };
    let node = Node::with(&[
        vec![Tx::batch(&[(OTHER_TOKEN, PAYER, SHOP, 9), (TOKEN, PAYER, SHOP, 2)]), Tx::native(SHOP, 4)],
        vec![failed],
    ]);
    let hashes: Vec<Hash> = [2, 3]
        .into_iter()
        .flat_map(|number| {
            let block = node.answer("eth_getBlockByNumber", &json!([hex(number), false])).unwrap();
            serde_json::from_value::<Vec<Hash>>(block["transactions"].clone()).unwrap()
        })
        .chain([node.block(2).hash])
        .collect();
    let (first, second) = (node.block(2), node.block(3));
    let client = node.client();
    let found = client.inclusions(&hashes).await.unwrap();
    assert_eq!(client.traffic().requests, 1);
    let [Some(tokens), Some(coins), Some(failed), None] = &found[..] else { panic!("{found:?}") };
    let (from, to) = (AccountAddress(PAYER), AccountAddress(SHOP));
    let shown = |ordinal, token, units| ShownTransfer {
        position: Position::Log(ordinal),
        asset: Asset::Token(AccountAddress(token)),
        from,
        to,
        units: Units::new(units),
    };
    assert_eq!(tokens.transfers, [shown(0, OTHER_TOKEN, 9), shown(1, TOKEN, 2)]);
    assert_eq!((tokens.block_hash, coins.block_hash, failed.block_hash), (first.hash, first.hash, second.hash));
    let from = AccountAddress(Node::signer().address());
    let sent = ShownTransfer { position: Position::Native, asset: Asset::Native, from, to, units: Units::new(4) };
    assert_eq!((coins.transfers.as_slice(), coins.succeeded), ([sent].as_slice(), true));
    assert_eq!((failed.transfers.as_slice(), failed.succeeded), ([].as_slice(), false));
    assert_eq!(client.inclusion(hashes[0]).await.unwrap().as_ref(), Some(tokens));
    assert_eq!(client.inclusions(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_query_of_blocks_with_a_gap_is_the_callers_mistake() {
    let node = Node::with(&[Vec::new(), Vec::new()]);
    let mut query = node.query(0, false);
    query.blocks.remove(1);
    assert!(matches!(node.client().transfers(&query).await, Err(ChainError::Query(_))));
}

#[tokio::test]
async fn an_endpoint_that_takes_small_batches_only_is_served_with_small_batches() {
    let node = Node::with(&vec![Vec::new(); 20]);
    let mut refusals = 2;
    let client = node.lying(move |_, _, truth| {
        if refusals > 0 {
            refusals -= 1;
            return Err((-32600, "batch size too large, max 5"));
        }
        truth
    });
    assert_eq!(client.blocks(0..=20).await.unwrap().len(), 21);
}

#[tokio::test]
async fn a_log_that_its_blocks_header_denies_is_named_until_the_filters_are_not_relied_on() {
    let node = Node::with(&[vec![Tx::token(SHOP, 25)], vec![Tx::token(SHOP_2, 4)]]);
    let mut query = node.query(1, false);
    query.blocks[1].bloom = Some(LogsBloom::from_bytes(&[0; 256]));
    let client = node.client();
    for _ in 0..2 {
        let search = client.search(&query).await.unwrap();
        let [denied, other] = search.transfers.as_slice() else { panic!("{search:?}") };
        assert_eq!((denied.block.number, other.block.number), (2, 3));
        assert_eq!(search.denied, [(denied.tx_hash, denied.position)]);
        assert_eq!(search.unproven, [0; 0], "one endpoint's word changes nothing about the other blocks");
    }
    client.distrust_blooms(2);
    let search = client.search(&query).await.unwrap();
    assert_eq!((search.transfers.len(), search.denied.len(), search.unproven), (2, 0, vec![1, 2, 3]));
}
