// A shop in TypeScript: registers, asks for a payment, is paid on the simulated chain, and ships.
// Run with the gateway's address; the types beside it are generated from the OpenAPI document.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const baseUrl = process.argv[2];
if (!baseUrl) throw new Error("say where the gateway is");
const name = `typescript-${crypto.randomUUID().slice(0, 8)}`;

/** What a success carries. */
function data<T>(answer: { data?: { success: true; data: T }; error?: components["schemas"]["Error"] }): T {
  if (!answer.data) throw new Error(JSON.stringify(answer.error));
  return answer.data.data;
}

const nobody = createClient<paths>({ baseUrl });
const account = { username: name, email: `${name}@shop.example`, password: crypto.randomUUID(), shop_name: "A shop in TypeScript" };
const session = data(await nobody.POST("/api/auth/register", { body: account }));
const login = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${session.access}` } });
const wallet = { blockchain: "base", address: "0x52908400098527886E0F7030069857D2E4169EE7" };
if (!data(await login.POST("/api/merchant-wallets/", { body: wallet })).is_active) throw new Error("not active");

const key = data(await login.POST("/api/api-keys/", { body: { name: "till", scopes: ["read", "write"] } }));
const shop = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key.secret}` } });

const body = { amount: "100.00", currency: "USDC", blockchain: "base", order_info: '{"product": "Premium Plan"}', nonce: 1 };
const params = { header: { "Idempotency-Key": crypto.randomUUID() } };
let order = data(await shop.POST("/api/payment-orders/", { body, params }));
const again = data(await shop.POST("/api/payment-orders/", { body, params }));
if (again.order_id !== order.order_id) throw new Error("a repeated request made another order");

const refused = await shop.POST("/api/payment-orders/", { body });
if (refused.error?.error.code !== "VALIDATION_ERROR" || !refused.error.error.details?.["nonce"]) {
  throw new Error(JSON.stringify(refused));
}

const path = { id: order.order_id };
data(await shop.POST("/api/sandbox/payment-orders/{id}/pay/", { params: { path }, body: { confirm: true } }));
const until = Date.now() + 60_000;
while (!order.fulfillable) {
  if (Date.now() > until) throw new Error(JSON.stringify(order));
  await new Promise((resolve) => setTimeout(resolve, 200));
  order = data(await shop.GET("/api/payment-orders/{id}/", { params: { path } }));
}
if (order.status !== "confirmed" || order.amount_received !== order.pay_amount) throw new Error(JSON.stringify(order));
console.log(`${order.order_id} is paid: ${order.transaction?.transaction_hash}`);
