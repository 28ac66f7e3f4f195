//! Being filled: payment_page.
