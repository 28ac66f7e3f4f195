//! Being filled: api_keys.
