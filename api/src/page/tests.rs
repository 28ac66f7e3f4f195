use super::*;

use std::time::Duration;

const USDC: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";

fn view(status: OrderStatus) -> PageView {
    PageView {
        shop_name: "Kettle & Cup".to_owned(),
        order_id: "ORD-abcdefgh2345".parse().unwrap(),
        status,
        currency: "USDC".to_owned(),
        pay_amount: "99.9973".to_owned(),
        amount_received: "40.00".to_owned(),
        amount_remaining: "59.9973".to_owned(),
        amount_overpaid: None,
        paid_at: None,
        network: "Base".to_owned(),
        exchange_name: "Base Mainnet".to_owned(),
        receiving_address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".parse().unwrap(),
        asset: Asset::Token(USDC.parse().unwrap()),
        chain_id: 8453,
        due: Units::new(99_997_300),
        confirmations: 3,
        required_confirmations: 12,
        expires_at: Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(3600)),
        payable: matches!(status, OrderStatus::Pending | OrderStatus::Underpaid),
        fulfillable: status == OrderStatus::Confirmed,
        redirect_url: Some("https://shop.example/thanks?lang=en#top".to_owned()),
        explorer: Some("https://basescan.org".to_owned()),
        transaction_hash: None,
        sandbox: false,
        simulated: false,
    }
}

fn page(view: &PageView) -> String {
    render(view, "bm9uY2U=")
}

/// The opening tag of the element with this id.
fn tag<'a>(page: &'a str, id: &str) -> &'a str {
    let at = page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no element {id}"));
    let start = page[..at].rfind('<').unwrap();
    &page[start..=at + page[at..].find('>').unwrap()]
}

#[test]
fn a_waiting_order_shows_what_to_send_and_where() {
    let page = page(&view(OrderStatus::Pending));
    for text in [
        "Kettle &amp; Cup",
        "<span id=\"amount\">99.9973</span> <span class=\"symbol\">USDC</span>",
        "Send exactly",
        "Send only USDC on Base Mainnet.",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed</code>",
        "<svg",
        "Waiting for your payment",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!tag(&page, "pay").contains("hidden"));
    assert!(tag(&page, "rest").contains("hidden"));
    assert!(tag(&page, "back").contains("hidden"));
}

#[test]
fn only_a_script_offers_to_look_for_a_payment() {
    for status in [OrderStatus::Pending, OrderStatus::Expired, OrderStatus::Confirmed] {
        let page = page(&view(status));
        assert!(tag(&page, "claim").contains("hidden"));
        assert!(!tag(&page, "claim-form").contains("action"), "its own script sends it, and nothing else does");
        assert!(page.contains("show(\"claim\", ![\"confirming\", \"confirmed\"]"));
    }
}

#[test]
fn the_price_never_stands_beside_the_amount_to_send() {
    for status in OrderStatus::ALL {
        for payable in [true, false] {
            let page = page(&PageView { payable, ..view(*status) });
            assert!(!page.contains("100.00") && !page.contains("Order total"), "{status} {payable}");
        }
    }
}

#[test]
fn an_end_has_sums_a_way_back_and_the_order_to_name() {
    let paid_at = Some(Timestamp::from_secs(1_800_000_000));
    let hash = Some(format!("0x{}", "ab".repeat(32)).parse().unwrap());
    for (status, received, has_receipt) in [
        (OrderStatus::Confirmed, "99.9973", true),
        (OrderStatus::Underpaid, "40.00", true),
        (OrderStatus::Failed, "40.00", true),
        (OrderStatus::Expired, "0.00", false),
        (OrderStatus::Canceled, "0.00", false),
    ] {
        let view = view(status);
        let (paid_at, transaction_hash) = if has_receipt { (paid_at, hash) } else { (None, None) };
        let view = PageView { payable: false, amount_received: received.to_owned(), paid_at, transaction_hash, ..view };
        let shown = page(&view);
        for id in ["sums", "support", "back"] {
            assert!(!tag(&shown, id).contains("hidden"), "{status}: {id}");
        }
        assert!(shown.contains("<span id=\"due\">99.9973</span> USDC"), "{status}");
        assert!(shown.contains(&format!("<span id=\"total\">{received}</span> USDC")), "{status}");
        assert!(shown.contains("name the order <code>ORD-abcdefgh2345</code>"), "{status}");
        assert_eq!(tag(&shown, "missing-line").contains("hidden"), status != OrderStatus::Underpaid, "{status}");
        assert_eq!(shown.contains("<h2 id=\"details-title\">Receipt</h2>"), has_receipt, "{status}");
        assert_eq!(!tag(&shown, "print").contains("hidden"), has_receipt, "{status}");
        assert_eq!(shown.contains("<time id=\"paid-at\">2027-01-15T08:00:00Z</time>"), has_receipt, "{status}");
        // Only a confirmed order leads away by itself.
        assert_eq!(shown.contains("content=\"5;url="), status == OrderStatus::Confirmed, "{status}");
        let alone = page(&PageView { redirect_url: None, ..view });
        assert!(!alone.contains("id=\"back\""), "{status}");
    }
    let open = page(&view(OrderStatus::Pending));
    for id in ["sums", "support", "back", "print"] {
        assert!(tag(&open, id).contains("hidden"), "{id}");
    }
}

#[test]
fn an_overpaid_order_shows_the_amount_paid_too_much() {
    let view = PageView { amount_overpaid: Some("5.00".to_owned()), ..view(OrderStatus::Confirmed) };
    let shown = page(&view);
    assert!(shown.contains("<span id=\"excess\">5.00</span> USDC") && !tag(&shown, "excess-line").contains("hidden"));
    assert!(tag(&page(&PageView { amount_overpaid: None, ..view }), "excess-line").contains("hidden"));
}

#[test]
fn the_page_lives_on_its_stream_and_tells_when_it_is_stale() {
    let page = page(&view(OrderStatus::Pending));
    assert!(page.contains("\"/events\"") && page.contains("Last-Event-ID") && !page.contains("\"/status\""));
    assert!(page.contains("This page is not up to date.") && tag(&page, "offline").contains("hidden"));
    // Without JavaScript it reloads, seldom enough for several such pages behind one address.
    assert!(page.contains("http-equiv=\"refresh\" content=\"15\""));
}

#[test]
fn an_underpaid_order_asks_for_the_rest_until_it_is_closed() {
    let open = page(&view(OrderStatus::Underpaid));
    assert!(open.contains("<span id=\"amount\">59.9973</span>") && open.contains("Still to send"));
    assert!(!tag(&open, "rest").contains("hidden"));

    let closed = page(&PageView { payable: false, ..view(OrderStatus::Underpaid) });
    assert!(tag(&closed, "pay").contains("hidden") && tag(&closed, "ask").contains("hidden"));
    assert!(closed.contains("do not send more"));
}

#[test]
fn a_payment_being_confirmed_shows_its_progress_and_the_way_back() {
    let hash = format!("0x{}", "ab".repeat(32));
    let seen = PageView { transaction_hash: Some(hash.parse().unwrap()), ..view(OrderStatus::Confirming) };
    let page = page(&seen);
    assert!(page.contains("3 of 12 confirmations"));
    assert!(tag(&page, "bar").contains("max=\"12\" value=\"3\""));
    assert!(!tag(&page, "progress").contains("hidden") && tag(&page, "pay").contains("hidden"));
    assert!(!tag(&page, "back").contains("hidden"));
    assert!(tag(&page, "hash").contains(&format!("href=\"https://basescan.org/tx/{hash}\"")));
}

#[test]
fn the_way_back_names_the_order_and_never_the_status() {
    let id = "ORD-abcdefgh2345".parse().unwrap();
    assert_eq!(
        return_url("https://shop.example/thanks?lang=en#top", &id).unwrap(),
        "https://shop.example/thanks?lang=en&order_id=ORD-abcdefgh2345#top"
    );
    assert_eq!(return_url("http://shop.example", &id).unwrap(), "http://shop.example/?order_id=ORD-abcdefgh2345");
    let page = page(&view(OrderStatus::Confirmed));
    let target = "https://shop.example/thanks?lang=en&amp;order_id=ORD-abcdefgh2345#top";
    assert!(tag(&page, "order").contains(&format!("data-go=\"{target}\"")));
    assert!(page.contains(&format!("content=\"5;url={target}\"")), "without JavaScript too");
}

#[test]
fn only_web_addresses_become_links() {
    for url in
        ["javascript:alert(1)", "data:text/html,x", "ftp://shop.example", "//shop.example", "shop.example/thanks"]
    {
        let page = page(&PageView {
            redirect_url: Some(url.to_owned()),
            explorer: Some(url.to_owned()),
            transaction_hash: Some(format!("0x{}", "ab".repeat(32)).parse().unwrap()),
            ..view(OrderStatus::Confirmed)
        });
        assert!(!page.contains(url), "{url}");
        assert!(!page.contains("id=\"back\"") && !tag(&page, "hash").contains("href"));
    }
}

#[test]
fn no_value_can_break_out_of_its_place() {
    let evil = "\"'><script>alert(1)</script>{{js}}<!--".to_owned();
    let page = render(
        &PageView {
            shop_name: evil.clone(),
            currency: evil.clone(),
            pay_amount: evil.clone(),
            amount_received: evil.clone(),
            amount_remaining: evil.clone(),
            amount_overpaid: Some(evil.clone()),
            network: evil.clone(),
            exchange_name: evil.clone(),
            redirect_url: Some(format!("https://shop.example/{evil}?{evil}#{evil}")),
            explorer: Some(format!("https://explorer.example/{evil}")),
            transaction_hash: Some(format!("0x{}", "ab".repeat(32)).parse().unwrap()),
            ..view(OrderStatus::Confirmed)
        },
        &evil,
    );
    let page = page.to_lowercase();
    assert!(!page.contains("<script>alert"));
    assert!(!page.contains("<!--"));
    // Ours are two: the words and the program.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
}

#[test]
fn a_payment_is_simulated_by_a_button_in_the_sandbox_and_nowhere_else() {
    let waiting = view(OrderStatus::Pending);
    for (sandbox, simulated) in [(false, false), (true, false), (false, true)] {
        let page = page(&PageView { sandbox, simulated, ..waiting.clone() });
        assert!(!page.contains("id=\"simulate\"") && !page.contains("Simulate payment"), "{sandbox} {simulated}");
    }
    let sandbox = PageView { sandbox: true, simulated: true, ..waiting };
    let shown = page(&sandbox);
    assert!(tag(&shown, "simulate").starts_with("<button type=\"button\""));
    assert!(!shown.contains("<form action") && shown.contains("/simulate\""));
    let (before, _) = shown.split_once("id=\"simulate\"").unwrap();
    assert!(before.contains("id=\"pay\""), "it goes with the rest of how to pay");
    let paid = page(&PageView { status: OrderStatus::Confirmed, payable: false, ..sandbox });
    assert!(tag(&paid, "pay").contains("hidden"));
}

#[test]
fn every_status_has_its_words_and_no_place_stays_empty() {
    for status in OrderStatus::ALL {
        for payable in [true, false] {
            let page = page(&PageView { payable, sandbox: true, ..view(*status) });
            assert!(!page.contains("{{"), "{status}");
            assert!(page.contains("Do not send real money"));
        }
        assert!(scenes::json().contains(&format!("\"{status}\":")), "{status}");
    }
}

#[test]
fn nothing_is_loaded_from_elsewhere_and_every_block_has_the_nonce() {
    let page = page(&PageView { redirect_url: None, explorer: None, ..view(OrderStatus::Pending) });
    for outside in [" src=", "@import", "url(", "style=\"", " onclick"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("http").count(), 2, "the namespace of SVG, and http-equiv");
    assert_eq!(page.matches("nonce=\"bm9uY2U=\"").count(), 3);
}

#[test]
fn native_coins_can_be_paid_from_a_wallet_app_and_tokens_cannot() {
    let native = PageView {
        asset: Asset::Native,
        currency: "ETH".to_owned(),
        due: Units::new(30_000_000_000_000_000),
        chain_id: 1,
        ..view(OrderStatus::Pending)
    };
    let uri = "ethereum:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed@1?value=30000000000000000";
    assert!(tag(&page(&native), "wallet").contains(uri));
    assert!(!page(&view(OrderStatus::Pending)).contains("ethereum:"));
    assert!(!page(&PageView { status: OrderStatus::Underpaid, ..native }).contains("ethereum:"));
}

#[test]
fn the_headers_shut_everybody_else_out_whatever_the_nonce_is() {
    let headers = security_headers("ab+/=; script-src *\r\nX: y");
    let value = |name: &str| headers.iter().find(|(header, _)| *header == name).unwrap().1.as_str();
    let policy = value("Content-Security-Policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'nonce-ab+/=script-srcXy';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("connect-src 'self'"));
    assert_eq!(value("Referrer-Policy"), "no-referrer");
    assert_eq!(value("X-Frame-Options"), "DENY");
    assert!(value("X-Robots-Tag").contains("noindex"));
}

#[test]
fn an_unknown_order_says_nothing_but_that() {
    let page = not_found("bm9uY2U=");
    assert!(page.contains("There is no such order") && !page.contains("{{") && !page.contains("<script"));
}
