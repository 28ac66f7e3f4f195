//! Being filled: transactions.
