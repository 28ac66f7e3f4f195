//! Being filled: blockchains.
