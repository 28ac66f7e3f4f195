//! Being filled: webhook_endpoints.
