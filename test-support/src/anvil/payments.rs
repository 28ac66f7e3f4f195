//! What customers and cheats send to the chain.

use super::Anvil;
use alloy::{
    primitives::{Address, B256, Bytes, U64, U256},
    sol,
    sol_types::{SolCall, SolConstructor, SolEvent},
};
use serde_json::{Value, json};

sol! {
    contract Token {
        constructor(string name, string symbol, uint8 decimals);
        function transfer(address to, uint256 value);
        function transferFrom(address from, address to, uint256 value);
        function approve(address spender, uint256 value);
        function balanceOf(address owner) returns (uint256);
        event Transfer(address indexed from, address indexed to, uint256 value);
    }

    contract FeeToken {
        constructor(string name, string symbol);
    }

    contract FakeToken {
        constructor(string name, string symbol, uint8 decimals);
        function pretend(address from, address to, uint256 value);
    }

    contract SmartWallet {
        constructor(address owner, uint8 manner);
    }

    contract BatchPayer {
        function pay(address token, address[] to, uint256[] values);
    }
}

/// How a contract wallet answers when it is asked about a signature (EIP-1271).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As the standard has it.
    Honest = 0,
    /// It reverts, whatever it is asked.
    Reverts = 1,
    /// Its yes is the word of another standard.
    WrongWord = 2,
    /// Its yes is followed by half a megabyte.
    Endless = 3,
    /// It never comes to an end.
    Spins = 4,
    /// Its yes is not a whole word.
    Short = 5,
    /// It says nothing.
    Silent = 6,
    /// It gives back what it was asked, as a forwarding fallback may.
    Echoes = 7,
}

/// A transaction to send.
#[derive(Debug, Clone)]
pub struct Payment {
    from: Option<Address>,
    to: Address,
    value: U256,
    data: Bytes,
    nonce: Option<u64>,
    /// In thousand-millionths of a coin for each unit of gas.
    tip_gwei: u64,
}

impl Payment {
    /// Coins of the chain, in wei.
    #[must_use]
    pub fn coins(to: Address, wei: U256) -> Self {
        Self { from: None, to, value: wei, data: Bytes::new(), nonce: None, tip_gwei: 1 }
    }

    /// Units of an ERC-20 token.
    #[must_use]
    pub fn tokens(token: Address, to: Address, units: U256) -> Self {
        Self::calling(token, &Token::transferCall { to, value: units })
    }

    /// Units of a token to several, in one transaction of a contract that [`Anvil::batch_payer`] made.
    #[must_use]
    pub fn batch(payer: Address, token: Address, shares: &[(Address, U256)]) -> Self {
        let (to, values) = shares.iter().copied().unzip();
        Self::calling(payer, &BatchPayer::payCall { token, to, values })
    }

    /// A transfer of nothing out of somebody else's pocket, which every ERC-20 token logs: it puts an address into the
    /// victim's history, to be copied from there.
    #[must_use]
    pub fn poison(token: Address, victim: Address, to: Address) -> Self {
        Self::calling(token, &Token::transferFromCall { from: victim, to, value: U256::ZERO })
    }

    /// A log of a transfer that never happened, of a contract that [`Anvil::fake_token`] made.
    #[must_use]
    pub fn pretended(fake: Address, from: Address, to: Address, units: U256) -> Self {
        Self::calling(fake, &FakeToken::pretendCall { from, to, value: units })
    }

    /// The same from this account instead of the first one.
    #[must_use]
    pub fn from(self, account: Address) -> Self {
        Self { from: Some(account), ..self }
    }

    /// The same with this nonce: in place of another transaction.
    #[must_use]
    pub fn with_nonce(self, nonce: u64) -> Self {
        Self { nonce: Some(nonce), ..self }
    }

    /// The same with a higher tip, as from a customer who cannot wait: another transaction.
    #[must_use]
    pub fn in_a_hurry(self) -> Self {
        Self { tip_gwei: 2, ..self }
    }

    fn calling(contract: Address, call: &impl SolCall) -> Self {
        Self { from: None, to: contract, value: U256::ZERO, data: call.abi_encode().into(), nonce: None, tip_gwei: 1 }
    }
}

/// A transfer that a contract of the chain has logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenTransfer {
    /// The contract.
    pub token: Address,
    /// The transaction.
    pub tx_hash: B256,
    /// Height.
    pub block_number: u64,
    /// How much.
    pub units: U256,
}

impl Anvil {
    /// Deploys an ordinary ERC-20 token, all of it in the hands of the first account. Mines a block.
    pub async fn token(&self, symbol: &str, decimals: u8) -> Address {
        let name = format!("{symbol} of a test");
        let arguments = Token::constructorCall { name, symbol: symbol.to_owned(), decimals }.abi_encode();
        self.deploy("Token", &arguments).await
    }

    /// Deploys a token of six decimals that keeps one percent of what anybody but the first account sends. Mines a
    /// block.
    pub async fn fee_token(&self, symbol: &str) -> Address {
        let name = format!("{symbol} of a test");
        let arguments = FeeToken::constructorCall { name, symbol: symbol.to_owned() }.abi_encode();
        self.deploy("FeeToken", &arguments).await
    }

    /// Deploys a contract that calls itself like a token and logs whatever it is told. Mines a block.
    pub async fn fake_token(&self, symbol: &str, decimals: u8) -> Address {
        let name = format!("{symbol} of a test");
        let arguments = FakeToken::constructorCall { name, symbol: symbol.to_owned(), decimals }.abi_encode();
        self.deploy("FakeToken", &arguments).await
    }

    /// Deploys a contract that pays several for the first account, with as much of these tokens as it likes. Mines
    /// blocks.
    pub async fn batch_payer(&self, tokens: &[Address]) -> Address {
        let payer = self.deploy("BatchPayer", &[]).await;
        for token in tokens {
            let approval = Token::approveCall { spender: payer, value: U256::MAX };
            self.send(&Payment::calling(*token, &approval)).await;
        }
        self.mine(1).await;
        payer
    }

    /// Deploys a wallet that is a contract: it accepts what the key of `owner` has signed, in this manner. Mines a block.
    pub async fn smart_wallet(&self, owner: Address, manner: Manner) -> Address {
        let arguments = SmartWallet::constructorCall { owner, manner: manner as u8 }.abi_encode();
        self.deploy("SmartWallet", &arguments).await
    }

    /// Sends a transaction. It waits for the next block.
    pub async fn send(&self, payment: &Payment) -> B256 {
        let from = payment.from.unwrap_or_else(|| self.account(0));
        let mut request = json!({
            "from": from,
            "to": payment.to,
            "value": payment.value,
            "data": payment.data,
            // Not to be estimated on a state in which an earlier transaction of this block is missing.
            "gas": U64::from(1_000_000),
            // So that a transaction which replaces another, or comes back after a reorganisation, is never too cheap.
            "maxFeePerGas": U64::from(100_000_000_000_u64),
            "maxPriorityFeePerGas": U64::from(payment.tip_gwei.saturating_mul(1_000_000_000)),
        });
        if let Some(nonce) = payment.nonce {
            request["nonce"] = json!(U64::from(nonce));
        }
        self.call("eth_sendTransaction", json!([request])).await
    }

    /// A transaction as it was signed, to be sent again on another branch.
    pub async fn signed(&self, tx_hash: B256) -> Bytes {
        self.call("eth_getRawTransactionByHash", json!([tx_hash])).await
    }

    /// Sends a signed transaction again.
    pub async fn send_again(&self, signed: &Bytes) -> B256 {
        self.call("eth_sendRawTransaction", json!([signed])).await
    }

    /// The nonce of a transaction.
    pub async fn nonce(&self, tx_hash: B256) -> u64 {
        let transaction: Value = self.call("eth_getTransactionByHash", json!([tx_hash])).await;
        let nonce: U64 = serde_json::from_value(transaction["nonce"].clone()).expect("a transaction has a nonce");
        nonce.to()
    }

    /// The balance of a token, in units.
    pub async fn token_balance(&self, token: Address, owner: Address) -> U256 {
        let data: Bytes = Token::balanceOfCall { owner }.abi_encode().into();
        let answer: Bytes = self.call("eth_call", json!([{ "to": token, "data": data }, "latest"])).await;
        U256::from_be_slice(&answer)
    }

    /// The coins of an account, in wei.
    pub async fn coin_balance(&self, owner: Address) -> U256 {
        self.call("eth_getBalance", json!([owner, "latest"])).await
    }

    /// Every transfer to an address that some contract of the chain has logged, zero ones and faked ones too.
    pub async fn token_transfers(&self, to: Address) -> Vec<TokenTransfer> {
        let topics = json!([Token::Transfer::SIGNATURE_HASH, null, to.into_word()]);
        let filter = json!([{ "fromBlock": "0x0", "toBlock": "latest", "topics": topics }]);
        let logs: Vec<Value> = self.call("eth_getLogs", filter).await;
        let read = |log: Value| -> Option<TokenTransfer> {
            Some(TokenTransfer {
                token: serde_json::from_value(log["address"].clone()).ok()?,
                tx_hash: serde_json::from_value(log["transactionHash"].clone()).ok()?,
                block_number: serde_json::from_value::<U64>(log["blockNumber"].clone()).ok()?.to(),
                units: U256::from_be_slice(&serde_json::from_value::<Bytes>(log["data"].clone()).ok()?),
            })
        };
        logs.into_iter().map(|log| read(log).expect("a log of the node should be one")).collect()
    }

    async fn deploy(&self, contract: &str, arguments: &[u8]) -> Address {
        let mut code = self.installed.code(contract).to_vec();
        code.extend_from_slice(arguments);
        let request = json!({ "from": self.account(0), "data": Bytes::from(code), "gas": U64::from(5_000_000) });
        let tx_hash: B256 = self.call("eth_sendTransaction", json!([request])).await;
        self.mine(1).await;
        let receipt: Value = self.call("eth_getTransactionReceipt", json!([tx_hash])).await;
        assert_eq!(receipt["status"], "0x1", "{contract} was not deployed: {receipt}");
        serde_json::from_value(receipt["contractAddress"].clone()).expect("a new contract has an address")
    }
}
