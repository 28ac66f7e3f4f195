
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const order = byId("order"), given = order.dataset, scenes = JSON.parse(byId("scenes").textContent);
  const path = location.pathname.replace(/\/+$/, "");
  const expires = Date.parse(given.expires), required = Number(given.required);
  const leaveAfter = 5;
  // The server sends a line at least every 15 s; without one for this long the connection is dead. In milliseconds.
  const silence = 40000;
  const firstWait = 1000, longestWait = 30000, tellAfter = 2000;
  const finished = ["confirmed", "confirmed_unsettled", "underpaid_closed", "expired", "canceled", "failed"];
  // The server's clock less ours, in milliseconds: a wrong clock must not show a wrong deadline.
  let skew = 0, leaving, last = null;

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
    const ended = finished.includes(name);
    const paid = /[1-9]/.test(data.amount_received);
    order.dataset.scene = name;
    byId("status").dataset.tone = scene.tone;
    put("title", scene.title);
    put("hint", scene.hint);
    if (paying) {
      put("amount-label", short ? "Still to send" : given.exact);
      put("amount", short ? data.amount_remaining : data.pay_amount);
    }
    put("received", data.amount_received);
    for (const id of ["ask", "pay"]) show(id, paying);
    show("rest", short);
    show("wallet", !short);
    put("due", data.pay_amount);
    put("total", data.amount_received);
    put("missing", data.amount_remaining);
    put("excess", data.amount_overpaid || "");
    show("sums", !paying);
    show("missing-line", short);
    show("excess-line", Boolean(data.amount_overpaid));
    show("support", ended);
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
    put("paid-at", (data.paid_at || "").replace("T", " ").replace("Z", " UTC"));
    show("time", Boolean(data.paid_at));
    put("receipt-total", data.amount_received);
    put("details-title", ended && paid ? "Receipt" : "Details");
    for (const line of document.querySelectorAll(".receipt")) line.hidden = !(ended && paid);
    // A payment that is seen needs no notice.
    show("claim", !["confirming", "confirmed"].includes(data.status));
    show("back", ended || counting);
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

  // The order's event stream. It is read with `fetch`, because an `EventSource` gives up for good at the first 429 and
  // hides the time to wait.
  const stream = { id: "", fresh: true, held: false, failures: 0, cut: null, heard: 0, next: null, timer: undefined, reason: "" };
  const lost = "The connection to the payment server is lost.";

  async function follow() {
    clearTimeout(stream.timer);
    stream.next = null;
    const cut = stream.cut = new AbortController();
    const watch = setInterval(() => { if (Date.now() - stream.heard > silence) cut.abort(); }, 5000);
    const begun = Date.now();
    let wait = 0;
    stream.heard = begun;
    try {
      const headers = { Accept: "text/event-stream" };
      if (stream.id) headers["Last-Event-ID"] = stream.id;
      const answer = await fetch(path + "/events", { cache: "no-store", credentials: "omit", headers, signal: cut.signal });
      skew = Date.parse(answer.headers.get("Date")) - Date.now() || skew;
      if (answer.status === 204) {
        // Nothing can happen to this order any more.
        stream.fresh = true;
        show("offline", false);
        clearInterval(watch);
        return;
      }
      if (!answer.ok) {
        wait = Number(answer.headers.get("Retry-After")) * 1000 || 0;
        stream.reason = answer.status === 429 ? "Too many requests came from your network." : "The payment server is not available.";
        throw new Error(answer.status);
      }
      await read(answer.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch {
      // Told below, as for a stream that has ended.
    }
    clearInterval(watch);
    if (stream.cut !== cut) return;
    stream.fresh = false;
    stream.held = wait > 0;
    stream.reason ||= lost;
    // A connection that has lasted was a good one; one that ends at once is as bad as none.
    stream.failures = Date.now() - begun > 15000 ? 1 : stream.failures + 1;
    const backOff = Math.min(firstWait * 2 ** (stream.failures - 1), longestWait);
    // Spread, so that the pages behind one address do not come back together.
    again(Math.max(wait, backOff) * (1 + Math.random() / 4));
  }

  async function read(reader) {
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      stream.heard = Date.now();
      text += value;
      let end;
      while ((end = text.indexOf("\n\n")) >= 0) {
        message(text.slice(0, end));
        text = text.slice(end + 2);
      }
    }
  }

  function message(lines) {
    const data = [];
    for (const line of lines.split("\n")) {
      if (line.startsWith("id:")) stream.id = line.slice(3).trim();
      if (line.startsWith("data:")) data.push(line.slice(5));
    }
    if (data.length === 0) return;
    stream.fresh = true;
    stream.reason = "";
    show("offline", false);
    update(JSON.parse(data.join("\n")));
  }

  function again(wait) {
    clearTimeout(stream.timer);
    stream.next = Date.now() + wait;
    stream.timer = setTimeout(follow, wait);
    setTimeout(stale, tellAfter);
  }

  // Tells that the page is not up to date, and when it tries again.
  function stale() {
    if (stream.fresh) return;
    const left = stream.next === null ? 0 : Math.max(0, Math.ceil((stream.next - Date.now()) / 1000));
    const when = left === 0 ? "Trying again now." : left < 90 ? "Trying again in " + left + " s." : "Trying again in " + Math.ceil(left / 60) + " minutes.";
    put("offline-why", "This page is not up to date. " + stream.reason);
    put("offline-when", when);
    show("offline", true);
  }

  // A phone cuts connections of pages in the background and resumes them without a word.
  function visible() {
    if (document.hidden) return;
    if (stream.next !== null) { if (!stream.held) follow(); }
    else if (stream.next === null && Date.now() - stream.heard > silence / 2) stream.cut?.abort();
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

  const words = (body) => body.error.details?.transaction_hash?.[0] ?? body.error.message;
  const unsent = "No connection to the shop's payment server. Please try again.";

  async function send(action, fields) {
    const answer = await fetch(path + action, {
      method: "POST", cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(8000),
      headers: { Accept: "application/json", "Content-Type": "application/json" }, body: JSON.stringify(fields),
    });
    return [answer.ok, await answer.json()];
  }

  // A hint: the answer says what is seen of the transaction, and nothing is credited for it.
  async function claim(event) {
    event.preventDefault();
    put("claim-answer", "Looking…");
    try {
      const [ok, body] = await send("/claim", { transaction_hash: byId("claim-hash").value.trim() });
      put("claim-answer", ok ? body.message : words(body));
    } catch {
      put("claim-answer", unsent);
    }
  }

  // Only the sandbox has the button; a shop that goes live has no such page.
  async function simulate(button) {
    button.disabled = true;
    put("simulate-answer", "Sending…");
    try {
      const [ok, body] = await send("/simulate", {});
      put("simulate-answer", ok ? "The payment is sent. The next block holds it." : body.error.message);
      // Once is enough: a second one would pay twice.
      button.disabled = ok;
    } catch {
      put("simulate-answer", unsent);
      button.disabled = false;
    }
  }

  byId("simulate")?.addEventListener("click", (event) => simulate(event.currentTarget));
  byId("print").addEventListener("click", () => { stay(); print(); });
  byId("claim-form").addEventListener("submit", claim);
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
  document.addEventListener("visibilitychange", visible);
  addEventListener("online", visible);
  countdown();
  setInterval(() => { countdown(); if (!byId("offline").hidden) stale(); }, 1000);
  show("claim", !["confirming", "confirmed", "confirmed_unsettled"].includes(given.scene));
  if (given.scene.startsWith("confirmed")) leave();
  follow();
})();
