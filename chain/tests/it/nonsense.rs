//! No answer whatsoever makes the client panic or wait for ever.

use cryptopay_chain::{ChainClient, EvmClient};
use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::registry::FinalityTag;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::node::{Node, SHOP, TOKEN, Tx};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(|number| json!(format!("{number:#x}"))),
        "0x[0-9a-f]{0,70}".prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("hash|number|logs|topics|transactions|status|from", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Puts `value` in the place of the `at`-th value inside `into`, counted depth first.
fn replace(into: &mut Value, at: &mut usize, value: &Value) {
    if *at == 0 {
        *into = value.clone();
        *at = usize::MAX;
        return;
    }
    *at -= 1;
    match into {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, at, value)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, at, value)),
        _ => {}
    }
}

fn paid() -> Node {
    Node::with(&[vec![Tx::token(SHOP, 25)], vec![Tx::native(SHOP, 4)]])
}

fn ask_everything(client: &EvmClient) {
    let query = paid().query(1, true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..2 {
            let _ = client.chain_id().await;
            let _ = client.head().await;
            let _ = client.tagged(FinalityTag::Finalized).await;
            let _ = client.block(1).await;
            let _ = client.blocks(1..=3).await;
            let _ = client.transfers(&query).await;
            let _ = client.inclusion(query.blocks[0].hash).await;
            let _ = client.decimals(AccountAddress(TOKEN)).await;
            client.trust_header_hashes(0);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_survived(answer in any_json()) {
        ask_everything(&paid().lying(move |_, _, _| Ok(answer.clone())));
    }

    #[test]
    fn any_json_inside_a_true_answer_is_survived(place in 0_usize..60, nonsense in any_json(), which in 0_usize..5) {
        let methods =
            ["eth_getBlockByNumber", "eth_getBlockByHash", "eth_getLogs", "eth_getTransactionReceipt", "eth_getTransactionByHash"];
        ask_everything(&paid().lying(move |method, _, truth| {
            let mut answer = truth?;
            if method == methods[which] {
                replace(&mut answer, &mut place.clone(), &nonsense);
            }
            Ok(answer)
        }));
    }
}
