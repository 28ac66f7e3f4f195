//! Every way in which a node is known, or easily thought, to say what is not so.

use std::sync::Arc;
use std::time::Instant;

use alloy::primitives::{B256, keccak256};
use cryptopay_chain::{ChainClient, ChainError, Endpoints, EvmClient, Hurry, Search};
use cryptopay_domain::address::Hash;
use cryptopay_domain::transfer::ObservedTransfer;
use serde_json::{Value, json};

use crate::node::{Node, OTHER_TOKEN, PAYER, Reply, SHOP, TRANSFER, Tx, merge, other_hash};

/// What a lie makes of an answer.
type Change = fn(&mut Value);

/// Block 2 pays SHOP in tokens, block 3 in coins.
fn paid() -> Node {
    Node::with(&[vec![Tx::token(SHOP, 25)], vec![Tx::native(SHOP, 4)]])
}

/// Asks for both payments while every answer to `method` is changed.
async fn changed(
    method: &'static str,
    mut change: impl FnMut(&mut Value) + Send + 'static,
) -> Result<Vec<ObservedTransfer>, ChainError> {
    let node = paid();
    let query = node.query(1, true);
    node.lying(move |asked, _, truth| {
        let mut answer = truth?;
        if asked == method {
            change(&mut answer);
        }
        Ok(answer)
    })
    .transfers(&query)
    .await
}

/// Asks for both payments while every answer to `method` is changed; returns the reasons of those that were set aside.
async fn set_aside(method: &'static str, mut change: impl FnMut(&mut Value) + Send + 'static) -> Vec<String> {
    let node = paid();
    let query = node.query(1, true);
    let client = node.lying(move |asked, _, truth| {
        let mut answer = truth?;
        if asked == method {
            change(&mut answer);
        }
        Ok(answer)
    });
    reasons(client.search(&query).await.unwrap())
}

/// The reasons of a search that set transfers aside. Nothing is both a transfer and set aside.
fn reasons(found: Search) -> Vec<String> {
    assert!(!found.unverifiable.is_empty() && found.transfers.len() + found.unverifiable.len() >= 2, "{found:?}");
    found.unverifiable.into_iter().map(|reported| reported.reason).collect()
}

fn is_lie<T: std::fmt::Debug>(result: Result<T, ChainError>) -> bool {
    let error = result.unwrap_err();
    error.is_lie() && !error.is_retryable()
}

fn is_elsewhere<T: std::fmt::Debug>(result: Result<T, ChainError>) -> bool {
    let error = result.unwrap_err();
    matches!(error, ChainError::NotOnChain { .. }) && error.is_retryable() && !error.is_lie()
}

fn is_unreadable<T: std::fmt::Debug>(result: Result<T, ChainError>) -> bool {
    matches!(result.unwrap_err(), ChainError::Malformed { .. })
}

#[tokio::test]
async fn the_unchanged_answers_hold_both_payments() {
    assert_eq!(changed("none", |_| ()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_header_must_hash_to_its_own_name() {
    for field in ["hash", "parentHash", "stateRoot"] {
        let client = paid().lying(move |_, _, truth| {
            let mut header = truth?;
            header[field] = other_hash();
            Ok(header)
        });
        let error = client.head().await.unwrap_err();
        assert!(
            matches!(error, ChainError::HeaderHashMismatch { number: 3, computed: Some(_), .. }) && !error.is_lie(),
            "{field}: one endpoint alone cannot tell whether it is one"
        );
        assert!(client.blocks(1..=3).await.is_err() && client.block(1).await.is_err(), "{field}");
    }
}

#[tokio::test]
async fn unknown_header_shapes_are_taken_on_trust_only_when_told_so() {
    let client = paid().lying(|_, _, truth| {
        let mut header = truth?;
        header.as_object_mut().unwrap().remove("logsBloom");
        Ok(header)
    });
    let error = client.head().await.unwrap_err();
    assert!(matches!(error, ChainError::HeaderHashMismatch { computed: None, .. }) && !error.is_lie());
    assert!(client.verifies_header_hashes());
    client.trust_header_hashes(3);
    let head = client.head().await.unwrap();
    assert_eq!((head.block, head.bloom), (paid().block(3), None));
    assert!(!client.verifies_header_hashes());
    assert!(client.block(2).await.is_err(), "what is older has a shape that is known");
}

/// Endpoints of the chain, the first of which are strange in their own way.
fn endpoints(clients: Vec<EvmClient>) -> Endpoints {
    let named = |(number, client): (usize, EvmClient)| (format!("{number}"), Arc::new(client) as Arc<dyn ChainClient>);
    Endpoints::new(1, clients.into_iter().enumerate().map(named))
}

/// After a fork: the header has a field more, which its hash covers and we do not know.
fn forked() -> EvmClient {
    paid().lying(|method, _, truth| {
        let mut header = truth?;
        if method.starts_with("eth_getBlock") && header["number"] == json!("0x3") {
            header["hash"] = other_hash();
        }
        Ok(header)
    })
}

async fn mismatch(endpoints: &Endpoints) -> (u64, Hash) {
    let endpoint = endpoints.iter().next().unwrap();
    match endpoints.tip(endpoint, None, Hurry::None).await.unwrap_err() {
        ChainError::HeaderHashMismatch { number, stated, .. } => (number, stated),
        _ => (u64::MAX, Hash(B256::ZERO)),
    }
}

#[tokio::test]
async fn a_header_that_two_endpoints_agree_on_is_taken_though_it_cannot_be_verified() {
    let endpoints = endpoints(vec![forked(), forked()]);
    let first = endpoints.iter().next().unwrap();
    let (number, stated) = mismatch(&endpoints).await;
    assert!(endpoints.judge_header(first, number, stated).await);
    for endpoint in endpoints.iter() {
        assert!(endpoint.is_usable(Instant::now()));
        let tip = endpoints.tip(endpoint, None, Hurry::None).await.unwrap();
        assert_eq!((tip.head.hash, tip.head.bloom), (stated, None));
    }
    assert_eq!(endpoints.faults(Instant::now()), None);
    assert!(first.client().blocks(1..=2).await.unwrap().iter().all(|header| header.bloom.is_some()));
}

#[tokio::test]
async fn a_header_that_another_endpoint_shows_with_a_true_hash_is_a_lie() {
    let endpoints = endpoints(vec![forked(), paid().client()]);
    let first = endpoints.iter().next().unwrap();
    let (number, stated) = mismatch(&endpoints).await;
    assert!(!endpoints.judge_header(first, number, stated).await);
    let states: Vec<&str> = endpoints.health(Instant::now()).iter().map(|health| health.state).collect();
    assert_eq!(states, ["quarantined", "ok"]);
}

#[tokio::test]
async fn a_sole_endpoint_is_believed_when_it_states_the_same_at_a_later_look() {
    let endpoints = endpoints(vec![forked()]);
    let sole = endpoints.iter().next().unwrap();
    let (number, stated) = mismatch(&endpoints).await;
    assert!(!endpoints.judge_header(sole, number, stated).await, "one look is not enough");
    let (number, stated) = mismatch(&endpoints).await;
    assert!(endpoints.judge_header(sole, number, stated).await);
    assert_eq!(endpoints.tip(sole, None, Hurry::None).await.unwrap().head.hash, stated);

    // One that makes up another hash every time is not.
    let mut asked = 0_u64;
    let client = paid().lying(move |method, _, truth| {
        let mut header = truth?;
        if method.starts_with("eth_getBlock") {
            asked += 1;
            header["hash"] = json!(keccak256(asked.to_string()));
        }
        Ok(header)
    });
    let endpoints = self::endpoints(vec![client]);
    let sole = endpoints.iter().next().unwrap();
    for _ in 0..4 {
        let (number, stated) = mismatch(&endpoints).await;
        assert!(!endpoints.judge_header(sole, number, stated).await);
    }
}

#[tokio::test]
async fn a_block_must_be_the_child_of_the_one_below() {
    // Block 2 of another chain: a true header, but not of this family.
    let other = Node::with(&[vec![Tx::native(PAYER, 1)]]);
    let client = paid().lying(
        move |method, params, truth| {
            if params[0] == json!("0x2") { other.answer(method, params) } else { truth }
        },
    );
    let error = client.blocks(1..=3).await.unwrap_err();
    assert!(matches!(error, ChainError::BrokenLink { number: 3 }) && error.is_retryable());
}

#[tokio::test]
async fn another_block_than_the_one_asked_for_is_refused() {
    let node = paid();
    let client = node.lying(|_, _, _| paid().answer("eth_getBlockByNumber", &json!(["0x1", false])));
    assert!(is_lie(client.block(2).await));
    assert!(is_lie(client.blocks(1..=2).await));
}

#[tokio::test]
async fn an_empty_answer_of_a_node_that_lags_is_no_answer() {
    fn lag(method: &str, params: &Value, truth: Reply) -> Reply {
        match method {
            "eth_getLogs" => Ok(json!([])),
            "eth_getBlockByNumber" if params[0] == json!("0x3") => Ok(Value::Null),
            _ => truth,
        }
    }
    let query = paid().query(1, false);
    assert!(is_elsewhere(paid().lying(lag).transfers(&query).await));
}

#[tokio::test]
async fn an_empty_answer_of_a_node_on_another_branch_is_no_answer() {
    let query = paid().query(1, false);
    let other = Node::with(&[vec![], vec![Tx::native(PAYER, 1)]]);
    assert!(is_elsewhere(other.client().transfers(&query).await));
}

#[tokio::test]
async fn logs_that_were_not_asked_for_or_do_not_count_are_refused() {
    let topic = |address: alloy::primitives::Address| json!(address.into_word());
    let changes: [(&str, Change); 5] = [
        ("removed", |log| log["removed"] = json!(true)),
        ("another contract", |log| log["address"] = json!(OTHER_TOKEN)),
        ("another recipient", |log| log["topics"][2] = json!(PAYER.into_word())),
        ("another event", |log| log["topics"][0] = other_hash()),
        ("a block outside the range", |log| log["blockNumber"] = json!("0x9")),
    ];
    for (what, change) in changes {
        assert!(is_lie(changed("eth_getLogs", move |logs| change(&mut logs[0])).await), "{what}");
    }
    let elsewhere = changed("eth_getLogs", |logs| logs[0]["blockHash"] = other_hash()).await;
    assert!(is_elsewhere(elsewhere));
    // Spoiled in every answer, a log is missing where the header speaks of it.
    let fewer = changed("eth_getLogs", |logs| logs[0]["topics"] = json!([TRANSFER])).await;
    assert!(fewer.is_err_and(|error| !error.is_lie()));
    // The header speaks of neither a log's data nor the number of its topics.
    let others: [Change; 2] =
        [|log| log["topics"].as_array_mut().unwrap().push(other_hash()), |log| log["data"] = json!("0x19")];
    for change in others {
        let found = changed("eth_getLogs", move |logs| change(&mut logs[0])).await.unwrap();
        assert!(found.iter().all(|transfer| transfer.log_index.is_none()), "it is no ERC-20 transfer");
    }
    let wrong_amount = set_aside("eth_getLogs", |logs| logs[0]["data"] = other_hash()).await;
    assert!(wrong_amount[0].contains("does not hold the log"), "{wrong_amount:?}");
    let padded = set_aside("eth_getLogs", |logs| logs[0]["topics"][1] = other_hash()).await;
    assert!(padded[0].contains("more than an address"), "{padded:?}");
    let other_sender = changed("eth_getLogs", move |logs| logs[0]["topics"][1] = topic(SHOP)).await;
    assert!(other_sender.unwrap().iter().all(|transfer| transfer.log_index.is_none()), "a self transfer is no income");
    assert!(is_unreadable(changed("eth_getLogs", |logs| logs[0]["transactionHash"] = Value::Null).await));
    assert!(is_unreadable(changed("eth_getLogs", |logs| *logs = json!({})).await));
}

#[tokio::test]
async fn a_log_told_twice_counts_once_and_of_two_in_one_place_one_does() {
    let twice = |logs: &mut Value| {
        let copy = logs[0].clone();
        logs.as_array_mut().unwrap().push(copy);
    };
    assert_eq!(changed("eth_getLogs", twice).await.unwrap().len(), 2);
    let contradiction = move |logs: &mut Value| {
        twice(logs);
        logs[1]["data"] = other_hash();
    };
    assert_eq!(changed("eth_getLogs", contradiction).await.unwrap().len(), 2);
    let reasons = set_aside("eth_getLogs", contradiction).await;
    assert!(reasons.len() == 1 && reasons[0].contains("does not hold the log"), "{reasons:?}");
}

#[tokio::test]
async fn a_log_is_no_transfer_with_other_topics_or_other_data() {
    let topics: Change = |logs| logs[0]["topics"].as_array_mut().unwrap().push(other_hash());
    let fewer: Change = |logs| drop(logs[0]["topics"].as_array_mut().unwrap().pop());
    let data: Change = |logs| logs[0]["data"] = json!("0x");
    for change in [topics, fewer, data] {
        let node = paid();
        let query = node.query(1, true);
        let client = node.lying(move |asked, params, truth| {
            let mut answer = truth?;
            // The filtered question alone: all logs of a block are what its header speaks of.
            if asked == "eth_getLogs" && params[0].get("topics").is_some() {
                change(&mut answer);
            }
            Ok(answer)
        });
        let found = client.search(&query).await.unwrap();
        assert_eq!((found.transfers.len(), found.unverifiable.len()), (2, 0));
    }
}

#[tokio::test]
async fn a_receipt_must_be_of_its_transaction_and_block() {
    let receipt = "eth_getTransactionReceipt";
    let changes: [(Change, &str, usize); 7] = [
        (|receipt| receipt["transactionHash"] = other_hash(), "sent another transaction", 2),
        (|receipt| receipt["from"] = json!(PAYER), "name different senders", 2),
        (|receipt| receipt["logs"] = json!([]), "does not hold the log", 1),
        (|receipt| receipt["logs"] = Value::Null, "does not hold the log", 1),
        (|receipt| receipt["status"] = json!("0x0"), "a failed transaction has no logs", 1),
        (|receipt| receipt["status"] = Value::Null, "neither 0 nor 1", 2),
        (|receipt| *receipt = Value::Null, "does not have transaction", 2),
    ];
    for (change, reason, count) in changes {
        let node = paid();
        let query = node.query(1, true);
        let client = node.lying(move |asked, _, truth| {
            let mut answer = truth?;
            if asked == receipt {
                change(&mut answer);
            }
            Ok(answer)
        });
        let found = client.search(&query).await.unwrap();
        assert_eq!(found.unverifiable.len(), count, "{reason}");
        for reported in found.unverifiable {
            assert!(reported.reason.contains(reason), "{reason}: {}", reported.reason);
        }
    }
}

#[tokio::test]
async fn a_transaction_mined_again_elsewhere_is_set_aside() {
    let node = paid();
    let query = node.query(1, true);
    let client = node.lying(|method, _, truth| {
        let mut answer = truth?;
        if matches!(method, "eth_getTransactionReceipt" | "eth_getTransactionByHash") {
            merge(&mut answer, &json!({ "blockHash": other_hash(), "blockNumber": "0x4" }));
        }
        Ok(answer)
    });
    let reasons = reasons(client.search(&query).await.unwrap());
    assert!(reasons.len() == 2 && reasons.iter().all(|reason| reason.contains("does not hold block")), "{reasons:?}");
}

#[tokio::test]
async fn a_transaction_must_hash_to_its_name_and_be_signed_by_its_sender() {
    let transaction = "eth_getTransactionByHash";
    for (field, value) in [("nonce", json!("0x9")), ("input", json!("0x00")), ("value", json!("0x5"))] {
        let reasons = set_aside(transaction, move |tx| tx[field] = value.clone()).await;
        assert!(reasons.iter().all(|reason| reason.contains("hash to its own name")), "{field}: {reasons:?}");
    }
    let node = paid();
    let query = node.query(1, true);
    let client = node.lying(|method, _, truth| {
        let mut answer = truth?;
        if matches!(method, "eth_getTransactionReceipt" | "eth_getTransactionByHash") {
            answer["from"] = json!(PAYER);
        }
        Ok(answer)
    });
    let reasons = reasons(client.search(&query).await.unwrap());
    assert!(reasons.iter().all(|reason| reason.contains("signed it")), "{reasons:?}");
}

#[tokio::test]
async fn full_blocks_must_hold_what_their_header_commits_to() {
    let full = "eth_getBlockByHash";
    let first = |block: &mut Value, field: &str, value: Value| {
        if let Some(transaction) = block["transactions"].get_mut(0) {
            transaction[field] = value;
        }
    };
    assert!(is_lie(changed(full, move |block| first(block, "value", json!("0x5"))).await));
    assert!(is_lie(changed(full, |block| block["transactions"] = json!([])).await), "a payment cannot be left out");
    let other = Node::with(&[vec![], vec![Tx::native(PAYER, 4)]])
        .answer("eth_getBlockByNumber", &json!(["0x3", true]))
        .unwrap();
    let swapped = changed(full, move |block| {
        if block["number"] == json!("0x3") {
            block["transactions"] = other["transactions"].clone();
        }
    });
    assert!(is_lie(swapped.await), "a true transaction of another block");
    assert!(is_elsewhere(changed(full, |block| *block = Value::Null).await));
    assert!(is_unreadable(changed(full, |block| block["transactions"] = json!(["0x00"])).await));
}

#[tokio::test]
async fn a_range_error_asks_for_fewer_blocks() {
    let query = paid().query(1, false);
    let client = paid().lying(|method, _, truth| {
        if method == "eth_getLogs" { Err((-32005, "eth_getLogs is limited to 2 block range")) } else { truth }
    });
    let error = client.transfers(&query).await.unwrap_err();
    assert!(matches!(error, ChainError::RangeTooLarge { limit: Some(2) }) && !error.is_retryable());
}

#[tokio::test]
async fn decimals_beyond_a_byte_are_refused() {
    let client = paid().lying(|_, _, _| Ok(other_hash()));
    assert!(is_unreadable(client.decimals(cryptopay_domain::address::AccountAddress(OTHER_TOKEN)).await));
    let no_contract = paid().lying(|_, _, _| Ok(json!("0x")));
    assert!(is_unreadable(no_contract.decimals(cryptopay_domain::address::AccountAddress(OTHER_TOKEN)).await));
}
