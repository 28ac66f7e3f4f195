//! Being filled: sandbox.
