// The playground's script. Texts and answers reach the page through textContent only; the key stays in its input.

const RRF_K = 60; // what the retrievers of this package use
const TERMS_SHOWN = 10;
const DECIMALS = { sparse: 2, dense: 2, fused: 4 };

const at = (id) => document.getElementById(id);

// --- the two APIs: what a request holds and where an answer has its vectors ------------------------------------------

const WIRES = {
  chroma: {
    headers: (key, model) => ({
      "x-chroma-token": key,
      ...(model && { "x-chroma-embedding-model": model }),
    }),
    path: { sparse: "embed_sparse", dense: "embed" },
    body: (kind, model, role, texts) => ({
      texts,
      task: "",
      target: role === "query" ? "query" : "documents",
      ...(kind === "sparse" && { fetch_labels: true }),
    }),
    sparse: (answer) =>
      answer.embeddings.map(({ indices, values, labels }) => terms(indices, values, labels)),
    dense: (answer) => answer.embeddings,
  },
  pinecone: {
    headers: (key) => ({ "api-key": key }),
    path: { sparse: "embed", dense: "embed" },
    body: (kind, model, role, texts) => ({
      model,
      inputs: texts.map((text) => ({ text })),
      parameters: {
        input_type: role === "query" ? "query" : "passage",
        ...(kind === "sparse" && { return_tokens: true }),
      },
    }),
    sparse: (answer) =>
      answer.data.map((item) => terms(item.sparse_indices, item.sparse_values, item.sparse_tokens)),
    dense: (answer) => answer.data.map((item) => item.values),
  },
};

function terms(indices, values, tokens) {
  return indices.map((id, place) => ({
    id,
    weight: values[place],
    token: tokens?.[place] ?? String(id),
  }));
}

async function ask(path, headers, body) {
  // A header holds bytes: a key outside ASCII travels as UTF-8, as other clients send it.
  const encoded = Object.entries(headers).map(([name, value]) => [
    name,
    String.fromCharCode(...new TextEncoder().encode(value)),
  ]);
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers: [...encoded, ...(body ? [["content-type", "application/json"]] : [])],
      body: body && JSON.stringify(body),
      cache: "no-store",
    });
  } catch {
    throw new Error("The server did not answer. Is it still running?");
  }
  const content = await response.text();
  if (!response.ok) throw new Error(`${response.status}: ${wordsOf(content)}`);
  return { answer: JSON.parse(content), engine: response.headers.get("x-sparse-embed-engine") };
}

function wordsOf(content) {
  try {
    const { error } = JSON.parse(content);
    return error.message ?? error;
  } catch {
    return content.slice(0, 300) || "no further words";
  }
}

async function embed(wire, key, kind, model, role, texts) {
  const headers = WIRES[wire].headers(key, model);
  const body = WIRES[wire].body(kind, model, role, texts);
  const { answer, engine } = await ask(WIRES[wire].path[kind], headers, body);
  return { vectors: WIRES[wire][kind](answer), engine };
}

// --- models ----------------------------------------------------------------------------------------------------------

let models; // of the chosen API: a promise of { sparse: [name], dense: [name] }

function loadModels() {
  const { wire, key } = settings();
  const asked = ask("models", WIRES[wire].headers(key)).then(({ answer }) => {
    if (models !== asked) return models; // another API or key was chosen meanwhile
    const named = { sparse: [], dense: [] };
    for (const { model, vector_type } of answer.models) named[vector_type]?.push(model);
    for (const [kind, names] of Object.entries(named)) {
      const chosen = at(kind).value;
      // The second of a pair is not chosen by itself: see queryModel.
      const choices = names.filter((name) => !(name.endsWith("-query") && names.includes(docOf(name))));
      at(kind).replaceChildren(...choices.map((name) => element("option", { value: name }, name)));
      if (choices.includes(chosen)) at(kind).value = chosen;
      at(kind).disabled = !choices.length;
    }
    return named;
  });
  models = asked;
  return asked;
}

const docOf = (name) => name.replace(/-query$/, "-doc");

// Documents and queries of an asymmetric pair go to two models of one vector space.
function queryModel(model, names) {
  const other = model.replace(/-doc$/, "-query");
  return names.includes(other) ? other : model;
}

// --- ranking ---------------------------------------------------------------------------------------------------------

function dot(query, document) {
  const weights = new Map(document.map(({ id, weight }) => [id, weight]));
  return query.reduce((sum, { id, weight }) => sum + weight * (weights.get(id) ?? 0), 0);
}

function cosine(one, other) {
  const product = (a, b) => a.reduce((sum, value, place) => sum + value * b[place], 0);
  return product(one, other) / Math.sqrt(product(one, one) * product(other, other)) || 0;
}

// Place of each document, 1 first; undefined for one without a score: a store does not find it.
function ranks(scores) {
  const found = [...scores.keys()].filter((number) => scores[number] !== undefined);
  found.sort((one, other) => scores[other] - scores[one]);
  const places = new Array(scores.length);
  found.forEach((number, place) => (places[number] = place + 1));
  return places;
}

// The documents' numbers, those without a place last.
function inOrder(places) {
  return [...places.keys()].sort((one, other) => (places[one] ?? places.length + one + 1) - (places[other] ?? places.length + other + 1));
}

function rank(count, sparse, dense) {
  const scores = {
    sparse: sparse ? sparse.document.map((vector) => dot(sparse.query[0], vector) || undefined) : new Array(count),
    dense: dense ? dense.document.map((vector) => cosine(dense.query[0], vector)) : new Array(count),
  };
  const places = { sparse: ranks([...scores.sparse]), dense: ranks([...scores.dense]) };
  scores.fused = Array.from({ length: count }, (_, number) =>
    [places.sparse[number], places.dense[number]]
      .filter(Boolean)
      .reduce((sum, place) => sum + 1 / (RRF_K + place), 0) || undefined,
  );
  places.fused = ranks(scores.fused);
  return { scores, places };
}

// --- what is shown ---------------------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children); // strings become text, never markup
  return made;
}

const format = (value, decimals = 2) => value.toFixed(decimals).replace("-", "\u2212");

function bar(share) {
  const made = element("i", { class: "bar", "aria-hidden": "true" });
  made.style.setProperty("--share", Math.max(0, share).toFixed(4));
  return made;
}

function showRanking({ texts, scores, places }, by) {
  for (const button of document.querySelectorAll("[data-ranking]")) {
    const chosen = button.dataset.ranking === by;
    if (chosen) button.closest("th").setAttribute("aria-sort", "ascending");
    else button.closest("th").removeAttribute("aria-sort");
  }
  at("ranked").replaceChildren(
    ...inOrder(places[by]).map((number) =>
      element(
        "tr",
        {},
        element(
          "th",
          { scope: "row" },
          element("span", { class: "number" }, `${number + 1}`),
          element("span", { class: "text" }, texts[number]),
        ),
        ...Object.entries(DECIMALS).map(([ranking, decimals]) =>
          scoreCell(scores[ranking], places[ranking][number], number, decimals),
        ),
      ),
    ),
  );
}

function scoreCell(scores, place, number, decimals) {
  if (!place) return element("td", { class: "score none" }, "–", element("span", { class: "hidden" }, "not found"));
  const best = Math.max(...scores.filter((score) => score !== undefined));
  return element(
    "td",
    { class: place === 1 ? "score first" : "score" },
    element("b", {}, `${place}`),
    " ", // between what is read aloud
    element("span", {}, format(scores[number], decimals)),
    bar(scores[number] / best),
  );
}

function showVectors({ texts, query, sparse, places }) {
  const queryWeights = new Map(sparse.query[0].map(({ id, weight }) => [id, weight]));
  const inDocuments = new Set(sparse.document.flat().map(({ id }) => id));
  at("cards").replaceChildren(
    card("Query", query, sparse.query[0], (id) => inDocuments.has(id)),
    ...inOrder(places.fused).map((number) => {
      const vector = sparse.document[number];
      const made = card(`Document ${number + 1}`, texts[number], vector, (id) => queryWeights.has(id));
      const products = vector
        .filter(({ id }) => queryWeights.has(id))
        .map(({ id, token, weight }) => ({ token, product: weight * queryWeights.get(id) }))
        .sort((one, other) => other.product - one.product)
        .map(({ token, product }) => `${token} ${format(product)}`);
      const sum = `${format(dot(sparse.query[0], vector))} = ${products.join(" + ")}`;
      made.querySelector(".text").after(element("p", { class: "sum" }, products.length ? sum : "no term of the query"));
      return made;
    }),
  );
}

function card(title, text, vector, matches) {
  const made = element("article", {}, element("h3", {}, title), element("p", { class: "text" }, text));
  const sorted = vector.toSorted(
    (one, other) =>
      other.weight - one.weight || matches(other.id) - matches(one.id) || one.token.localeCompare(other.token),
  );
  const rows = sorted.map(({ id, token, weight }) =>
    element(
      "li",
      { class: matches(id) ? "match" : "" },
      element("span", { class: "token", title: token }, token),
      bar(weight / sorted[0].weight),
      element("span", { class: "weight" }, format(weight)),
      ...(matches(id) ? [element("span", { class: "hidden" }, ", matches")] : []),
    ),
  );
  if (!rows.length) made.append(element("p", { class: "sum" }, "An empty vector: no word of it counts."));
  else made.append(element("ul", { class: "terms" }, ...rows.slice(0, TERMS_SHOWN)));
  if (rows.length > TERMS_SHOWN) {
    const rest = element("ul", { class: "terms" }, ...rows.slice(TERMS_SHOWN));
    made.append(element("details", {}, element("summary", {}, `${rows.length - TERMS_SHOWN} more terms`), rest));
  }
  return made;
}

// --- the form --------------------------------------------------------------------------------------------------------

function settings() {
  return { wire: at("form").elements.wire.value, key: at("key").value };
}

function showError(error) {
  at("error").textContent = error.message;
  at("status").textContent = "";
  at("results").removeAttribute("aria-busy");
}

async function embedBoth(kind, texts, query) {
  const { wire, key } = settings();
  const model = at(kind).value;
  if (!model) return null;
  const names = (await models)[kind];
  const [documents, queries] = await Promise.all([
    embed(wire, key, kind, model, "document", texts),
    embed(wire, key, kind, queryModel(model, names), "query", [query]),
  ]);
  return { document: documents.vectors, query: queries.vectors, model, engine: documents.engine };
}

let shown; // what the tables show, for sorting them anew
let latest = 0; // of several runs the last one is shown

async function run(number) {
  const texts = at("documents").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const query = at("query").value.trim();
  at("error").textContent = "";
  at("status").textContent = "Embedding …";
  at("results").setAttribute("aria-busy", "true");
  if (!texts.length || !query) throw new Error("Give at least one document and a query.");
  await models.catch(loadModels);
  const [sparse, dense] = await Promise.all([embedBoth("sparse", texts, query), embedBoth("dense", texts, query)]);
  if (number !== latest) return;
  shown = { texts, query, sparse, dense, ...rank(texts.length, sparse, dense) };
  at("results").removeAttribute("aria-busy");
  at("empty").hidden = true;
  at("ranking").hidden = false;
  at("vectors").hidden = !sparse;
  showRanking(shown, "fused");
  if (sparse) showVectors(shown);
  const engines = [sparse, dense]
    .filter(Boolean)
    .map(({ model, engine }) => (model === engine ? model : `${model} (answered by ${engine})`));
  at("status").textContent = `${texts.length} ${texts.length === 1 ? "document" : "documents"} ranked by ${engines.join(" and ")}.`;
  if (at("ranking").getBoundingClientRect().top > window.innerHeight / 2) at("ranking").scrollIntoView();
}

const reload = () => {
  at("error").textContent = "";
  loadModels().catch(showError);
};

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const number = ++latest;
  run(number).catch((error) => number === latest && showError(error));
});
at("key").addEventListener("change", reload);
for (const choice of at("form").elements.wire) choice.addEventListener("change", reload);
for (const button of document.querySelectorAll("[data-ranking]"))
  button.addEventListener("click", () => showRanking(shown, button.dataset.ranking));
reload();
