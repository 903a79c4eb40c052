// One image in a window of its own: every caption, score and reference, and the attention of words.

const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const attention = new Map(); // number of a script -> its rows, or the images that wait for them

// Called by the scripts of attention/.
function attentionArrived(chunk, rows) {
  const waiting = attention.get(chunk);
  attention.set(chunk, rows);
  for (const ready of waiting?.waiting ?? []) ready(rows);
}

// The attention of an image, for each model, or 0.
function attentionOf(place) {
  const chunk = Math.floor(place / REPORT.attention_images);
  const row = (rows) => rows[place % REPORT.attention_images];
  const known = attention.get(chunk);
  if (Array.isArray(known)) return Promise.resolve(row(known));
  return new Promise((resolve) => {
    const ready = (rows) => resolve(row(rows));
    if (known) { known.waiting.push(ready); return; }
    attention.set(chunk, { waiting: [ready] });
    const script = element("script");
    script.src = `attention/${String(chunk).padStart(3, "0")}.js`;
    document.body.append(script);
  });
}

// Darkens a photo except where a word looks.
function light(canvas, [rows, columns, box, , levels], word) {
  const size = rows * columns;
  const small = element("canvas");
  small.width = columns;
  small.height = rows;
  const pixels = new ImageData(columns, rows);
  for (let at = 0; at < size; at++) {
    const place = word * size + at; // of two weights in a character
    const share = ((LEVELS.indexOf(levels[place >> 1]) >> (place % 2 ? 0 : 3)) & 7) / 7;
    pixels.data[4 * at + 3] = Math.round(205 * (1 - share));
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  canvas.width = 16 * columns;
  canvas.height = 16 * rows;
  const drawn = canvas.getContext("2d");
  drawn.imageSmoothingQuality = "high";
  drawn.drawImage(small, 0, 0, canvas.width, canvas.height);
  const [left, top, width, height] = box.map((share) => `${100 * share}%`);
  Object.assign(canvas.style, { left, top, width, height });
  canvas.hidden = false;
}

// A caption whose words show where they look.
function spoken(record, canvas, status) {
  const line = element("p", "spoken");
  record[3].forEach((word, at) => {
    const button = element("button", "word", word === "<end>" ? "(end)" : word);
    button.type = "button";
    const on = () => {
      light(canvas, record, at);
      const sentence = record[5] ? ` ${record[5][at]} % to the sentence,` : "";
      status.textContent = `Attention:${sentence} “${button.textContent}”`;
    };
    const off = () => { canvas.hidden = true; status.textContent = ""; };
    button.addEventListener("mouseenter", on);
    button.addEventListener("focus", on);
    button.addEventListener("click", on);
    button.addEventListener("mouseleave", off);
    button.addEventListener("blur", off);
    line.append(button, " ");
  });
  return line;
}

function modelPart(at, place) {
  const model = REPORT.models[at];
  const part = element("section");
  const title = element("h3");
  title.append(element("span", `key m${at}`), " ", element("bdi", "", model.name));
  const [best, ...others] = model.captions[place];
  const line = element("p", "spoken", best || "(no words)");
  line.dir = "auto";
  const chips = element("p", "chips");
  for (const [name, column] of model.scores) {
    const chip = element("span", "", `${name} `);
    chip.append(element("span", "value", column[place]?.toFixed(1) ?? "–"));
    chips.append(chip);
  }
  const logs = model.log_probs ? model.log_probs[place] : [];
  if (logs.length) chips.append(element("span", "", `log-probability ${logs[0]}`));
  REPORT.flags.forEach((name, bit) => {
    if (model.flags[place] & (1 << bit)) {
      chips.append(element("span", name === "shared" ? "" : "flag", document.querySelector(`#flag [value="${name}"]`).textContent));
    }
  });
  part.append(title, line, chips);
  if (others.length) {
    const list = element("ol");
    list.start = 2;
    others.forEach((text, n) => {
      const item = element("li", "", text || "(no words)");
      item.dir = "auto";
      if (logs[n + 1] !== undefined) item.append(element("span", "pale", ` ${logs[n + 1]}`));
      list.append(item);
    });
    part.append(list);
  }
  return { part, line };
}

function pictureOf(place, alt) {
  const [, size, , , reason] = REPORT.images[place];
  if (!size) return element("span", "", reason ? `no photo: ${reason}` : "no photo");
  const image = element("img");
  image.src = `thumbnails/${String(place).padStart(5, "0")}.webp`;
  [image.width, image.height] = size;
  image.alt = alt;
  image.decoding = "async";
  return image;
}

class PhotoWindow {
  constructor(dialog, leave) {
    this.dialog = dialog;
    dialog.addEventListener("close", () => leave(this.number));
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) { event.preventDefault(); this.show(this.number + step); }
    });
  }

  open(places, number) {
    this.places = places;
    this.dialog.showModal();
    this.show(number);
  }

  show(number) {
    if (!(number in this.places)) return;
    this.number = number;
    const place = this.places[number];
    const [name, , references, objects] = REPORT.images[place];
    const bar = element("div", "bar");
    const title = element("h2");
    title.id = "photo-name";
    title.append(element("bdi", "", name), element("span", "pale", ` ${number + 1} of ${this.places.length}`.replaceAll(" ", "\u00a0").replace("\u00a0", " ")));
    bar.append(title, this.button("Previous", -1), this.button("Next", 1), this.button("Close", 0));
    const frame = element("div", "frame");
    const canvas = element("canvas");
    canvas.hidden = true;
    frame.append(pictureOf(place, "the photo"), canvas);
    const status = element("p", "attention"); // as tall without a text, so that words stay in place
    status.setAttribute("role", "status");
    const side = element("div");
    side.append(frame, status);
    const texts = element("div");
    const parts = REPORT.models.map((_, at) => modelPart(at, place));
    texts.append(...parts.map(({ part }) => part), element("h3", "", "References"));
    const list = element("ul");
    for (const text of references) {
      const item = element("li", "", text);
      item.dir = "auto";
      list.append(item);
    }
    texts.append(list);
    if (objects.length) {
      texts.append(element("p", "chips", `Objects: ${objects.map((at) => REPORT.objects[at]).join(", ")}`));
    }
    const body = element("div", "body");
    body.append(side, texts);
    this.dialog.replaceChildren(bar, body);
    bar.querySelector(`[data-step="${this.step ?? 1}"]`).focus();
    if (REPORT.models.some((model) => model.attention)) {
      attentionOf(place).then((records) => records.forEach((record, at) => {
        if (record && this.places[this.number] === place) {
          parts[at].line.replaceWith(spoken(record, canvas, status));
        }
      }));
    }
  }

  button(text, step) {
    const made = element("button", "", text);
    made.type = "button";
    made.dataset.step = step;
    made.addEventListener("click", () => {
      if (!step) { this.dialog.close(); return; }
      this.step = step;
      this.show(this.number + step);
    });
    return made;
  }
}
