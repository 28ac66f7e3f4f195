//! Being filled: wallets.
