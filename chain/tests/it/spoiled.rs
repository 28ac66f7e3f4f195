//! Answers that are spoiled on their way, through the real transport: refused, with a reason that says which, and never
//! taken for an empty chain.

use cryptopay_chain::{ChainClient, ChainError, EvmClient, Limits, Search};
use serde_json::{Value, json};

use crate::node::{Node, SHOP, Tx, other_hash};
use crate::server::serve;

/// What becomes of a body, and of a log in it.
type Spoil = fn(Value) -> Vec<u8>;
type Change = fn(&mut Value);

/// Block 2 pays SHOP in tokens, block 3 in coins.
fn paid() -> Node {
    Node::with(&[vec![Tx::token(SHOP, 25)], vec![Tx::native(SHOP, 4)]])
}

/// What a client makes of a node whose bodies are spoiled.
async fn ask(spoil: impl FnMut(&[String], Value) -> Vec<u8> + Send + 'static) -> Result<Search, ChainError> {
    let query = paid().query(1, true);
    let url = serve(paid(), spoil).await;
    let client = EvmClient::http(&url, Limits::default()).unwrap();
    client.tip(None).await?;
    client.blocks(1..=3).await?;
    client.search(&query).await
}

/// The same where one method's results are changed.
async fn changed(method: &'static str, change: Change) -> Result<Search, ChainError> {
    ask(move |methods, mut body| {
        match &mut body {
            Value::Array(answers) => {
                for (answer, _) in answers.iter_mut().zip(methods).filter(|(_, asked)| *asked == method) {
                    change(&mut answer["result"]);
                }
            }
            answer if methods[0] == method => change(&mut answer["result"]),
            _ => {}
        }
        body.to_string().into_bytes()
    })
    .await
}

#[test]
fn an_answer_has_at_most_sixty_four_mebibytes() {
    assert_eq!(Limits::default().max_body_bytes, 64 * 1024 * 1024);
}

#[tokio::test]
async fn the_unspoiled_answers_hold_both_payments_and_prove_the_rest() {
    let search = ask(|_, body| body.to_string().into_bytes()).await.unwrap();
    assert_eq!((search.transfers.len(), search.unproven, search.left_out), (2, Vec::new(), 0));
}

#[tokio::test]
async fn what_is_no_json_is_refused_with_what_was_asked() {
    let spoils: [(&str, Spoil); 5] = [
        ("truncated", |body| body.to_string().into_bytes().into_iter().take(40).collect()),
        ("not UTF-8", |body| {
            let mut bytes = body.to_string().into_bytes();
            let middle = bytes.len() / 2;
            bytes[middle] = 0xff;
            bytes
        }),
        ("a page", |_| b"<html>busy</html>".to_vec()),
        ("nothing", |_| Vec::new()),
        ("something after it", |body| format!("{body}{body}").into_bytes()),
    ];
    for (what, spoil) in spoils {
        let error = ask(move |_, body| spoil(body)).await.unwrap_err();
        let ChainError::Malformed { method, reason } = &error else { panic!("{what}: {error:?}") };
        assert!(error.is_retryable() && *method == "eth_chainId" && !reason.is_empty(), "{what}: {error}");
    }
}

#[tokio::test]
async fn numbers_out_of_range_are_refused() {
    let numbers = ["0xffffffffffffffffffffffff", "-0x1", "seven"];
    for number in numbers {
        for (method, field) in [
            ("eth_chainId", ""),
            ("eth_getBlockByNumber", "number"),
            ("eth_getBlockByNumber", "timestamp"),
            ("eth_getTransactionReceipt", "gasUsed"),
            ("eth_getTransactionReceipt", "transactionIndex"),
            ("eth_getTransactionByHash", "nonce"),
        ] {
            let result = ask(move |methods, mut body| {
                let answers = match &mut body {
                    Value::Array(answers) => answers.iter_mut().collect(),
                    answer => vec![answer],
                };
                for (answer, _) in answers.into_iter().zip(methods).filter(|(_, asked)| *asked == method) {
                    if field.is_empty() {
                        answer["result"] = json!(number);
                    } else {
                        answer["result"][field] = json!(number);
                    }
                }
                body.to_string().into_bytes()
            });
            match result.await {
                // The evidence of each transfer cannot be read.
                Ok(found) => {
                    assert!(method.starts_with("eth_getTransaction"), "{method} {field} {number}: {found:?}");
                    assert_eq!((found.transfers.len(), found.unverifiable.len()), (0, 2), "{method} {field} {number}");
                }
                Err(error) => {
                    let refused = matches!(error, ChainError::Malformed { .. } | ChainError::Untrue { .. });
                    assert!(refused, "{method} {field} {number}: {error:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn no_chain_has_the_id_0() {
    for id in ["0x", "0x0"] {
        let error = changed("eth_chainId", if id == "0x" { |id| *id = json!("0x") } else { |id| *id = json!("0x0") });
        assert!(matches!(error.await, Err(ChainError::Malformed { method: "eth_chainId", .. })), "{id}");
    }
}

#[tokio::test]
async fn logs_that_cannot_be_are_refused() {
    let changes: [(&str, Change); 6] = [
        ("missing topics", |log| log["topics"] = json!([])),
        ("no topics at all", |log| *log = json!({ "address": SHOP })),
        ("removed", |log| log["removed"] = json!(true)),
        ("of another block", |log| log["blockHash"] = other_hash()),
        ("of a block outside", |log| log["blockNumber"] = json!("0x63")),
        ("of a place out of range", |log| log["logIndex"] = json!("0xffffffffffffffffffffffff")),
    ];
    for (what, change) in changes {
        let result = ask(move |methods, mut body| {
            if let Value::Array(answers) = &mut body {
                for (answer, _) in answers.iter_mut().zip(methods).filter(|(_, asked)| *asked == "eth_getLogs") {
                    answer["result"].as_array_mut().unwrap().iter_mut().for_each(change);
                }
            }
            body.to_string().into_bytes()
        });
        assert!(result.await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn an_error_with_status_200_in_the_midst_of_a_batch_fails_the_question() {
    let result = ask(|methods, mut body| {
        if let Some(at) = methods.iter().position(|asked| asked == "eth_getLogs") {
            let id = body[at]["id"].clone();
            body[at] = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32603, "message": "busy" } });
        }
        body.to_string().into_bytes()
    });
    assert!(matches!(result.await, Err(ChainError::Node { method: "eth_getLogs", code: -32603, .. })));
}

#[tokio::test]
async fn an_empty_list_for_blocks_with_payments_loses_nothing() {
    // Once, and then the truth.
    let mut lies = 1;
    let search = ask(move |methods, mut body| {
        for at in (0..methods.len()).filter(|at| methods[*at] == "eth_getLogs") {
            if lies > 0 {
                lies -= 1;
                body[at]["result"] = json!([]);
            }
        }
        body.to_string().into_bytes()
    });
    let search = search.await.unwrap();
    assert_eq!((search.transfers.len(), search.left_out), (2, 1));
    // Always: the range is refused.
    let error = changed("eth_getLogs", |logs| *logs = json!([])).await.unwrap_err();
    assert!(matches!(error, ChainError::LogsMissing { number: 2 }) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_node_that_lags_on_every_second_call_is_asked_again() {
    for parity in [0, 1] {
        let mut asked = parity;
        let search = ask(move |methods, mut body| {
            let lagging = json!(null);
            let mut one = |method: &str, answer: &mut Value| {
                asked += 1;
                if asked % 2 == 0 && (method == "eth_getTransactionReceipt" || method == "eth_getTransactionByHash") {
                    answer["result"] = lagging.clone();
                }
            };
            match &mut body {
                Value::Array(answers) => {
                    answers.iter_mut().zip(methods).for_each(|(answer, method)| one(method, answer))
                }
                answer => one(&methods[0], answer),
            }
            body.to_string().into_bytes()
        });
        // Either it got through, or it said so: nothing is left out quietly.
        match search.await {
            Ok(search) => assert_eq!(search.transfers.len() + search.unverifiable.len(), 2),
            Err(error) => assert!(matches!(error, ChainError::TransactionMissing { .. }), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_node_put_in_the_place_of_another_chains_is_noticed_before_anything_counts() {
    let mut asked = 0;
    let error = ask(move |methods, mut body| {
        if let Some(at) = methods.iter().position(|method| method == "eth_chainId") {
            asked += 1;
            if asked > 1 {
                body[at]["result"] = json!("0x89");
            }
        }
        body.to_string().into_bytes()
    });
    assert!(matches!(error.await, Err(ChainError::WrongChain { expected: 1, found: 137 })));
}

#[tokio::test]
async fn a_new_block_costs_two_packets_and_a_thousand_recipients_no_more() {
    let mut query = paid().query(3, false);
    query.recipients = (1..=999_u64)
        .map(|n| {
            cryptopay_domain::address::AccountAddress(alloy::primitives::Address::left_padding_from(&n.to_be_bytes()))
        })
        .collect();
    let url = serve(paid(), |_, body| body.to_string().into_bytes()).await;
    let client = EvmClient::http(&url, Limits::default()).unwrap();
    client.tip(None).await.unwrap();
    assert_eq!(client.search(&query).await.unwrap(), Search::default());
    assert_eq!((client.traffic().requests, client.traffic().calls), (2, 4));
}
