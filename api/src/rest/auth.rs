//! Being filled: auth.
