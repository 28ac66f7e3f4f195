//! A chain client that does what the honest one does, until it is told otherwise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use cryptopay_chain::{ChainClient, ChainError, Header, Inclusion, Search, ShownTransfer, TransferQuery};
use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::registry::FinalityTag;
use cryptopay_domain::transfer::{Block, ObservedTransfer};
use futures_util::future::BoxFuture;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    ChainId,
    Head,
    Tagged,
    Block,
    Blocks,
    Transfers,
    Inclusion,
    Decimals,
}

/// One endpoint between the jobs and the chain.
pub(crate) struct Tampered {
    honest: Arc<dyn ChainClient>,
    tampering: Mutex<Tampering>,
    journal: Mutex<Journal>,
}

#[derive(Default)]
struct Tampering {
    behind: Option<u64>,
    torn_above: Option<u64>,
    misnamed: Option<u64>,
    strange: Strangeness,
    forged_head: Option<Header>,
    stamped_ahead: Duration,
    full: bool,
    withholding: bool,
    denying: bool,
    included_at: Option<Inclusion>,
    made_up: Vec<ObservedTransfer>,
    is_forgetful: bool,
    hanging: BTreeSet<Call>,
    failing: BTreeMap<Call, fn() -> ChainError>,
    elsewhere: Option<Arc<dyn ChainClient>>,
    after: BTreeMap<Call, VecDeque<BoxFuture<'static, ()>>>,
}

/// Headers that do not hash to their own names.
#[derive(Default)]
struct Strangeness {
    is_strange: bool,
    is_trusted: bool,
}

/// What was asked so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    pub(crate) calls: Vec<Call>,
    pub(crate) ranges: Vec<RangeInclusive<u64>>,
    pub(crate) queries: Vec<TransferQuery>,
}

impl Journal {
    pub(crate) fn count(&self, call: Call) -> usize {
        self.calls.iter().filter(|known| **known == call).count()
    }

    /// Whether transfers to this address were looked for in the block at this height.
    pub(crate) fn looked_for(&self, address: AccountAddress, number: u64) -> bool {
        self.queries
            .iter()
            .filter(|query| query.recipients.contains(&address))
            .any(|query| query.blocks.iter().any(|block| block.number == number))
    }
}

impl Tampered {
    pub(crate) fn over(honest: Arc<dyn ChainClient>) -> Self {
        Self { honest, tampering: Mutex::default(), journal: Mutex::default() }
    }

    /// From now on it has no block above this height, as a node that lags.
    pub(crate) fn lag_behind(&self, height: u64) {
        self.tampering().behind = Some(height);
    }

    /// From now on the first block above this height does not follow the block at it: two nodes behind one address, each
    /// on a branch of its own.
    pub(crate) fn tear_above(&self, height: u64) {
        self.tampering().torn_above = Some(height);
    }

    /// From now on it has another block at this height, when it is asked for that alone.
    pub(crate) fn misname(&self, height: u64) {
        self.tampering().misnamed = Some(height);
    }

    /// From now on its headers have a shape that nobody knows.
    pub(crate) fn be_strange(&self) {
        self.tampering().strange.is_strange = true;
    }

    /// From now on this is its newest block.
    pub(crate) fn forge_head(&self, head: Header) {
        self.tampering().forged_head = Some(head);
    }

    /// From now on its blocks are stamped with a time that has not come.
    pub(crate) fn stamp_ahead(&self, time: Duration) {
        self.tampering().stamped_ahead = time;
    }

    /// The header as it shows it.
    fn shown(&self, mut header: Header) -> Result<Header, ChainError> {
        let tampering = self.tampering();
        header.block.time = header.block.time.plus(tampering.stamped_ahead);
        if tampering.strange.is_strange {
            if !tampering.strange.is_trusted {
                let (number, stated) = (header.number, header.hash);
                return Err(ChainError::HeaderHashMismatch { number, stated, computed: None });
            }
            header.bloom = None;
        }
        Ok(header)
    }

    /// From now on its headers prove nothing: all of its blocks are too full.
    pub(crate) fn fill_filters(&self) {
        self.tampering().full = true;
    }

    /// From now on it tells of no transfer.
    pub(crate) fn withhold(&self) {
        self.tampering().withholding = true;
    }

    /// From now on its headers deny the transfers that it tells of.
    pub(crate) fn deny_transfers(&self) {
        self.tampering().denying = true;
    }

    /// From now on every transaction stands there.
    pub(crate) fn include_at(&self, at: Inclusion) {
        self.tampering().included_at = Some(at);
    }

    /// From now on it tells of this transfer too, in its block and in its transaction: in the place of one that is real, or
    /// beside it.
    pub(crate) fn make_up(&self, transfer: ObservedTransfer) {
        self.tampering().made_up.push(transfer);
    }

    /// From now on it knows where no transaction stands.
    pub(crate) fn forget_transactions(&self) {
        self.tampering().is_forgetful = true;
    }

    /// From now on such a call gets no answer.
    pub(crate) fn hang(&self, call: Call) {
        self.tampering().hanging.insert(call);
    }

    /// From now on such a call fails.
    pub(crate) fn fail(&self, call: Call, error: fn() -> ChainError) {
        self.tampering().failing.insert(call, error);
    }

    /// From now on it answers from another chain.
    pub(crate) fn answer_from(&self, other: Arc<dyn ChainClient>) {
        self.tampering().elsewhere = Some(other);
    }

    /// Before the answer to the next such call is handed over, this happens. Several happen one after the other, one a
    /// call.
    pub(crate) fn after_next(&self, call: Call, happening: impl Future<Output = ()> + Send + 'static) {
        self.tampering().after.entry(call).or_default().push_back(Box::pin(happening));
    }

    /// Honest again.
    pub(crate) fn behave(&self) {
        *self.tampering() = Tampering::default();
    }

    /// What was asked since the last time that this was asked.
    pub(crate) fn take_journal(&self) -> Journal {
        std::mem::take(&mut *self.journal.lock().unwrap())
    }

    /// How often this was asked since then.
    pub(crate) fn calls(&self, call: Call) -> usize {
        self.journal.lock().unwrap().count(call)
    }

    fn tampering(&self) -> MutexGuard<'_, Tampering> {
        self.tampering.lock().unwrap()
    }

    fn begin(&self, call: Call) -> Result<Arc<dyn ChainClient>, ChainError> {
        self.journal.lock().unwrap().calls.push(call);
        let tampering = self.tampering();
        if let Some(error) = tampering.failing.get(&call) {
            return Err(error());
        }
        Ok(tampering.elsewhere.clone().unwrap_or_else(|| self.honest.clone()))
    }

    async fn end<T>(&self, call: Call, answer: Result<T, ChainError>) -> Result<T, ChainError> {
        let happening = self.tampering().after.get_mut(&call).and_then(VecDeque::pop_front);
        if let Some(happening) = happening {
            happening.await;
        }
        let hangs = self.tampering().hanging.contains(&call);
        if hangs {
            std::future::pending::<()>().await;
        }
        answer
    }

    fn behind(&self) -> u64 {
        self.tampering().behind.unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Tampered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tampered")
    }
}

#[async_trait]
impl ChainClient for Tampered {
    async fn chain_id(&self) -> Result<u64, ChainError> {
        let answer = self.begin(Call::ChainId)?.chain_id().await;
        self.end(Call::ChainId, answer).await
    }

    async fn head(&self) -> Result<Header, ChainError> {
        let client = self.begin(Call::Head)?;
        let head = client.head().await?;
        let behind = self.behind();
        let head = match head.number > behind {
            true => client.block(behind).await?.expect("a lagging node has some block").into(),
            false => head,
        };
        let forged = self.tampering().forged_head.clone();
        self.end(Call::Head, self.shown(forged.unwrap_or(head))).await
    }

    async fn tagged(&self, tag: FinalityTag) -> Result<Option<Block>, ChainError> {
        let answer = self.begin(Call::Tagged)?.tagged(tag).await;
        let behind = self.behind();
        self.end(Call::Tagged, answer.map(|block| block.filter(|block| block.number <= behind))).await
    }

    async fn block(&self, number: u64) -> Result<Option<Block>, ChainError> {
        let mut answer = self.begin(Call::Block)?.block(number).await;
        let behind = self.behind();
        if let Ok(Some(block)) = &mut answer
            && self.tampering().misnamed == Some(number)
        {
            block.hash = block.parent;
        }
        let answer = match answer {
            Ok(Some(block)) if block.number <= behind => self.shown(block.into()).map(|header| Some(header.block)),
            answer => answer.map(|_| None),
        };
        self.end(Call::Block, answer).await
    }

    async fn blocks(&self, range: RangeInclusive<u64>) -> Result<Vec<Header>, ChainError> {
        self.journal.lock().unwrap().ranges.push(range.clone());
        let client = self.begin(Call::Blocks)?;
        let mut answer = match *range.end() > self.behind() {
            true => Err(ChainError::BlockMissing { number: *range.end() }),
            false => client.blocks(range).await,
        };
        let torn = self.tampering().torn_above;
        if let (Ok(blocks), Some(height)) = (&mut answer, torn) {
            for block in blocks.iter_mut().filter(|block| block.number == height + 1) {
                block.block.parent = block.block.hash;
            }
        }
        let answer = answer.and_then(|headers| headers.into_iter().map(|header| self.shown(header)).collect());
        self.end(Call::Blocks, answer).await
    }

    async fn transfers(&self, query: &TransferQuery) -> Result<Vec<ObservedTransfer>, ChainError> {
        let client = self.begin(Call::Transfers)?;
        let last = query.blocks.last().expect("nobody looks into no block").block;
        let answer = match last.number > self.behind() {
            true => Err(ChainError::NotOnChain { number: last.number, expected: last.hash, found: None }),
            false if self.tampering().withholding => Ok(Vec::new()),
            false => client.transfers(query).await,
        };
        let made_up = self.tampering().made_up.clone();
        let answer = answer.map(|mut transfers| {
            let is_asked_for = |lie: &ObservedTransfer| {
                query.blocks.iter().any(|header| header.block == lie.block) && query.recipients.contains(&lie.to)
            };
            for lie in made_up.into_iter().filter(is_asked_for) {
                transfers.retain(|real| (real.tx_hash, real.position) != (lie.tx_hash, lie.position));
                transfers.push(lie);
            }
            transfers.sort_by_key(|transfer| (transfer.block.number, transfer.log_index));
            transfers
        });
        if answer.is_ok() {
            self.journal.lock().unwrap().queries.push(query.clone());
        }
        self.end(Call::Transfers, answer).await
    }

    async fn search(&self, query: &TransferQuery) -> Result<Search, ChainError> {
        let transfers = self.transfers(query).await?;
        let tampering = self.tampering();
        let numbers = query.blocks.iter().map(|block| block.number);
        let denied = transfers.iter().map(|transfer| (transfer.tx_hash, transfer.position));
        Ok(Search {
            unproven: numbers.filter(|_| tampering.full).collect(),
            denied: denied.filter(|_| tampering.denying).collect(),
            unverifiable: Vec::new(),
            left_out: 0,
            transfers,
        })
    }

    async fn inclusion(&self, tx_hash: Hash) -> Result<Option<Inclusion>, ChainError> {
        let mut answer = self.begin(Call::Inclusion)?.inclusion(tx_hash).await;
        if let Some(at) = self.tampering().included_at.clone() {
            answer = Ok(Some(at));
        }
        let made_up = self.tampering().made_up.clone();
        for lie in made_up.into_iter().filter(|lie| lie.tx_hash == tx_hash) {
            let shown = ShownTransfer {
                position: lie.position,
                asset: lie.asset,
                from: lie.from,
                to: lie.to,
                units: lie.units,
            };
            answer = answer.map(|real| {
                let (block_number, block_hash) = (lie.block.number, lie.block.hash);
                let nothing = Inclusion { block_number, block_hash, succeeded: true, transfers: Vec::new() };
                let mut told = real.unwrap_or(nothing);
                told.transfers.retain(|real| real.position != lie.position);
                told.transfers.push(shown);
                Some(told)
            });
        }
        if self.tampering().is_forgetful {
            answer = answer.map(|_| None);
        }
        let behind = self.behind();
        self.end(Call::Inclusion, answer.map(|at| at.filter(|at| at.block_number <= behind))).await
    }

    fn trust_header_hashes(&self, _: u64) {
        self.tampering().strange.is_trusted = true;
    }

    async fn decimals(&self, contract: AccountAddress) -> Result<u8, ChainError> {
        let answer = self.begin(Call::Decimals)?.decimals(contract).await;
        self.end(Call::Decimals, answer).await
    }
}
