"use strict";
// Sends photos one by one to /caption, and shows captions, word probabilities and attention.

const about = JSON.parse(document.body.dataset.about);
const $ = (id) => document.getElementById(id);
const form = $("settings");
const models = $("card").content.querySelectorAll(".answer").length;
const cards = new Set();
const waiting = []; // functions that send one request each
let working = false;
let leftOut = ""; // of the photos last added
let pasted = 0;
let shot = 0;

// ---- photos come in ----

function add(files) {
  const room = Math.max(about.mostPhotos - cards.size, 0);
  const taken = files.slice(0, room);
  const over = files.length - taken.length;
  leftOut = over ? ` This page holds ${about.mostPhotos} photos; ${over} ${over > 1 ? "were" : "was"} left out.` : "";
  say(taken.length ? `Captioning ${taken.length > 1 ? taken.length + " photos" : taken[0].name}.` : "");
  taken.forEach(cardOf);
}

function cardOf(file) {
  const article = $("card").content.cloneNode(true).querySelector("article");
  const card = { file, article, canvas: article.querySelector("canvas"), url: URL.createObjectURL(file) };
  article.querySelector("h2").textContent = file.name;
  article.setAttribute("aria-label", file.name);
  const image = article.querySelector("img");
  image.addEventListener("error", () => { image.hidden = true; }); // a format that browsers lack
  image.src = card.url;
  image.alt = `The photo ${file.name}`;
  card.answers = [...article.querySelectorAll(".answer")].map((element, model) => ({ card, element, model }));
  const remove = article.querySelector(".remove");
  remove.setAttribute("aria-label", `Remove ${file.name}`);
  remove.addEventListener("click", () => removeCard(card));
  cards.add(card);
  $("photos").prepend(article);
  $("again").disabled = false;
  if (file.size > about.maxBytes) {
    card.answers.forEach((answer) => fail(answer, `the photo is larger than the ${about.maxBytes >> 20} MiB allowed`));
  } else {
    card.answers.forEach(ask);
  }
}

function removeCard(card) {
  const next = card.article.nextElementSibling || card.article.previousElementSibling;
  card.controller?.abort();
  cards.delete(card);
  card.article.remove();
  URL.revokeObjectURL(card.url);
  $("again").disabled = cards.size === 0;
  (next?.querySelector(".remove") || $("choose")).focus();
  say(`Removed ${card.file.name}.`);
}

// ---- requests ----

function query(answer) {
  const given = new URLSearchParams({ model: answer.model, name: answer.card.file.name });
  const mode = form.elements.mode.value;
  for (const field of form.querySelectorAll("[name]:not([name=mode])")) {
    if ((field.closest("[data-mode]")?.dataset.mode || mode) !== mode) continue;
    const values = field.type === "text" ? field.value.split(",") : [field.value];
    for (const value of values) if (value.trim()) given.append(field.name, value.trim());
  }
  return given;
}

function ask(answer) {
  answer.asked = query(answer); // the settings of now
  answer.element.classList.add("waiting");
  answer.element.classList.toggle("stale", Boolean(answer.record));
  note(answer, "waiting");
  if (!answer.queued) waiting.push(answer);
  answer.queued = true;
  work();
}

async function work() {
  if (working) return;
  working = true;
  let done = 0;
  while (waiting.length) {
    const answer = waiting.shift();
    answer.queued = false;
    if (!cards.has(answer.card)) continue;
    await send(answer);
    done += 1;
    if (waiting.length) say(`${waiting.length} of ${waiting.length + done} captions to come.`);
  }
  working = false;
  const last = [...cards].at(-1)?.answers[0].record;
  if (done === 1 && last?.caption) say(`Caption: ${last.caption}`);
  else if (done) say(`Done: ${done} ${done > 1 ? "answers" : "answer"}${document.querySelector(".answer.error") ? ", not all of them captions" : ""}.`);
}

async function send(answer) {
  const { card, asked } = answer;
  note(answer, "captioning …");
  card.controller = new AbortController();
  try {
    const response = await fetch(`caption?${asked}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: card.file,
      signal: card.controller.signal,
    });
    const found = await response.json();
    if (answer.queued) return; // asked again meanwhile
    if (!response.ok) fail(answer, found.error);
    else if (found.record.error !== undefined) fail(answer, found.record.error, found.command);
    else show(answer, found);
  } catch (error) {
    if (error.name !== "AbortError") fail(answer, "no answer from the server; does `captioner demo` still run?");
  }
}

// ---- answers ----

function note(answer, text) {
  answer.element.querySelector(".note").textContent = text;
}

function fail(answer, reason, command) {
  clear(answer);
  answer.element.classList.add("error");
  note(answer, reason);
  command_of(answer, command);
}

function clear(answer) {
  answer.record = null;
  answer.element.classList.remove("waiting", "stale", "error");
  answer.element.querySelector(".words").replaceChildren();
  answer.element.querySelector(".others").replaceChildren();
  if (answer.card.lit === answer) darken(answer.card);
}

function command_of(answer, command) {
  const element = answer.element.querySelector(".command");
  element.hidden = !command;
  element.querySelector("code").textContent = command || "";
}

function show(answer, found) {
  clear(answer);
  Object.assign(answer, found, { lights: [] });
  const image = answer.card.article.querySelector("img");
  image.hidden = false;
  image.width = found.size[0];
  image.height = found.size[1];
  image.src = found.preview; // upright and opaque: what the network saw
  command_of(answer, found.command);
  note(answer, `${found.seconds.toFixed(1)} s`);
  const list = answer.element.querySelector(".others");
  const { candidates } = found.record;
  if (candidates.length > 1) candidates.forEach((one, i) => list.append(row(answer, one, i)));
  choose(answer, 0);
}

function row(answer, candidate, i) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const text = document.createElement("span");
  text.dir = "auto";
  text.textContent = candidate.caption || "(empty)";
  const number = document.createElement("span");
  number.className = "number";
  const score = candidate.score !== candidate.log_prob ? `, score ${shortened(candidate.score)}` : "";
  number.textContent = `log p ${shortened(candidate.log_prob)}${score}`;
  button.append(text, number);
  button.addEventListener("click", () => choose(answer, i));
  item.append(button);
  return item;
}

const shortened = (value) => (value === null ? "−∞" : value.toFixed(2).replace("-", "−"));
const percent = (logarithm) => {
  const share = 100 * Math.exp(logarithm ?? -Infinity);
  return share >= 99.95 ? "100%" : share >= 9.95 ? `${share.toFixed(0)}%` : share >= 0.1 ? `${share.toFixed(1)}%` : "<0.1%";
};

// Shows the words of one of the captions.
function choose(answer, place) {
  answer.place = place;
  answer.pinned = null;
  if (answer.card.lit === answer) darken(answer.card);
  answer.element.querySelectorAll(".others button").forEach((button, i) => button.setAttribute("aria-pressed", i === place));
  const { words, word_log_probs } = answer.record.candidates[place];
  const buttons = words.map((word, i) => {
    const button = document.createElement("button");
    const end = word === about.end && i === words.length - 1;
    button.type = "button";
    button.className = end ? "word end" : "word";
    button.tabIndex = i ? -1 : 0;
    const text = document.createElement("span");
    text.dir = "auto";
    text.textContent = end ? "end" : word;
    const bar = document.createElement("i");
    bar.style.setProperty("--p", `${100 * Math.exp(word_log_probs[i] ?? -Infinity)}%`);
    const number = document.createElement("small");
    number.textContent = percent(word_log_probs[i]);
    button.append(text, bar, number);
    button.setAttribute("aria-pressed", false);
    button.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && light(answer, i));
    button.addEventListener("focus", () => light(answer, i));
    button.addEventListener("blur", () => rest(answer));
    button.addEventListener("click", () => pin(answer, i));
    button.addEventListener("keydown", (event) => step(event, answer, i));
    return button;
  });
  answer.element.querySelector(".words").replaceChildren(...buttons);
}

function step(event, answer, i) {
  const buttons = [...answer.element.querySelectorAll(".word")];
  const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (event.key === "Escape") pin(answer, answer.pinned);
  if (to === undefined || !buttons[to]) return;
  event.preventDefault();
  buttons.forEach((button, k) => { button.tabIndex = k === to ? 0 : -1; });
  buttons[to].focus();
}

// ---- attention ----

function light(answer, i) {
  const { card, place } = answer;
  const candidate = answer.record.candidates[place];
  const { attention } = candidate;
  card.lit = answer;
  const caption = card.article.querySelector("figcaption");
  const word = candidate.words[i] === about.end ? "end" : `“${candidate.words[i]}”`;
  let text = `${word}: probability ${percent(candidate.word_log_probs[i])}`;
  if (!attention || !answer.box) {
    clearLight(card.canvas);
    caption.textContent = `${text}; this network has no attention`;
    return;
  }
  answer.lights[place] ||= mapsOf(attention, answer.size, answer.box);
  drawLight(card.canvas, answer.lights[place], i);
  if (attention.sentinel) {
    const sentence = attention.sentinel[i] ?? 0;
    text += `; it looks at the photo with ${percent(Math.log(1 - sentence))} of its attention, at the sentence with ${percent(Math.log(sentence))}`;
  }
  caption.textContent = text;
}

function rest(answer) {
  if (answer.card.lit !== answer || !answer.record) return;
  if (answer.pinned === null) darken(answer.card);
  else light(answer, answer.pinned);
}

function darken(card) {
  card.lit = null;
  clearLight(card.canvas);
  card.article.querySelector("figcaption").textContent = "";
}

function pin(answer, i) {
  answer.pinned = answer.pinned === i ? null : i;
  answer.element.querySelectorAll(".word").forEach((button, k) => button.setAttribute("aria-pressed", k === answer.pinned));
  if (answer.pinned === null) darken(answer.card);
  else light(answer, i);
}

document.addEventListener("pointerout", (event) => {
  const group = event.target.closest?.(".words");
  if (!group || group.contains(event.relatedTarget)) return;
  for (const card of cards) for (const answer of card.answers) if (answer.element.contains(group)) rest(answer);
});

// ---- settings ----

function modes() {
  const mode = form.elements.mode.value;
  form.querySelectorAll("[data-mode]").forEach((label) => { label.hidden = label.dataset.mode !== mode; });
}

form.addEventListener("input", modes);
form.addEventListener("reset", () => setTimeout(modes));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!form.reportValidity()) return;
  for (const card of [...cards].reverse()) if (card.file.size <= about.maxBytes) card.answers.forEach(ask);
});

function say(text, wrong = false) {
  $("status").textContent = text + leftOut;
  $("status").classList.toggle("error", wrong || leftOut !== "");
}

// ---- choose, drop, paste, camera ----

$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => {
  add([...$("files").files]);
  $("files").value = ""; // the same photo may be chosen again
});

const dragged = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    if (!dragged(event)) return;
    event.preventDefault();
    $("over").hidden = false;
  });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("over").hidden = true; });
document.addEventListener("drop", (event) => {
  $("over").hidden = true;
  if (!dragged(event)) return;
  event.preventDefault();
  add([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files || [])];
  if (!files.length) return;
  event.preventDefault();
  // Copied pictures are all called image.png.
  add(files.map((file) => (file.name === "image.png" ? new File([file], `pasted-${++pasted}.png`, { type: file.type }) : file)));
});

$("open-camera").hidden = !navigator.mediaDevices?.getUserMedia; // absent on pages that are not secure
$("open-camera").addEventListener("click", async () => {
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
    $("camera").showModal();
  } catch (error) {
    say(error.name === "NotAllowedError" ? "The browser does not allow the camera." : "No camera was found.", true);
  }
});
$("close-camera").addEventListener("click", () => $("camera").close());
$("camera").addEventListener("close", () => {
  $("video").srcObject?.getTracks().forEach((track) => track.stop());
  $("video").srcObject = null;
});
$("shoot").addEventListener("click", () => {
  const [video, canvas] = [$("video"), document.createElement("canvas")];
  if (!video.videoWidth) return; // it is still starting
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => add([new File([blob], `camera-${++shot}.jpg`, { type: "image/jpeg" })]), "image/jpeg", 0.92);
  $("camera").close();
});

modes();
