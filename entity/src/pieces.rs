//! Long lists of values, in pieces that a statement takes: SQLite binds at most 32,766 values, PostgreSQL 65,535. How many
//! transfers an order has is up to whoever pays, so no list is short by nature.

/// Values in one statement.
const PIECE: usize = 10_000;

/// The values in pieces, in their order; none of no values. Collected at once: a caller's own iterator, kept across an
/// await, would make its future one that cannot move between threads.
pub(crate) fn pieces<T>(values: impl IntoIterator<Item = T>) -> Vec<Vec<T>> {
    let mut values = values.into_iter();
    let mut pieces = Vec::new();
    loop {
        let piece: Vec<T> = values.by_ref().take(PIECE).collect();
        if piece.is_empty() {
            return pieces;
        }
        pieces.push(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_piece_and_no_piece_is_too_long() {
        for count in [0, 1, PIECE, PIECE + 1, 3 * PIECE] {
            let cut = pieces(0..count);
            assert!(cut.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE));
            assert_eq!(cut.concat(), (0..count).collect::<Vec<_>>());
        }
    }
}
