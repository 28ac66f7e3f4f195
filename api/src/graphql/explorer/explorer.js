"use strict";
const element = (id) => document.getElementById(id);
let running = null;

function show(text, more) {
  element("result").textContent = more ? element("result").textContent + text : text;
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

async function follow(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  show("Waiting for events …\n");
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return show("\nThe stream ended.\n", true);
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) show(pretty(data.slice(6)) + "\n", true);
    }
  }
}

async function run() {
  if (running) running.abort();
  running = new AbortController();
  const query = element("document").value;
  const token = element("token").value.trim();
  const streams = /^\s*subscription\b/m.test(query.replace(/#.*$/gm, ""));
  const headers = { "Content-Type": "application/json" };
  headers.Accept = streams ? "text/event-stream" : "application/graphql-response+json, application/json";
  if (token) headers.Authorization = "Bearer " + token;
  show("…");
  try {
    const variables = JSON.parse(element("variables").value || "{}");
    const body = JSON.stringify({ query, variables });
    const response = await fetch("/graphql", { method: "POST", headers, body, signal: running.signal });
    const isStream = (response.headers.get("Content-Type") || "").startsWith("text/event-stream");
    if (isStream) await follow(response); else show(pretty(await response.text()));
  } catch (error) {
    show(error.name === "AbortError" ? "\nStopped.\n" : String(error), error.name === "AbortError");
  }
}

element("run").addEventListener("click", run);
element("stop").addEventListener("click", () => running && running.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
});
