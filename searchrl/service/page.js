"use strict";

const $ = (id) => document.getElementById(id);
let agent = false; // whether the service has one

// Texts only ever enter the page as text, never as markup.
function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function call(path, body) {
  const headers = $("token").value ? { Authorization: `Bearer ${$("token").value}` } : {};
  const options = body ? { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) } : { headers };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (response.ok) return answer;
  if (response.status === 401) $("secret").hidden = false;
  const detail = answer.detail;
  throw new Error(typeof detail === "string" ? detail : detail.map((fault) => fault.msg).join("; "));
}

async function loadCorpora() {
  const ready = await call("readyz");
  agent = ready.agent !== null;
  const chosen = $("corpus").value;
  const { corpora } = await call("corpora");
  const options = corpora.map((corpus) => {
    const option = element("option", `${corpus.name} (${corpus.documents})`);
    option.value = corpus.name;
    return option;
  });
  $("corpus").replaceChildren(...options);
  if (corpora.some((corpus) => corpus.name === chosen)) $("corpus").value = chosen;
  if (!corpora.length) throw new Error("No corpus is indexed yet: PUT /corpora/NAME");
}

const number = (value) => value.toFixed(3);

// A list of results; where they are compared with another list, how far each has moved.
function keyItems(keys, before) {
  return keys.map((key, place) => {
    const item = element("li");
    if (key.title) item.append(element("strong", key.title));
    item.append(element("p", key.key.length > 300 ? `${key.key.slice(0, 300)} …` : key.key));
    const facts = element("span", `${key.key_id} · score ${number(key.score)}`, "facts");
    if (key.relevance !== null) facts.append(` · relevance ${number(key.relevance)}`);
    item.append(facts);
    if (before) {
      const old = before.findIndex((other) => other.key_id === key.key_id);
      const moved = old - place;
      if (old < 0) item.append(element("span", " new", "facts up"));
      else if (moved) item.append(element("span", moved > 0 ? ` ▲ ${moved}` : ` ▼ ${-moved}`, `facts ${moved > 0 ? "up" : "down"}`));
    }
    return item;
  });
}

function stepItem(step) {
  const item = element("li");
  item.append(element("h3", step.action));
  for (const [name, probability] of Object.entries(step.probabilities)) {
    const choice = element("span", `${name} ${(100 * probability).toFixed(1)}% `, name === step.action ? "choice chosen" : "choice");
    const meter = element("meter");
    meter.value = probability;
    meter.title = name;
    choice.append(meter);
    item.append(choice);
  }
  item.append(element("p", `query: ${step.query} · words ${number(step.lexical_share)} · cosine with the original ${number(step.similarity)}${step.trust == null ? "" : ` · reward model's share ${number(step.trust)}`}`, "facts"));
  if (step.keys) {
    const details = element("details"), list = element("ol", undefined, "keys");
    list.append(...keyItems(step.keys));
    details.append(element("summary", `${step.keys.length} found`), list);
    item.append(details);
  }
  return item;
}

async function ask() {
  const wanted = { corpus: $("corpus").value, queries: [$("query").value], k: Number($("k").value), return_relevance: $("judge").checked };
  $("status").textContent = "Searching …";
  const started = performance.now();
  const strategies = agent ? ["single_pass", "agent"] : ["single_pass"];
  const answers = await Promise.all(strategies.map((strategy) => call("search", { ...wanted, strategy })));
  const [single, played] = answers.map((answer) => answer.results[0]);
  $("single").replaceChildren(...keyItems(single.keys));
  $("agent").replaceChildren(...(played ? keyItems(played.keys, single.keys) : []));
  $("steps").replaceChildren(...(played ? played.steps.map(stepItem) : []));
  $("answers").hidden = false;
  $("trace").hidden = $("agent-title").parentElement.hidden = !played;
  $("status").textContent = `${((performance.now() - started) / 1000).toFixed(2)} s`;
}

const say = (error) => { $("status").textContent = error.message; };

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ($("corpus").value ? ask() : loadCorpora().then(ask)).catch(say);
});
$("token").addEventListener("change", () => { loadCorpora().then(() => { $("status").textContent = ""; }).catch(say); });
loadCorpora().catch(say);
