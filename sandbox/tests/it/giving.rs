use alloy::providers::Provider;
use alloy::rpc::types::Filter;
use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::units::Units;
use cryptopay_sandbox::{FaucetError, give, mine};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::World;

on_both_databases!(the_faucet_sends_tokens_and_coins_that_everybody_can_see, async |db: TestDatabase| {
    let world = World::new(db).await;
    let to = AccountAddress([0xb0; 20].into());
    let token = world.chain.token("USDC").unwrap();
    let tokens = give(world.db(), &world.chain, token, to, Units::new(5_000_000)).await.unwrap();
    let coins = give(world.db(), &world.chain, &world.chain.native, to, Units::new(7)).await.unwrap();
    assert_ne!(tokens.tx_hash, coins.tx_hash);
    let known = "0x1594286049Aeb9B06A3bdaebbd90F4B782117Bd7";
    assert_eq!((tokens.from.to_string().as_str(), coins.from), (known, tokens.from));
    assert_eq!(world.home(tokens.tx_hash).await, None, "it waits for the next block");

    mine(world.db(), &world.chain, 1).await.unwrap();
    let logs = world.node.get_logs(&Filter::new().from_block(1)).await.unwrap();
    assert_eq!(logs.len(), 1);
    assert_eq!(logs[0].transaction_hash.unwrap(), tokens.tx_hash.0);
    let sent = world.node.get_transaction_by_hash(coins.tx_hash.0).await.unwrap().unwrap();
    let sent = sent.inner.inner();
    assert_eq!(alloy::consensus::Transaction::to(sent), Some(to.0));
    assert_eq!(alloy::consensus::Transaction::value(sent), Units::new(7).0);
});

on_both_databases!(the_faucet_gives_something_and_not_to_itself, async |db: TestDatabase| {
    let world = World::new(db).await;
    let native = &world.chain.native;
    let to = AccountAddress([0xb0; 20].into());
    let given = give(world.db(), &world.chain, native, to, Units::new(1)).await.unwrap();
    let refused = give(world.db(), &world.chain, native, given.from, Units::new(1)).await;
    assert!(matches!(refused, Err(FaucetError::ToItself)), "{refused:?}");
    let refused = give(world.db(), &world.chain, native, to, Units::ZERO).await;
    assert!(matches!(refused, Err(FaucetError::AmountNotPositive)), "{refused:?}");
});
