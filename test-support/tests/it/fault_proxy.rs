use cryptopay_test_support::{Anvil, Fault, FaultProxy, Payment, U256, block_on};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);
const HEAD: u64 = 25;

/// A chain of 25 blocks with one transfer to account 9, in block 24, and a proxy before it.
async fn town() -> (Anvil, FaultProxy) {
    let node = Anvil::start(7_702).await;
    let dollar = node.token("USDC", 6).await;
    node.mine(HEAD - 3).await;
    node.send(&Payment::tokens(dollar, node.account(9), U256::from(5_u64))).await;
    node.mine(2).await;
    let proxy = FaultProxy::start(&node.url()).await;
    (node, proxy)
}

/// A packet as it is, and its answer's status, headers and body.
async fn post(proxy: &FaultProxy, packet: &Value) -> reqwest::Result<(u16, reqwest::header::HeaderMap, Vec<u8>)> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response =
        client.post(proxy.url()).header("content-type", "application/json").body(packet.to_string()).send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok((status, headers, response.bytes().await?.to_vec()))
}

fn call(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// The result of a call through the proxy, or the error.
async fn ask(proxy: &FaultProxy, method: &str, params: Value) -> Value {
    let (status, _, body) = post(proxy, &call(1, method, params)).await.unwrap();
    assert_eq!(status, 200);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    if answer["error"].is_null() { answer["result"].clone() } else { answer["error"].clone() }
}

fn all_logs(node: &Anvil, from: &str, to: &str) -> Value {
    json!([{"fromBlock": from, "toBlock": to, "topics": [null, null, node.account(9).into_word()]}])
}

#[test]
fn without_a_fault_everything_passes_and_is_counted() {
    block_on(async {
        let (node, proxy) = town().await;
        let packet = json!([call(1, "eth_blockNumber", json!([])), call(2, "eth_chainId", json!([]))]);
        let (_, _, body) = post(&proxy, &packet).await.unwrap();
        let answers: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&answers[0]["result"], &answers[1]["result"]), (&json!("0x19"), &json!("0x1e16")));
        assert_eq!(ask(&proxy, "eth_getLogs", all_logs(&node, "0x0", "latest")).await.as_array().unwrap().len(), 1);
        let counts = proxy.take_counts();
        assert_eq!((counts.requests, counts.of("eth_chainId"), counts.of("eth_getLogs")), (2, 1, 1));
        assert_eq!(proxy.counts().requests, 0);
        let (waited, _) = tokio::join!(
            proxy.wait_until(LIMIT, |counts| counts.of("eth_chainId") == 1),
            ask(&proxy, "eth_chainId", json!([])),
        );
        assert_eq!(waited.requests, 1);
    });
}

#[test]
fn answers_are_wrong_in_the_way_that_was_asked_for_and_right_again_after_that() {
    block_on(async {
        let (node, proxy) = town().await;
        let logs = all_logs(&node, "0x0", "latest");
        for fault in [Fault::empty_logs(), Fault::dropped_logs()] {
            proxy.inject([fault]);
            assert_eq!(ask(&proxy, "eth_getLogs", logs.clone()).await, json!([]));
        }
        proxy.inject([Fault::chain_id(1)]);
        assert_eq!(ask(&proxy, "eth_chainId", json!([])).await, "0x1");
        proxy.inject([Fault::error(-32_005, "slow down").on("eth_getLogs")]);
        assert_eq!(ask(&proxy, "eth_getLogs", logs.clone()).await["code"], -32_005);
        assert_eq!(ask(&proxy, "eth_chainId", json!([])).await, "0x1e16");
        proxy.inject([Fault::rewrite(|_, result| *result = json!("0xzz")).every(2)]);
        assert_eq!(ask(&proxy, "eth_blockNumber", json!([])).await, "0x19");
        assert_eq!(ask(&proxy, "eth_blockNumber", json!([])).await, "0xzz");
        proxy.heal();
        assert_eq!(ask(&proxy, "eth_getLogs", logs).await.as_array().unwrap().len(), 1);
    });
}

#[test]
fn answers_break_on_the_wire() {
    block_on(async {
        let (_node, proxy) = town().await;
        let packet = call(1, "eth_getBlockByNumber", json!(["latest", false]));
        proxy.inject([Fault::status(503)]);
        assert_eq!(post(&proxy, &packet).await.unwrap().0, 503);
        proxy.inject([Fault::too_many_requests(7)]);
        let (status, headers, _) = post(&proxy, &packet).await.unwrap();
        assert_eq!((status, headers["retry-after"].to_str().unwrap()), (429, "7"));
        proxy.inject([Fault::not_utf8()]);
        assert!(String::from_utf8(post(&proxy, &packet).await.unwrap().2).is_err());
        for fault in [Fault::cut(), Fault::truncated()] {
            proxy.inject([fault.clone()]);
            assert!(post(&proxy, &packet).await.is_err(), "{fault:?}");
        }
        for fault in [Fault::hang(), Fault::huge(1_000_000), Fault::delay(LIMIT * 2)] {
            proxy.inject([fault.clone()]);
            let answer = timeout(Duration::from_millis(200), post(&proxy, &packet)).await;
            assert!(answer.is_err(), "{fault:?}: {answer:?}");
        }
    });
}

#[test]
fn a_lagging_node_knows_nothing_of_the_newest_blocks() {
    block_on(async {
        let (node, proxy) = town().await;
        let newest: Value = node.call("eth_getBlockByNumber", json!(["latest", false])).await;
        let logs: Value = node.call("eth_getLogs", all_logs(&node, "0x0", "latest")).await;
        proxy.inject([Fault::lag(20)]);
        assert_eq!(ask(&proxy, "eth_blockNumber", json!([])).await, "0x5");
        assert_eq!(ask(&proxy, "eth_getBlockByNumber", json!(["latest", false])).await["number"], "0x5");
        assert_eq!(ask(&proxy, "eth_getBlockByNumber", json!(["0x6", false])).await, Value::Null);
        assert_eq!(ask(&proxy, "eth_getBlockByHash", json!([newest["hash"], false])).await, Value::Null);
        let tx_hash = &logs[0]["transactionHash"];
        assert_eq!(ask(&proxy, "eth_getTransactionReceipt", json!([tx_hash])).await, Value::Null);
        assert_eq!(ask(&proxy, "eth_getLogs", all_logs(&node, "0x0", "0x19")).await, json!([]));
        assert_eq!(ask(&proxy, "eth_getLogs", all_logs(&node, "0x18", "0x19")).await, json!([]));
        proxy.heal();
        assert_eq!(ask(&proxy, "eth_getLogs", all_logs(&node, "0x18", "0x19")).await, logs);
    });
}

#[test]
fn a_node_that_is_away_is_a_bad_gateway_and_another_can_take_its_place() {
    block_on(async {
        let (node, proxy) = town().await;
        node.stop();
        let packet = call(1, "eth_chainId", json!([]));
        assert_eq!(post(&proxy, &packet).await.unwrap().0, 502);
        let other = Anvil::start(7_703).await;
        proxy.pass_to(&other.url());
        assert_eq!(ask(&proxy, "eth_chainId", json!([])).await, "0x1e17");
    });
}
