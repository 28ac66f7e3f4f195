//! Where chance comes from: the operating system's generator, by way of the thread's own, which is seeded from it.

use rand::Rng;

/// `N` unpredictable bytes, fit for keys, tokens and ids.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_alike() {
        assert_ne!(bytes::<32>(), bytes::<32>());
    }
}
