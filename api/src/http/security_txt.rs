//! `GET /.well-known/security.txt` (RFC 9116): the address for reports of vulnerabilities, from the configuration.

use std::time::Duration;

use cryptopay_domain::time::Timestamp;
use poem::web::Data;
use poem::{Response, handler};

use crate::app::App;
use crate::error::ApiError;
use crate::rest::envelope::now;

/// Path of the file.
pub(super) const PATH: &str = "/.well-known/security.txt";
/// Validity of an answer. RFC 9116 recommends less than a year; the process that answers vouches for its configuration.
const VALID_FOR: Duration = Duration::from_secs(90 * 24 * 3600);

/// The file, or 404 where no contact is configured.
#[handler]
pub(super) fn security_txt(app: Data<&App>) -> Result<Response, poem::Error> {
    let contacts = &app.config.security_contacts;
    if contacts.is_empty() {
        return Err(ApiError::not_found("route").into());
    }
    let text = text(contacts, &format!("{}{PATH}", app.public_url), now().plus(VALID_FOR));
    Ok(Response::builder().content_type("text/plain; charset=utf-8").body(text))
}

fn text(contacts: &[String], canonical: &str, expires: Timestamp) -> String {
    let contacts: String = contacts.iter().map(|contact| format!("Contact: {contact}\n")).collect();
    format!("{contacts}Expires: {expires}\nCanonical: {canonical}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_required_fields_in_order() {
        let contacts = ["mailto:security@shop.example".to_owned(), "https://shop.example/security".to_owned()];
        let text = text(&contacts, "https://pay.example/.well-known/security.txt", Timestamp::from_secs(1_800_000_000));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "Contact: mailto:security@shop.example",
                "Contact: https://shop.example/security",
                "Expires: 2027-01-15T08:00:00Z",
                "Canonical: https://pay.example/.well-known/security.txt",
            ]
        );
    }
}
