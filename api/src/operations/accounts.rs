//! Being filled: accounts.
