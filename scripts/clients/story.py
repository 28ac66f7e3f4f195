"""The API overview, followed with any HTTP library.

`send(method, path, headers, body)` takes the body as a dict or None and gives the status, the headers and the parsed answer.
"""

import json
import os
import random
import time

KEY = os.environ["CRYPTOPAY_KEY"]


def story(send):
    bearer = {"Authorization": f"Bearer {KEY}"}

    def get(path):
        return send("GET", path, bearer, None)

    def write(method, path, body):
        return send(method, path, bearer, body)

    status, _, login = send("POST", "/api/auth/login", {}, {
        "username": os.environ["CRYPTOPAY_USERNAME"],
        "password": os.environ["CRYPTOPAY_PASSWORD"],
    })
    succeeds(status, 200, login)
    assert login["access"] == login["data"]["access"]
    status, _, orders = send("GET", "/api/payment-orders/", {"Authorization": "Bearer " + login["access"]}, None)
    succeeds(status, 200, orders)

    status, headers, created = write("POST", "/api/payment-orders/", {
        "amount": "100.00",
        "currency": "USDC",
        "blockchain": "base",
        "order_info": json.dumps({"product": "Premium Plan"}),
        "nonce": int(time.time() * 1000) + random.randrange(1000000),
    })
    order = succeeds(status, 201, created)
    assert order["order_info"] == '{"product": "Premium Plan"}'
    for name in ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]:
        assert headers[name].isdigit(), name
    status, _, same = get(f"/api/payment-orders/{order['id']}/")
    assert succeeds(status, 200, same)["order_id"] == order["order_id"]

    _, _, page = get("/api/payment-orders/?page=2&page_size=50")
    assert page["count"] >= 150
    assert page["next"] == "/api/payment-orders/?page=3&page_size=50"
    assert page["previous"] == "/api/payment-orders/?page=1&page_size=50"
    assert len(page["results"]) == 50

    _, _, transactions = get("/api/transactions/")
    status, _, transaction = get(f"/api/transactions/{transactions['results'][0]['transaction_hash']}/")
    succeeds(status, 200, transaction)

    address = f"0x{random.getrandbits(160):040x}"
    status, _, wallet = write("POST", "/api/merchant-wallets/", {"blockchain": "polygon", "address": address})
    number = succeeds(status, 201, wallet)["id"]
    assert get("/api/merchant-wallets/")[2]["results"]
    status, _, changed = write("PUT", f"/api/merchant-wallets/{number}/", {"address": address, "label": "mine"})
    succeeds(status, 200, changed)

    url = "https://shop.example/hook"
    status, _, endpoint = write("POST", "/api/webhook-endpoints/", {"url": url, "events": ["payment.confirmed"]})
    number = succeeds(status, 201, endpoint)["id"]
    assert get("/api/webhook-endpoints/")[2]["results"]
    status, _, changed = write("PUT", f"/api/webhook-endpoints/{number}/", {"url": url, "is_active": False})
    succeeds(status, 200, changed)

    status, _, refused = write("POST", "/api/payment-orders/", {"amount": "much"})
    assert isinstance(fails(status, 400, refused, "VALIDATION_ERROR")["details"]["currency"], list)
    status, _, refused = send("GET", "/api/payment-orders/", {}, None)
    fails(status, 401, refused, "AUTHENTICATION_REQUIRED")
    status, _, refused = get("/api/payment-orders/ORD-000000000000/")
    fails(status, 404, refused, "NOT_FOUND")


def succeeds(status, expected, answer):
    assert status == expected, (status, answer)
    assert answer["success"] is True and isinstance(answer["message"], str)
    time.strptime(answer["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
    return answer["data"]


def fails(status, expected, answer, code):
    assert status == expected, (status, answer)
    assert answer["success"] is False and answer["error"]["code"] == code, answer
    return answer["error"]
