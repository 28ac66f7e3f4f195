//! What a receiver checks, computed here from the published rules alone: HMAC is written out over a hash function.

use cryptopay_test_support::ReceivedRequest;
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

/// HMAC-SHA256 as RFC 2104 has it.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut padded = [0_u8; BLOCK];
    if key.len() > BLOCK {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let with = |pad: u8| padded.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(with(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(with(0x5c)).chain_update(inner).finalize().to_vec()
}

/// `X-Webhook-Signature` for a body.
pub(crate) fn documented(secret: &str, body: &[u8]) -> String {
    HEXLOWER.encode(&hmac(secret.as_bytes(), body))
}

/// One entry of `webhook-signature` for a request.
pub(crate) fn standard(secret: &str, request: &ReceivedRequest) -> String {
    let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
    let id = request.header("webhook-id").unwrap();
    let timestamp = request.header("webhook-timestamp").unwrap();
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
    format!("v1,{}", BASE64.encode(&hmac(&key, &signed)))
}

/// Checks everything about a delivery that its receiver can check with one secret.
pub(crate) fn check(request: &ReceivedRequest, secret: &str) {
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("x-webhook-signature"), Some(documented(secret, &request.body).as_str()));
    assert_eq!(request.header("x-webhook-signature-previous"), None);
    assert_eq!(request.header("webhook-signature"), Some(standard(secret, request).as_str()));
    let body = request.json();
    for name in ["x-webhook-id", "webhook-id"] {
        assert_eq!(request.header(name), body["webhook_id"].as_str(), "{name}");
    }
    assert_eq!(request.header("x-webhook-event"), body["event"].as_str());
    assert_eq!(request.header("x-webhook-timestamp"), request.header("webhook-timestamp"));
    let signed_at: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    assert!((now - 60..=now + 1).contains(&signed_at), "real time, whatever the sandbox's clock says: {signed_at}");
}

#[test]
fn the_written_out_hmac_agrees_with_a_published_vector() {
    // RFC 4231, test cases 2 and 6: a short key, and one that is longer than a block.
    assert_eq!(
        documented("Jefe", b"what do ya want for nothing?"),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(
        HEXLOWER.encode(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    );
}
