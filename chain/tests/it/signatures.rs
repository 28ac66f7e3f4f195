//! Contract wallets of a real node, asked whether they accept a signature.

use std::sync::Arc;

use cryptopay_chain::signature::{ContractWord, SentSignature, personal_message_hash};
use cryptopay_chain::{ChainClient, ChainError, Endpoints, EvmClient, Limits};
use cryptopay_domain::address::AccountAddress;
use cryptopay_test_support::{Address, Anvil, Fault, FaultProxy, Manner, Signer, block_on};

const TEXT: &str = "this wallet is mine";
const CHAIN_ID: u64 = 8453;

fn client(url: &str) -> Arc<dyn ChainClient> {
    Arc::new(EvmClient::http(&url.parse().unwrap(), Limits::default()).unwrap())
}

fn endpoints(urls: &[&str]) -> Endpoints {
    Endpoints::new(CHAIN_ID, urls.iter().enumerate().map(|(number, url)| (format!("node {number}"), client(url))))
}

async fn ask(endpoints: &Endpoints, contract: Address, signature: &str) -> Result<ContractWord, ChainError> {
    let signature: SentSignature = signature.parse().unwrap();
    endpoints.ask_contract(AccountAddress(contract), personal_message_hash(TEXT), &signature).await
}

#[test]
fn only_a_contract_that_answers_by_the_standard_accepts() {
    block_on(async {
        let node = Anvil::start(CHAIN_ID).await;
        let owner = Signer::new(1);
        let endpoints = endpoints(&[&node.url()]);
        let honest = node.smart_wallet(owner.address(), Manner::Honest).await;
        assert_eq!(ask(&endpoints, honest, &owner.sign(TEXT)).await.unwrap(), ContractWord::Accepts);
        for wrong in [owner.sign("another text"), Signer::new(2).sign(TEXT), "0x".to_owned(), "0x00".to_owned()] {
            assert_eq!(ask(&endpoints, honest, &wrong).await.unwrap(), ContractWord::Refuses, "{wrong:.20}");
        }
        for manner in [
            Manner::Reverts,
            Manner::WrongWord,
            Manner::Endless,
            Manner::Spins,
            Manner::Short,
            Manner::Silent,
            Manner::Echoes,
        ] {
            let odd = node.smart_wallet(owner.address(), manner).await;
            let word = ask(&endpoints, odd, &owner.sign(TEXT)).await;
            assert_eq!(word.unwrap(), ContractWord::Refuses, "{manner:?}");
        }
        // A token is a contract, but no wallet; an account with a key, and a precompile that echoes, are no contracts.
        let token = node.token("USDC", 6).await;
        assert_eq!(ask(&endpoints, token, &owner.sign(TEXT)).await.unwrap(), ContractWord::Refuses);
        for account in [owner.address(), Address::with_last_byte(4), node.account(1)] {
            assert_eq!(ask(&endpoints, account, &owner.sign(TEXT)).await.unwrap(), ContractWord::NoContract);
        }
    });
}

#[test]
fn a_yes_needs_two_nodes_where_there_are_two() {
    block_on(async {
        let (node, other) = (Anvil::start(CHAIN_ID).await, Anvil::start(CHAIN_ID).await);
        let owner = Signer::new(1);
        let signature = owner.sign(TEXT);
        let wallet = node.smart_wallet(owner.address(), Manner::Honest).await;
        let proxy = FaultProxy::start(&node.url()).await;
        let both = endpoints(&[&node.url(), &proxy.url()]);
        assert_eq!(ask(&both, wallet, &signature).await.unwrap(), ContractWord::Accepts);
        // The other node has no such contract: it is behind, or the first lies. Whichever is asked first, nothing is
        // proven.
        let divided = endpoints(&[&node.url(), &other.url()]);
        for _ in 0..2 {
            let word = ask(&divided, wallet, &signature).await;
            assert!(!matches!(word, Ok(ContractWord::Accepts)), "{word:?}");
        }
        // The second is away: it is not known.
        other.stop();
        let alone = endpoints(&[&node.url(), &other.url()]);
        let word = ask(&alone, wallet, &signature).await;
        assert!(matches!(word, Err(ref error) if error.is_retryable()), "{word:?}");
        // A no needs no second: it changes nothing.
        let no = ask(&endpoints(&[&node.url(), &other.url()]), wallet, "0x").await;
        assert_eq!(no.unwrap(), ContractWord::Refuses);
        // Nobody answers.
        proxy.inject([Fault::cut()]);
        let word = ask(&endpoints(&[&proxy.url()]), wallet, &signature).await;
        assert!(matches!(word, Err(ref error) if error.is_retryable()), "{word:?}");
        // A node of another chain says nothing that counts.
        let foreign = Anvil::start(1).await;
        let wallet = foreign.smart_wallet(owner.address(), Manner::Honest).await;
        let word = ask(&endpoints(&[&foreign.url()]), wallet, &signature).await;
        assert!(matches!(word, Err(ChainError::WrongChain { .. })), "{word:?}");
    });
}
