// In a real browser, as a person would: Swagger UI's "Authorize" and "Execute", the payment page with its button, and the
// GraphQL explorer with a live subscription. What a page writes to the console as an error is a failure too: that is where a
// browser says that a policy has stopped it.
//
// node browser.mjs <gateway> <browser> <folder for pictures>

import { setTimeout as pause } from "node:timers/promises";
import { chromium } from "playwright-core";

const [base, browser, pictures] = process.argv.slice(2);
const { CONFORMANCE_USER: username, CONFORMANCE_PASSWORD: password } = process.env;
const patience = 30_000;

async function call(method, path, body, token) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${method} ${path}: ${JSON.stringify(answer.error)}`);
  return answer;
}

const order = () => ({
  amount: "25.00", currency: "USDC", blockchain: "base", order_info: "{}", nonce: Date.now() + Math.floor(Math.random() * 1e6),
});

const complaints = [];
const program = await chromium.launch({ executablePath: browser, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const { access } = await call("POST", "/api/auth/login", { username, password });
  // Whoever ran before on this gateway may have left one.
  const address = "0x" + [...crypto.getRandomValues(new Uint8Array(20))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  await call("POST", "/api/merchant-wallets/", { blockchain: "base", address, label: "Browser", is_active: true }, access);
  const page = await program.newPage({ viewport: { width: 1100, height: 900 } });
  page.setDefaultTimeout(patience);
  page.on("console", (message) => message.type() === "error" && complaints.push(`${page.url()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
  const picture = (name) => page.screenshot({ path: `${pictures}/${name}.png` });

  // Swagger UI
  await page.goto(`${base}/docs`);
  await page.locator(".auth-wrapper .authorize").click();
  await page.locator(".dialog-ux input").fill(access);
  await page.locator(".dialog-ux .modal-btn.authorize").click();
  await page.locator(".dialog-ux .btn-done").click();
  const operation = (method, path) => page.locator(`.opblock-${method}:has([data-path="${path}"])`);
  const answered = async (block, status) => {
    await block.locator(".execute").click();
    const got = await block.locator(".live-responses-table .response .response-col_status").first().innerText();
    if (got.trim() !== status) throw new Error(`Swagger UI was answered ${got}, not ${status}`);
  };
  const me = operation("get", "/api/auth/me/");
  await me.locator(".opblock-summary-control").click();
  await answered(me, "200");
  const create = operation("post", "/api/payment-orders/");
  await create.locator(".opblock-summary-control").click();
  await create.locator("textarea.body-param__text").fill(JSON.stringify(order()));
  await answered(create, "201");
  await picture("swagger-ui");
  const made = JSON.parse(await create.locator(".live-responses-table .highlight-code code").first().innerText()).data;
  console.log(`Swagger UI created ${made.order_id}`);

  // The payment page
  const asked = [];
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  await page.goto(`${base}/order/${made.order_id}`);
  const scene = (name) => page.locator(`#order[data-scene="${name}"]`).waitFor();
  await scene("pending");
  if ((await page.locator("#amount").innerText()) !== made.pay_amount) throw new Error("the page shows another amount");
  if (made.pay_amount !== made.amount && (await page.content()).includes(`>${made.amount}<`)) throw new Error("the page shows the price");
  await page.locator("#claim").waitFor();
  await picture("payment-page");
  await page.locator("#simulate").click();
  await scene("confirmed");
  if (await page.locator("#claim").isVisible()) throw new Error("who has paid is asked whether");
  for (const id of ["sums", "print", "support"]) await page.locator(`#${id}`).waitFor();
  if ((await page.locator("#total").innerText()) !== made.pay_amount) throw new Error("the page shows another sum");
  await picture("payment-page-confirmed");
  // One stream carried all of it.
  const streams = asked.filter((path) => path.endsWith("/events")).length;
  if (streams !== 1 || asked.some((path) => path.endsWith("/status"))) throw new Error(`the page asked for ${asked.join(" ")}`);
  console.log(`its page saw it paid: ${await page.locator("#title").innerText()}`);

  // A stream that is cut: the page states it, and comes back. In a page of its own, whose failed requests are no complaint.
  const cut = await (await program.newContext({ viewport: { width: 390, height: 844 } })).newPage();
  const other = (await call("POST", "/api/payment-orders/", order(), access)).data;
  await cut.route("**/events", (route) => route.abort());
  await cut.goto(`${base}/order/${other.order_id}`);
  await cut.locator("#offline", { hasText: "not up to date" }).waitFor({ timeout: patience });
  await cut.screenshot({ path: `${pictures}/payment-page-cut.png` });
  await cut.unroute("**/events");
  await cut.locator("#offline").waitFor({ state: "hidden", timeout: patience });
  await call("POST", `/api/payment-orders/${other.order_id}/cancel/`, undefined, access);
  await cut.locator('#order[data-scene="canceled"]').waitFor({ timeout: patience });
  await cut.close();
  console.log("a page whose stream was cut said so, came back and saw its order canceled");

  // The GraphQL explorer
  const followed = (await call("POST", "/api/payment-orders/", order(), access)).data.order_id;
  await page.goto(`${base}/graphql`);
  await page.locator("#token").fill(access);
  await page.locator("#run").click();
  const result = (text) => page.locator("#result", { hasText: text }).waitFor();
  await result(made.order_id);
  await page.locator("#document").fill(`subscription { orderUpdated(orderId: "${followed}") { event order { status } } }`);
  await page.locator("#run").click();
  await result("Waiting for events");
  await call("POST", `/api/sandbox/payment-orders/${followed}/pay/`, undefined, access);
  await result("CONFIRMED");
  await picture("graphql-explorer");
  console.log("the explorer followed an order until it was confirmed");
  // What was asked for last may complain yet.
  await pause(100);
} finally {
  await program.close();
}
if (complaints.length > 0) throw new Error(`the browser complains:\n${complaints.join("\n")}`);
