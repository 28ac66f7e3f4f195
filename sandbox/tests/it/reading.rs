use alloy::consensus::proofs::calculate_receipt_root;
use alloy::consensus::{ReceiptEnvelope, Transaction as _};
use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, Bloom, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::{BlockNumberOrTag, Filter, Log, TransactionReceipt, TransactionRequest};
use cryptopay_chain::{ChainClient, TransferQuery};
use cryptopay_domain::address::{AccountAddress, Asset};
use cryptopay_domain::reference::find_references;
use cryptopay_domain::registry::FinalityTag;
use cryptopay_domain::transfer::Position;
use cryptopay_domain::units::Units;
use cryptopay_sandbox::{Payment, Scenario, mine};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::{World, transactions_root};

const TRANSFER: &str = "Transfer(address,address,uint256)";

on_both_databases!(headers_commit_to_exactly_what_is_answered, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    for scenario in [Scenario::Exact, Scenario::Overpay, Scenario::Underpay] {
        world.pay_by(&order, scenario).await;
    }
    mine(world.db(), &world.chain, 2).await.unwrap();
    for number in 0..=2 {
        let block = world.block(number).await;
        let header = &block.header;
        assert_eq!(header.inner.hash_slow(), header.hash);
        assert_eq!(transactions_root(&block), Some(header.transactions_root));
        let receipts = world.node.get_block_receipts(BlockId::number(number)).await.unwrap().unwrap();
        assert_eq!(receipts.len(), if number == 1 { 3 } else { 0 });
        let bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.inner.logs_bloom());
        assert_eq!(bloom, header.logs_bloom);
        assert_eq!(receipts.iter().map(|receipt| receipt.gas_used).sum::<u64>(), header.gas_used);
        let encoded: Vec<ReceiptEnvelope> = receipts.iter().map(consensus).collect();
        assert_eq!(calculate_receipt_root(&encoded), header.receipts_root);
        let hashes: Vec<B256> = receipts.iter().map(|receipt| receipt.transaction_hash).collect();
        assert_eq!(block.transactions.hashes().collect::<Vec<_>>(), hashes);
        let by_hash = world.node.get_block_by_hash(header.hash).full().await.unwrap().unwrap();
        assert_eq!(by_hash, block);
        let brief = world.node.get_block_by_number(BlockNumberOrTag::Number(number)).await.unwrap().unwrap();
        assert_eq!(brief.transactions.hashes().collect::<Vec<_>>(), hashes);
        for (index, receipt) in (0_u64..).zip(&receipts) {
            let log = &receipt.inner.logs()[0];
            assert_eq!(log.log_index, Some(index));
            assert_eq!(log.transaction_index, receipt.transaction_index);
            assert_eq!((log.block_hash, log.block_number), (Some(header.hash), Some(number)));
            let single = world.node.get_transaction_receipt(receipt.transaction_hash).await.unwrap().unwrap();
            assert_eq!(single, *receipt);
            let transaction = world.node.get_transaction_by_hash(receipt.transaction_hash).await.unwrap().unwrap();
            assert_eq!(transaction.block_hash, Some(header.hash));
            assert_eq!(transaction.inner.signer(), receipt.from);
            let envelope = transaction.inner.inner();
            let signer = envelope.signature().recover_address_from_prehash(&envelope.signature_hash()).unwrap();
            assert_eq!(signer, receipt.from);
        }
    }
});

on_both_databases!(the_gateways_own_client_finds_token_and_native_payments, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let native = cryptopay_entity::payment_order::Model {
        currency: "ETH".into(),
        asset: Asset::Native,
        decimals: 18,
        pay_units: Units::new(30_000_000_000_000_000),
        ..order.clone()
    };
    let from = AccountAddress(Address::repeat_byte(0xbb));
    let token = world.pay_by(&order, Scenario::Exact).await;
    let named = Payment { from: Some(from), with_reference: Some(true), ..Payment::default() };
    let impersonated = world.pay(&order, named).await.unwrap();
    let coins = world.pay(&native, Payment { with_reference: Some(true), ..Payment::default() }).await.unwrap();
    let other_coins = world.pay(&native, Payment { from: Some(from), ..Payment::default() }).await.unwrap();
    mine(world.db(), &world.chain, 2).await.unwrap();

    let client = world.client();
    assert_eq!(client.chain_id().await.unwrap(), 8453);
    let query = TransferQuery {
        blocks: client.blocks(0..=2).await.unwrap(),
        contracts: world.chain.contracts().collect(),
        recipients: vec![order.receiving_address],
        native: true,
    };
    let found = client.transfers(&query).await.unwrap();
    let hashes: Vec<_> = found.iter().map(|transfer| transfer.tx_hash).collect();
    assert_eq!(hashes, [token.tx_hash, impersonated.tx_hash, coins.tx_hash, other_coins.tx_hash]);
    assert!(found.iter().all(|transfer| transfer.block.number == 1 && transfer.to == order.receiving_address));
    assert!(found.iter().all(|transfer| transfer.sender == transfer.from && transfer.sole));
    let senders: Vec<_> = found.iter().map(|transfer| transfer.from).collect();
    assert_eq!(senders, [token.from, from, coins.from, from]);
    assert_eq!((found[1].units, found[1].position), (order.pay_units, Position::Log(0)));
    assert_eq!((found[2].units, found[2].position), (native.pay_units, Position::Native));
    let references = found.iter().map(|transfer| find_references(&transfer.input)).collect::<Vec<_>>();
    assert_eq!(references, [vec![], vec![order.reference], vec![order.reference], vec![]]);
    let inclusion = client.inclusion(token.tx_hash).await.unwrap().unwrap();
    assert!(inclusion.succeeded && inclusion.block_number == 1);
});

on_both_databases!(logs_are_filtered_by_block_contract_and_topics, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let elsewhere = cryptopay_entity::payment_order::Model {
        receiving_address: AccountAddress(Address::repeat_byte(0xa2)),
        currency: "cbBTC".into(),
        asset: world.chain.token("cbBTC").unwrap().asset,
        ..order.clone()
    };
    let first = world.pay_by(&order, Scenario::Exact).await.tx_hash.0;
    mine(world.db(), &world.chain, 1).await.unwrap();
    let second = world.pay_by(&elsewhere, Scenario::Exact).await.tx_hash.0;
    let third = world.pay_by(&order, Scenario::Exact).await.tx_hash.0;
    mine(world.db(), &world.chain, 1).await.unwrap();

    let all = Filter::new().from_block(0).to_block(2);
    let (Asset::Token(usdc), Asset::Token(btc)) = (order.asset, elsewhere.asset) else { panic!("both are tokens") };
    let (to, to_elsewhere) = (order.receiving_address.0.into_word(), elsewhere.receiving_address.0.into_word());
    let tip = world.block(2).await.header.hash;
    for (filter, expected) in [
        (all.clone(), vec![first, second, third]),
        (Filter::new().from_block(0).to_block(1), vec![first]),
        (Filter::new().from_block(2).to_block(99), vec![second, third]),
        (Filter::new().from_block(BlockNumberOrTag::Earliest).to_block(BlockNumberOrTag::Finalized), vec![]),
        (Filter::new(), vec![second, third]),
        (Filter::new().at_block_hash(tip), vec![second, third]),
        (all.clone().address(usdc.0), vec![first, third]),
        (all.clone().address(vec![usdc.0, btc.0]), vec![first, second, third]),
        (all.clone().event(TRANSFER).topic2(to), vec![first, third]),
        (all.clone().topic2(vec![to, to_elsewhere]), vec![first, second, third]),
        (all.clone().topic2(to).address(btc.0), vec![]),
        (all.clone().event("Approval(address,address,uint256)"), vec![]),
    ] {
        let found = world.node.get_logs(&filter).await.unwrap();
        let hashes: Vec<_> = found.iter().map(|log| log.transaction_hash.unwrap()).collect();
        assert_eq!(hashes, expected, "{filter:?}");
    }
    let last: Vec<Log> = world.node.get_logs(&Filter::new().at_block_hash(tip)).await.unwrap();
    assert_eq!(last.iter().map(|log| log.log_index.unwrap()).collect::<Vec<_>>(), [0, 1]);
    let unknown = world.node.get_logs(&Filter::new().at_block_hash(keccak256("no block"))).await.unwrap_err();
    assert_eq!(unknown.as_error_resp().unwrap().code, -32000);
    let backwards = world.node.get_logs(&Filter::new().from_block(2).to_block(1)).await.unwrap_err();
    assert_eq!(backwards.as_error_resp().unwrap().code, -32602);
});

on_both_databases!(tags_hang_below_the_head, async |db: TestDatabase| {
    let world = World::new(db).await;
    let client = world.client();
    assert_eq!(client.tagged(FinalityTag::Finalized).await.unwrap().unwrap().number, 0);
    mine(world.db(), &world.chain, 100).await.unwrap();
    let safe = 100 - u64::from(world.chain.confirmations);
    assert_eq!(client.tagged(FinalityTag::Safe).await.unwrap().unwrap().number, safe);
    let finalized = 100 - u64::from(world.chain.reorg_depth);
    assert_eq!(client.tagged(FinalityTag::Finalized).await.unwrap().unwrap().number, finalized);
    assert_eq!(client.block(101).await.unwrap(), None);
});

on_both_databases!(registered_tokens_know_their_decimals, async |db: TestDatabase| {
    let world = World::new(db).await;
    for token in &world.chain.tokens {
        let Asset::Token(contract) = token.asset else { continue };
        assert_eq!(world.client().decimals(contract).await.unwrap(), token.decimals);
    }
    let nothing_there = TransactionRequest::default().to(Address::repeat_byte(3)).input(vec![1, 2, 3, 4].into());
    assert!(world.node.call(nothing_there).await.unwrap().is_empty());
    let Asset::Token(usdc) = world.usdc() else { panic!("a token") };
    let unknown = TransactionRequest::default().to(usdc.0).input(vec![1, 2, 3, 4].into());
    assert_eq!(world.node.call(unknown).await.unwrap_err().as_error_resp().unwrap().code, 3);
    assert!(!world.node.get_code_at(usdc.0).await.unwrap().is_empty());
    assert!(world.node.get_code_at(Address::repeat_byte(3)).await.unwrap().is_empty(), "nobody deploys anything here");
});

on_both_databases!(what_is_not_known_is_null_or_an_error, async |db: TestDatabase| {
    let world = World::new(db).await;
    let nowhere = keccak256("nowhere");
    assert!(world.node.get_transaction_by_hash(nowhere).await.unwrap().is_none());
    assert!(world.node.get_transaction_receipt(nowhere).await.unwrap().is_none());
    assert!(world.node.get_block_by_hash(nowhere).await.unwrap().is_none());
    assert!(world.node.get_block_receipts(BlockId::number(u64::MAX)).await.unwrap().is_none());
    let unknown = world.node.raw_request::<_, String>("eth_mining".into(), ()).await.unwrap_err();
    assert_eq!(unknown.as_error_resp().unwrap().code, -32601);
    let malformed = world.node.raw_request::<_, String>("eth_getBlockByHash".into(), ("0x12", 1)).await.unwrap_err();
    assert_eq!(malformed.as_error_resp().unwrap().code, -32602);
});

on_both_databases!(a_waiting_transaction_has_no_block_and_no_receipt, async |db: TestDatabase| {
    let world = World::new(db).await;
    let paid = world.pay_by(&world.order().await, Scenario::Exact).await;
    let waiting = world.node.get_transaction_by_hash(paid.tx_hash.0).await.unwrap().unwrap();
    assert_eq!((waiting.block_hash, waiting.inner.nonce()), (None, 0));
    assert!(world.node.get_transaction_receipt(paid.tx_hash.0).await.unwrap().is_none());
});

fn consensus(receipt: &TransactionReceipt) -> ReceiptEnvelope {
    receipt.inner.clone().map_logs(|log| log.inner)
}
