use cryptopay_test_support::{Anvil, Bytes, Payment, U256, block_on};
use serde_json::{Value, json};

const CHAIN_ID: u64 = 7_701;

/// The height at which a transaction stands, if it stands anywhere.
async fn height_of(node: &Anvil, tx_hash: cryptopay_test_support::B256) -> Option<u64> {
    let receipt: Value = node.call("eth_getTransactionReceipt", json!([tx_hash])).await;
    let number = receipt["blockNumber"].as_str()?;
    u64::from_str_radix(&number[2..], 16).ok()
}

#[test]
fn blocks_come_when_they_are_asked_for_and_hold_what_was_sent_in_that_order() {
    block_on(async {
        let node = Anvil::start(CHAIN_ID).await;
        assert_eq!((node.height().await, node.chain_id()), (0, CHAIN_ID));
        let dollar = node.token("USDC", 6).await;
        let shop = node.account(9);
        let first = node.send(&Payment::tokens(dollar, shop, U256::from(5_u64))).await;
        let second = node.send(&Payment::coins(shop, U256::from(7_u64)).from(node.account(1))).await;
        let third = node.send(&Payment::tokens(dollar, shop, U256::from(6_u64))).await;
        assert_eq!(height_of(&node, first).await, None);
        let coins = node.coin_balance(shop).await;
        node.mine(3).await;
        let block: Value = node.call("eth_getBlockByNumber", json!(["0x2", false])).await;
        assert_eq!(block["transactions"], json!([first, second, third]));
        assert_eq!(node.height().await, 4);
        assert_eq!(node.token_balance(dollar, shop).await, U256::from(11_u64));
        assert_eq!(node.coin_balance(shop).await, coins + U256::from(7_u64));
        node.mine_at(4_000_000_000).await;
        let block: Value = node.call("eth_getBlockByNumber", json!(["latest", false])).await;
        assert_eq!(block["timestamp"], "0xee6b2800");
    });
}

#[test]
fn the_contracts_do_what_their_names_say() {
    block_on(async {
        let node = Anvil::start(CHAIN_ID).await;
        let (shop, other, customer) = (node.account(7), node.account(8), node.account(1));
        let ether = node.token("DAI", 18).await;
        let fake = node.fake_token("DAI", 18).await;
        let costly = node.fee_token("TAX").await;
        let payer = node.batch_payer(&[ether]).await;
        let units = |units: u64| U256::from(units);

        node.send(&Payment::batch(payer, ether, &[(shop, units(3)), (other, units(4)), (shop, units(5))])).await;
        node.send(&Payment::poison(ether, customer, shop).from(node.account(2))).await;
        node.send(&Payment::pretended(fake, customer, shop, units(9))).await;
        node.send(&Payment::tokens(costly, customer, units(1_000))).await;
        node.send(&Payment::tokens(costly, shop, units(200)).from(customer)).await;
        node.mine(1).await;

        let logged: Vec<_> =
            node.token_transfers(shop).await.into_iter().map(|found| (found.token, found.units)).collect();
        let wanted = [(ether, 3), (ether, 5), (ether, 0), (fake, 9), (costly, 198)];
        assert_eq!(logged, wanted.map(|(token, value)| (token, units(value))));
        assert_eq!(node.token_balance(ether, shop).await, units(8));
        assert_eq!(node.token_balance(costly, shop).await, units(198));
    });
}

#[test]
fn reorganisations_drop_return_and_replace_transactions() {
    block_on(async {
        let node = Anvil::start(CHAIN_ID).await;
        let shop = node.account(9);
        let dollar = node.token("USDC", 6).await;
        let paid = node.send(&Payment::tokens(dollar, shop, U256::from(5_u64))).await;
        node.mine(4).await;
        let signed = node.signed(paid).await;
        let (height, old) = (node.height().await, node.block_hash(2).await);

        node.reorg(4, &[]).await;
        assert_eq!((node.height().await, height_of(&node, paid).await), (height, None));
        assert_ne!(node.block_hash(2).await, old);

        node.reorg(3, &[(signed, 1)]).await;
        assert_eq!((node.height().await, height_of(&node, paid).await), (height, Some(4)));

        let nonce = node.nonce(paid).await;
        node.rollback(3).await;
        assert_eq!(node.height().await, 2);
        let other = node.send(&Payment::tokens(dollar, shop, U256::from(6_u64)).with_nonce(nonce)).await;
        node.mine(1).await;
        assert_eq!((height_of(&node, paid).await, height_of(&node, other).await), (None, Some(3)));
        assert_eq!(node.token_balance(dollar, shop).await, U256::from(6_u64));

        let before = node.snapshot().await;
        node.mine(5).await;
        node.revert(before).await;
        assert_eq!(node.height().await, 3);
    });
}

#[test]
fn a_node_comes_back_with_its_chain_and_gives_way_to_another() {
    block_on(async {
        let node = Anvil::start(CHAIN_ID).await;
        node.mine(70).await;
        let (url, hash) = (node.url(), node.block_hash(70).await);
        node.replace(CHAIN_ID + 1);
        let id: String = node.call("eth_chainId", json!([])).await;
        assert_eq!((id, node.height().await), (format!("{:#x}", CHAIN_ID + 1), 0));
        node.start_again();
        assert_eq!((node.height().await, node.block_hash(70).await, node.url()), (70, hash, url));
        node.reorg(60, &[] as &[(Bytes, u64)]).await;
        assert_ne!(node.block_hash(70).await, hash);
        node.stop();
        node.start_again();
        assert_eq!(node.height().await, 70);
    });
}

#[test]
fn a_paused_node_is_silent_until_it_goes_on() {
    block_on(async {
        let node = Anvil::start(CHAIN_ID).await;
        node.pause();
        let asking = node.height();
        tokio::pin!(asking);
        tokio::select! {
            height = &mut asking => panic!("it said {height}"),
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
        }
        node.resume();
        assert_eq!(asking.await, 0);
    });
}
