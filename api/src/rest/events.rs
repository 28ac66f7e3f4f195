//! Being filled: events.
