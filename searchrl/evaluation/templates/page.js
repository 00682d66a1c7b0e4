"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const page = 100; // queries shown at once
  const tie = 1e-9;
  const { agent, single, methods, actions, documents } = data;
  const oracle = methods.indexOf("oracle");
  const at = (id) => document.getElementById(id);

  // Text goes in as text nodes only: nothing in a document or query is ever read as markup.
  function element(name, className, ...content) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...content);
    return made;
  }

  const score = (value) => (value === null ? "-" : value.toFixed(4));
  const signed = (value) => (value < 0 ? "-" : "+") + Math.abs(value).toFixed(4);
  const named = (list) => (list === null ? "" : list.map((a) => actions[a]).join(", "));
  const texts = (query) => [query.text, ...query.steps.map((step) => step.text).filter((text) => text)];

  const queries = data.queries.map((query, given) => {
    const change = query.scores[agent] - query.scores[single];
    const outcome = change > tie ? "win" : change < -tie ? "loss" : "tie";
    const left = oracle < 0 ? 0 : query.scores[oracle] - query.scores[agent];
    const words = [query.id, ...texts(query)].join("\n").toLowerCase();
    return { query, given, change, outcome, left, words, episode: named(query.actions[agent]) };
  });

  function documentWords(entry) {
    entry.documentWords ??= [...entry.query.steps.flatMap((step) => step.ranking ?? []), ...entry.query.final]
      .map((number) => documents[number].join(" "))
      .join("\n")
      .toLowerCase();
    return entry.documentWords;
  }

  const orders = {
    loss: (a, b) => a.change - b.change || a.given - b.given,
    gain: (a, b) => b.change - a.change || a.given - b.given,
    left: (a, b) => b.left - a.left || a.given - b.given,
    given: (a, b) => a.given - b.given,
  };

  function ranking(numbers, query, before) {
    const list = element("ol", "ranking");
    for (const number of numbers) {
      const [id, title, beginning] = documents[number];
      const item = element("li", "");
      const grade = query.grades[number];
      if (grade !== undefined) {
        item.className = "relevant";
        item.append(element("span", "grade", `relevant, grade ${grade}`));
      }
      if (before && !before.includes(number)) item.append(element("span", "new", "new"));
      if (title) item.append(element("strong", "", title), " ");
      item.append(beginning, " ", element("span", "soft", id));
      list.append(item);
    }
    return numbers.length ? list : element("p", "soft", "No document.");
  }

  function step(query, index, previous) {
    const { action, text, drift, lexical_share: share, ranking: found, gain } = query.steps[index];
    const box = element("div", "", element("h4", "", `${index + 1}. ${actions[action]}`));
    if (text !== undefined) {
      const same = text === texts({ text: query.text, steps: query.steps.slice(0, index) }).at(-1);
      const moved = drift === undefined ? "" : ` Cosine with the original query: ${(1 - drift).toFixed(3)}.`;
      const lexical = share === undefined ? "" : ` BM25's share of its ranking: ${Math.round(100 * share)}%.`;
      box.append(element("p", "", "Query: ", element("q", "", text)));
      box.append(element("p", "soft", (same ? "Same words, another weighting." : "New words.") + moved + lexical));
    }
    if (found) {
      if (gain !== undefined) {
        box.append(element("p", "soft", `Were the episode to end here: ${data.measure} ${score(gain)}.`));
      }
      box.append(ranking(found, query, previous));
    }
    return box;
  }

  function comparison(query) {
    const body = element("tbody", "");
    methods.forEach((name, i) => {
      const head = element("th", "", name);
      head.scope = "row";
      const cells = [head, element("td", "", score(query.scores[i])), element("td", "words", named(query.actions[i]))];
      body.append(element("tr", i === agent ? "agent" : "", ...cells));
    });
    return element("div", "wide", element("table", "", body));
  }

  function episode(query) {
    const judged = data.judged ? `documents judged relevant: ${query.relevant}` : "no human judgments";
    const about = `Query ${query.id}; difficulty: ${query.bin}; ${judged}.`;
    const box = element("div", "episode", element("p", "soft", about));
    box.append(comparison(query), element("h3", "", `Episode of ${methods[agent]}`));
    box.append(element("p", "", "Original query: ", element("q", "", query.text)));
    let previous = null;
    query.steps.forEach((taken, i) => {
      box.append(step(query, i, previous));
      previous = taken.ranking ?? previous;
    });
    const ended = query.actions[agent].at(-1) === actions.indexOf("terminate");
    box.append(element("h4", "", ended ? `${query.steps.length + 1}. terminate` : "Step limit reached"));
    const last = query.steps.map((taken) => taken.ranking).filter((found) => found).at(-1) ?? [];
    if (last.join() === query.final.join()) {
      box.append(element("p", "soft", "The final top 10 is that of the last search."));
    } else {
      box.append(element("p", "", "Final ranking, all searches taken together:"), ranking(query.final, query, null));
    }
    if (query.missed.length) {
      box.append(element("p", "", "Judged relevant, but not in the final top 10 (at most 5 are listed):"));
      box.append(element("ul", "ranking", ...ranking(query.missed, query, null).childNodes));
    }
    return box;
  }

  function row(entry) {
    const { query, change, outcome } = entry;
    const scores = `${score(query.scores[single])} → ${score(query.scores[agent])}, ${entry.episode}`;
    const summary = element("summary", outcome, element("span", "change", signed(change)));
    summary.append(query.text, element("span", "scores", scores));
    const details = element("details", "", summary);
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(episode(query));
    });
    return details;
  }

  let matching = [];
  function more() {
    const shown = at("list").children.length;
    at("list").append(...matching.slice(shown, shown + page).map(row));
    at("more").hidden = matching.length <= shown + page;
  }

  function refresh() {
    const wanted = at("search").value.toLowerCase().split(/\s+/).filter((word) => word);
    const [outcome, path, inDocuments] = [at("outcome").value, at("episode").value, at("in-documents").checked];
    matching = queries.filter(
      (entry) =>
        (outcome === "all" || entry.outcome === outcome) &&
        (path === "" || entry.episode === path) &&
        wanted.every((word) => entry.words.includes(word) || (inDocuments && documentWords(entry).includes(word))),
    );
    matching.sort(orders[at("order").value]);
    at("count").textContent = `${matching.length} of ${queries.length} queries`;
    at("list").replaceChildren();
    more();
  }

  const paths = new Map();
  for (const { episode: path } of queries) paths.set(path, (paths.get(path) ?? 0) + 1);
  for (const [path, count] of [...paths].sort((a, b) => b[1] - a[1])) {
    const option = element("option", "", `${path} (${count})`);
    option.value = path;
    at("episode").append(option);
  }
  at("controls").hidden = false;
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("controls").addEventListener("input", refresh);
  at("more").addEventListener("click", () => {
    const next = at("list").children.length;
    more();
    at("list").children[next]?.querySelector("summary").focus(); // the button may be gone
  });
  refresh();
})();
