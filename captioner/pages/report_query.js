"use strict";
// What is shown, and in which order: a query in the page's address, so that it can be a link.

const DEFAULTS = {
  find: "", in: "any", by: "CIDEr-D", of: "0", order: "low", from: "", to: "", least: "", most: "",
  object: "", flag: "",
};

function queryOf(address) {
  const given = new URLSearchParams(address.replace(/^#/, ""));
  const query = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) {
    if (given.has(name)) query[name] = given.get(name);
  }
  return query;
}

function addressOf(query) {
  const changed = Object.entries(query).filter(([name, value]) => value !== DEFAULTS[name]);
  return "#" + new URLSearchParams(changed.length ? changed : [["by", query.by]]);
}

// The models of "1" or "1-0".
const modelsOf = (of) => of.split("-").map(Number).filter((at) => at in REPORT.models);

// A number per image, or null.
function columnOf(by, at) {
  const model = REPORT.models[at];
  if (by === "length") return model.lengths;
  if (by === "probability") {
    return model.log_probs ? model.log_probs.map((one) => one[0] ?? null) : REPORT.images.map(() => null);
  }
  return model.scores.find(([name]) => name === by)?.[1] ?? REPORT.images.map(() => null);
}

// What images are sorted by: a model's number, or the difference of two models.
function valuesOf(by, of) {
  const [first, second] = modelsOf(of).map((at) => columnOf(by, at));
  if (second === undefined) return first ?? REPORT.images.map(() => null);
  return first.map((value, i) =>
    value === null || second[i] === null ? null : Math.round((value - second[i]) * 100) / 100);
}

// Texts as words between spaces, so that "man" does not find "woman".
const plain = (text) => ` ${text.toLowerCase().replace(/[^\p{L}\p{M}\p{N}]+/gu, " ").trim()} `;
const UNSPACED = /[\u3040-\u30ff\u3400-\u9fff]/;
const texts = new Map();

function textsOf(kind, compute) {
  if (!texts.has(kind)) texts.set(kind, REPORT.images.map((_, i) => compute(i).map(plain).join("")));
  return texts.get(kind);
}

function wordTest(word) {
  const bare = plain(word).trim();
  if (!bare) return (text, raw) => raw().includes(word.toLowerCase());
  if (UNSPACED.test(bare)) return (text) => text.includes(bare);
  const sought = word.endsWith("*") ? ` ${bare}` : ` ${bare} `;
  return (text) => text.includes(sought);
}

function finder(query, models) {
  const tests = query.find.split(/\s+/).filter(Boolean).map(wordTest);
  if (!tests.length) return () => true;
  const said = models.map((at) => textsOf(`model ${at}`, (i) => [REPORT.models[at].captions[i][0] ?? ""]));
  const people = textsOf("references", (i) => REPORT.images[i][2]);
  const raw = (i) => [REPORT.images[i][0], ...REPORT.images[i][2], ...models.map((at) => REPORT.models[at].captions[i][0] ?? "")].join(" ").toLowerCase();
  const holds = (columns, i) => tests.every((test) => columns.some((column) => test(column[i], () => raw(i))));
  if (query.in === "captions") return (i) => holds(said, i);
  if (query.in === "references") return (i) => holds([people], i);
  if (query.in === "missing") return (i) => holds([people], i) && !holds(said, i);
  const name = query.find.toLowerCase();
  return (i) => REPORT.images[i][0].toLowerCase().includes(name) || holds([...said, people], i);
}

// The places of the images that a query finds, in its order.
function found(query) {
  const models = modelsOf(query.of);
  const all = REPORT.models.map((_, at) => at);
  const values = query.by === "name" ? null : valuesOf(query.by, query.of);
  const matches = finder(query, query.of === DEFAULTS.of && query.in === "any" ? all : models);
  const object = REPORT.objects.indexOf(query.object);
  const flag = 1 << REPORT.flags.indexOf(query.flag);
  const bound = (text, otherwise) => (text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text));
  const [from, to] = [bound(query.from, -Infinity), bound(query.to, Infinity)];
  const [least, most] = [bound(query.least, 0), bound(query.most, Infinity)];
  const bounded = from > -Infinity || to < Infinity;
  const places = REPORT.images.map((_, i) => i).filter((i) =>
    (!query.object || REPORT.images[i][3].includes(object))
    && (!query.flag || models.some((at) => REPORT.models[at].flags[i] & flag))
    && models.some((at) => REPORT.models[at].lengths[i] >= least && REPORT.models[at].lengths[i] <= most)
    && (!values || !bounded || (values[i] !== null && values[i] >= from && values[i] <= to))
    && matches(i));
  const sign = query.order === "high" ? -1 : 1;
  if (values) {
    const rank = (i) => (values[i] === null ? Infinity : sign * values[i]);
    places.sort((a, b) => (rank(a) === rank(b) ? a - b : rank(a) < rank(b) ? -1 : 1));
  } else {
    places.sort((a, b) => sign * (REPORT.images[a][0] < REPORT.images[b][0] ? -1 : REPORT.images[a][0] > REPORT.images[b][0] ? 1 : a - b));
  }
  return { places, values };
}
