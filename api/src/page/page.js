
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const order = byId("order"), given = order.dataset, scenes = JSON.parse(byId("scenes").textContent);
  const expires = Date.parse(given.expires), required = Number(given.required);
  const fresh = 2000, slow = 10000, leaveAfter = 5;
  // The server's clock less ours, in milliseconds: a wrong clock must not show a wrong deadline.
  let skew = 0, failures = 0, poll, leaving, last = null;

  // A text that does not change is not announced again.
  const put = (id, text) => { const e = byId(id); if (e.textContent !== text) e.textContent = text; };
  const show = (id, on) => { const e = byId(id); if (e) e.hidden = !on; };
  const over = () => Date.now() + skew > expires;

  function countdown() {
    const line = byId("left"), left = Math.max(0, Math.floor((expires - Date.now() - skew) / 1000));
    const pad = (n) => String(n).padStart(2, "0");
    const days = Math.floor(left / 86400), hours = Math.floor(left / 3600) % 24, minutes = Math.floor(left / 60) % 60;
    const clock = (days ? days + " d " : "") + (days || hours ? hours + ":" + pad(minutes) : minutes) + ":" + pad(left % 60);
    line.textContent = left ? "Time left: " + clock : "The time to pay is over.";
    line.toggleAttribute("data-over", left === 0);
    if (left === 0 && last) update(last);
  }

  function update(data) {
    last = data;
    const open = data.payable ?? (data.status === "pending" || (data.status === "underpaid" && !over()));
    const name = data.status === "pending" && over() ? "pending_over"
      : data.status === "underpaid" && !open ? "underpaid_closed"
      : data.status === "confirmed" && !data.fulfillable ? "confirmed_unsettled" : data.status;
    const scene = scenes[name];
    if (!scene) return;
    const short = data.status === "underpaid";
    const paying = open && name !== "pending_over";
    order.dataset.scene = name;
    byId("status").dataset.tone = scene.tone;
    put("title", scene.title);
    put("hint", scene.hint);
    put("amount-label", paying ? (short ? "Still to send" : given.exact) : "Order total");
    put("amount", paying ? (short ? data.amount_remaining : data.pay_amount) : data.amount);
    put("received", data.amount_received);
    show("rest", short && paying);
    show("wallet", paying && !short);
    for (const id of ["pay", "left", "price"]) show(id, paying);
    document.querySelector("[data-copy=amount]").hidden = !paying;
    const counting = data.status === "confirming" || data.status === "reorged";
    show("progress", counting);
    if (counting) {
      byId("bar").value = Math.min(data.confirmations, required);
      put("depth", Math.min(data.confirmations, required) + " of " + required + " confirmations");
    }
    if (/^0x[0-9a-f]{64}$/.test(data.transaction_hash || "")) {
      const link = byId("hash");
      put("hash", data.transaction_hash.slice(0, 10) + "…" + data.transaction_hash.slice(-8));
      link.title = data.transaction_hash;
      if (given.explorer) link.href = given.explorer + "/tx/" + data.transaction_hash;
      show("tx", true);
    } else show("tx", false);
    // Who is seen to have paid need not say so.
    show("claim", !["confirming", "confirmed"].includes(data.status));
    show("back", ["confirming", "confirmed", "reorged"].includes(data.status));
    if (data.status === "confirmed") leave(); else stay();
  }

  function leave() {
    if (!given.go || leaving) return;
    let left = leaveAfter;
    const tick = () => {
      if (left === 0) { stay(); location.assign(given.go); return; }
      byId("leaving").hidden = false;
      byId("leaving").textContent = "Taking you back to the shop in " + left-- + " s.";
    };
    leaving = setInterval(tick, 1000);
    tick();
  }

  function stay() {
    clearInterval(leaving);
    leaving = undefined;
    byId("leaving").hidden = true;
  }

  async function ask() {
    clearTimeout(poll);
    let wait = document.hidden ? slow : fresh;
    try {
      const answer = await fetch(location.pathname.replace(/\/+$/, "") + "/status",
        { cache: "no-store", credentials: "omit", headers: { Accept: "application/json" }, signal: AbortSignal.timeout(8000) });
      if (answer.status === 429) wait = Math.min(60, Number(answer.headers.get("Retry-After")) || 10) * 1000;
      // Requests are counted by the hour for all pages behind one address: share what is left of it.
      const left = Number(answer.headers.get("X-RateLimit-Remaining")), end = Number(answer.headers.get("X-RateLimit-Reset"));
      if (left && left < 300 && end) wait = Math.max(wait, Math.min(60000, (end * 1000 - Date.now() - skew) / left));
      if (!answer.ok) throw new Error(answer.status);
      const body = await answer.json();
      if (body.timestamp) skew = Date.parse(body.timestamp) - Date.now() || 0;
      failures = 0;
      update(body.data);
      // Late money may still change these, but seldom.
      if (["expired", "canceled", "failed"].includes(body.data.status)) wait = slow;
    } catch {
      failures += 1;
      wait = Math.max(wait, Math.min(fresh * failures, slow));
    }
    show("offline", failures > 2);
    clearTimeout(poll);
    poll = setTimeout(ask, wait);
  }

  async function copy(button) {
    const source = byId(button.dataset.copy), text = source.textContent;
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without HTTPS there is no clipboard interface; the old command still works.
      getSelection().selectAllChildren(source);
      done = document.execCommand("copy");
      if (done) getSelection().removeAllRanges();
    }
    button.dataset.text ??= button.textContent;
    button.textContent = done ? "Copied ✓" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = button.dataset.text; }, 2000);
  }

  // A hint: the answer says what is seen of the transaction, and nothing is credited for it.
  async function claim(event) {
    event.preventDefault();
    put("claim-answer", "Looking…");
    try {
      const answer = await fetch(location.pathname.replace(/\/+$/, "") + "/claim", {
        method: "POST", cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(8000),
        headers: { Accept: "application/json", "Content-Type": "application/json" },
        body: JSON.stringify({ transaction_hash: byId("claim-hash").value.trim() }),
      });
      const body = await answer.json();
      put("claim-answer", answer.ok ? body.message : body.error.details?.transaction_hash?.[0] ?? body.error.message);
      ask();
    } catch {
      put("claim-answer", "No connection to the shop's payment server. Please try again.");
    }
  }

  // Only the sandbox has the button; a shop that goes live has no such page.
  async function simulate(button) {
    button.disabled = true;
    put("simulate-answer", "Sending…");
    try {
      const answer = await fetch(location.pathname.replace(/\/+$/, "") + "/simulate",
        { method: "POST", cache: "no-store", credentials: "omit", headers: { Accept: "application/json" }, signal: AbortSignal.timeout(8000) });
      const body = await answer.json();
      put("simulate-answer", answer.ok ? "The payment is sent. The next block holds it." : body.error.message);
      // Once is enough: a second one would pay twice.
      button.disabled = answer.ok;
      ask();
    } catch {
      put("simulate-answer", "No connection to the shop's payment server. Please try again.");
      button.disabled = false;
    }
  }

  byId("simulate")?.addEventListener("click", (event) => simulate(event.currentTarget));
  byId("claim-form").addEventListener("submit", claim);
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  countdown();
  setInterval(countdown, 1000);
  if (given.scene.startsWith("confirmed")) leave();
  ask();
})();
