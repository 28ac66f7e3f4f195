"""A shop in Python: registers, asks for a payment, is paid on the simulated chain, and ships.

Run with the gateway's address; the client beside it is generated from the OpenAPI document.
"""

import secrets
import sys
import time

from cryptopay_client import AuthenticatedClient, Client
from cryptopay_client.api.authentication import create_api_key, register
from cryptopay_client.api.merchant_wallets import create_merchant_wallet
from cryptopay_client.api.payment_orders import create_payment_order, get_payment_order
from cryptopay_client.api.sandbox import simulate_payment
from cryptopay_client.models import CreateApiKey, CreatePaymentOrder, CreateWallet, PayOrder, Register

base = sys.argv[1]
name = f"python-{secrets.token_hex(4)}"


def data(answer):
    """What a success carries."""
    assert answer is not None and answer.success is True, answer
    return answer.data


account = Register(
    username=name, email=f"{name}@shop.example", password=secrets.token_hex(12), shop_name="A shop in Python"
)
session = data(register.sync(client=Client(base_url=base), body=account))
login = AuthenticatedClient(base_url=base, token=session.access)
wallet = CreateWallet(blockchain="base", address="0x52908400098527886E0F7030069857D2E4169EE7")
assert data(create_merchant_wallet.sync(client=login, body=wallet)).is_active

key = data(create_api_key.sync(client=login, body=CreateApiKey(name="till", scopes=["read", "write"])))
shop = AuthenticatedClient(base_url=base, token=key.secret)

wish = CreatePaymentOrder(
    amount="100.00", currency="USDC", blockchain="base", order_info='{"product": "Premium Plan"}', nonce=1
)
idempotency_key = secrets.token_hex(8)
order = data(create_payment_order.sync(client=shop, body=wish, idempotency_key=idempotency_key))
again = data(create_payment_order.sync(client=shop, body=wish, idempotency_key=idempotency_key))
assert again.order_id == order.order_id
assert order.webhook_url is None and not order.fulfillable

refused = create_payment_order.sync(client=shop, body=wish)
assert refused is not None and refused.success is False
assert "nonce" in refused.error.details.to_dict(), refused

data(simulate_payment.sync(order.order_id, client=shop, body=PayOrder(confirm=True)))
until = time.monotonic() + 60
while not order.fulfillable:
    assert time.monotonic() < until, order
    time.sleep(0.2)
    order = data(get_payment_order.sync(order.order_id, client=shop))
assert order.status == "confirmed" and order.amount_received == order.pay_amount, order
print(f"{order.order_id} is paid: {order.transaction.transaction_hash}")
