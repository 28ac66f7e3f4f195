//! `cryptopay demo --exit`, on a machine where nothing is set.

use std::time::Duration;

use cryptopay_test_support::block_on;

use crate::harness::Installation;

#[test]
fn the_demo_tells_its_story_and_ends_with_0_within_30_seconds() {
    block_on(async {
        let demo = Installation::unset().launch(["demo", "--exit"]).end(Duration::from_secs(30)).await;
        assert_eq!(demo.code(), 0, "{demo:?}");
        assert!(demo.stdout.contains("signature verified"), "{}", demo.stdout);
        assert!(demo.stdout.contains("fulfillable: true"), "{}", demo.stdout);
    });
}
