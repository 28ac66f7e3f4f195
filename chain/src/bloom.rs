//! What a header says about the logs of its block. A bloom filter never denies what is there, so that a verified header
//! proves absence where it says no; where it says "perhaps", somebody has to look.

use std::fmt;

use alloy::primitives::{Address, B256, Bloom, keccak256};

/// Bits of a bloom filter.
const BITS: u32 = 2_048;
/// Bits up to which a filter tells much about a single address: with half of them set, one address in eight is there by
/// chance. The blocks of busy chains are beyond it, and their filters say "perhaps" to everything.
const TELLING_BITS: u32 = BITS / 2;

/// The bloom filter of a block's logs.
#[derive(Clone, PartialEq, Eq)]
pub struct LogsBloom(Box<Bloom>);

impl LogsBloom {
    pub(crate) fn new(bloom: Bloom) -> Self {
        Self(Box::new(bloom))
    }

    /// The filter as a header holds it.
    pub fn from_bytes(bytes: &[u8; 256]) -> Self {
        Self::new(Bloom::from(*bytes))
    }

    /// Whether so few bits are set that a "perhaps" is worth looking after.
    pub fn is_telling(&self) -> bool {
        self.0.data().iter().map(|byte| byte.count_ones()).sum::<u32>() <= TELLING_BITS
    }

    /// Whether everything that this filter has seen is in the other one too.
    pub(crate) fn is_covered_by(&self, other: &Bloom) -> bool {
        self.0.data().iter().zip(other.data()).all(|(own, theirs)| own & !theirs == 0)
    }

    fn has(&self, trace: &Trace) -> bool {
        let data = self.0.data();
        trace.0.iter().all(|(byte, mask)| data.get(*byte).is_some_and(|found| found & mask != 0))
    }
}

impl fmt::Debug for LogsBloom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits: u32 = self.0.data().iter().map(|byte| byte.count_ones()).sum();
        write!(f, "LogsBloom({bits} of {BITS} bits)")
    }
}

/// The three bits that a value sets, as place and mask.
#[derive(Debug, Clone, Copy)]
struct Trace([(usize, u8); 3]);

impl Trace {
    fn of(value: &[u8]) -> Self {
        let hash = keccak256(value);
        let bit = |high: u8, low: u8| {
            let bit = usize::from(u16::from_be_bytes([high, low]) & 0x7ff);
            (255_usize.saturating_sub(bit / 8), 1_u8 << (bit % 8))
        };
        let [a, b, c, d, e, f, ..] = hash.0;
        Self([bit(a, b), bit(c, d), bit(e, f)])
    }
}

/// What is looked for, prepared for many blocks.
#[derive(Debug)]
pub(crate) struct Sought {
    event: Trace,
    contracts: Vec<Trace>,
    recipients: Vec<(Address, Trace)>,
}

impl Sought {
    pub(crate) fn new(
        event: B256,
        contracts: impl IntoIterator<Item = Address>,
        recipients: impl IntoIterator<Item = Address>,
    ) -> Self {
        Self {
            event: Trace::of(event.as_slice()),
            contracts: contracts.into_iter().map(|contract| Trace::of(contract.as_slice())).collect(),
            recipients: recipients
                .into_iter()
                .map(|recipient| (recipient, Trace::of(recipient.into_word().as_slice())))
                .collect(),
        }
    }

    /// The recipients that a block may have logs of.
    pub(crate) fn perhaps_in<'a>(&'a self, bloom: &'a LogsBloom) -> impl Iterator<Item = Address> + 'a {
        let any = bloom.has(&self.event) && self.contracts.iter().any(|contract| bloom.has(contract));
        let recipients = if any { self.recipients.as_slice() } else { &[] };
        recipients.iter().filter(|(_, trace)| bloom.has(trace)).map(|(recipient, _)| *recipient)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::b256;
    use proptest::prelude::*;

    use super::*;

    const EVENT: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

    fn bloom(logs: &[(Address, Address)]) -> LogsBloom {
        let mut bloom = Bloom::ZERO;
        for (contract, to) in logs {
            bloom.accrue_raw_log(*contract, &[EVENT, B256::repeat_byte(9), to.into_word()]);
        }
        LogsBloom::new(bloom)
    }

    proptest! {
        #[test]
        fn what_is_there_is_never_denied(logs in prop::collection::vec((any::<[u8; 20]>(), any::<[u8; 20]>()), 1..60)) {
            let logs: Vec<(Address, Address)> = logs.into_iter().map(|(a, b)| (a.into(), b.into())).collect();
            let found = bloom(&logs);
            for (contract, to) in logs {
                let sought = Sought::new(EVENT, [contract], [to]);
                prop_assert_eq!(sought.perhaps_in(&found).collect::<Vec<_>>(), vec![to]);
            }
        }
    }

    #[test]
    fn an_empty_block_denies_everything_and_another_event_or_contract_does_too() {
        let (contract, to) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let sought = |event| Sought::new(event, [contract], [to]);
        assert_eq!(sought(EVENT).perhaps_in(&bloom(&[])).count(), 0);
        let found = bloom(&[(contract, to)]);
        assert_eq!(sought(EVENT).perhaps_in(&found).count(), 1);
        assert_eq!(sought(B256::repeat_byte(7)).perhaps_in(&found).count(), 0);
        assert_eq!(sought(EVENT).perhaps_in(&bloom(&[(Address::repeat_byte(3), to)])).count(), 0);
    }

    #[test]
    fn a_filter_tells_little_once_half_of_its_bits_are_set() {
        let logs = |count: u64| -> Vec<(Address, Address)> {
            (0..count).map(|n| (Address::repeat_byte(1), Address::left_padding_from(&n.to_be_bytes()))).collect()
        };
        assert!(bloom(&logs(300)).is_telling());
        assert!(!bloom(&logs(900)).is_telling());
    }
}
