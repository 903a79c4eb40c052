// The gallery: controls, list and window, all of which follow the query in the page's address.

function start() {
  DEFAULTS.by = REPORT.main;
  const fields = Object.keys(DEFAULTS).map((name) => document.getElementById(name));
  const status = document.getElementById("count");
  const whole = new Intl.NumberFormat("en");
  let query = queryOf(location.hash);
  let shown = { places: [], values: null };

  const digits = (value) => (query.by === "length" ? value : value.toFixed(query.by === "probability" ? 2 : 1));

  function cardOf(place, number) {
    const [name, , references] = REPORT.images[place];
    const open = element("button", "open");
    open.type = "button";
    open.setAttribute("aria-label", `${name}: ${REPORT.models[0].captions[place][0] || "no words"}`);
    open.addEventListener("click", () => photo.open(shown.places, number));
    const picture = element("div", "picture");
    picture.append(pictureOf(place, ""));
    const words = element("div", "texts");
    REPORT.models.forEach((model, at) => {
      const line = element("p");
      line.dir = "auto";
      const value = query.by === "name" ? null : columnOf(query.by, at)[place];
      line.append(element("span", `key m${at}`), " ");
      if (value !== null) line.append(element("span", "value", digits(value)), " ");
      line.append(element("bdi", "", model.captions[place][0] || "(no words)"));
      words.append(line);
    });
    const said = element("p", "reference", references[0] ?? "");
    said.dir = "auto";
    const named = element("p", "name");
    named.append(element("bdi", "", name));
    words.append(said, named);
    return [picture, words, open];
  }

  function update() {
    shown = found(query);
    for (const field of fields) if (field.value !== query[field.id]) field.value = query[field.id];
    const count = shown.places.length;
    const known = shown.values ? shown.places.map((i) => shown.values[i]).filter((v) => v !== null) : [];
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    const label = document.getElementById("by").selectedOptions[0]?.textContent ?? "";
    status.textContent = `${whole.format(count)} of ${whole.format(REPORT.images.length)} images`
      + (known.length ? `; mean ${query.of.includes("-") ? "difference in " : ""}${label} ${mean.toFixed(1)}` : "");
    list.show(shown.places);
  }

  function changed() {
    for (const field of fields) query[field.id] = field.value;
    history.replaceState(null, "", addressOf(query));
    update();
  }

  const list = new CardList(document.getElementById("list"), cardOf);
  const photo = new PhotoWindow(document.getElementById("photo"), (number) => list.focus(number));
  for (const field of fields) {
    field.addEventListener(field.tagName === "INPUT" ? "input" : "change", changed);
  }
  document.getElementById("reset").addEventListener("click", () => {
    query = { ...DEFAULTS };
    history.replaceState(null, "", addressOf(query));
    update();
  });
  // Links of the tables above are queries; links of the contents are names of sections.
  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return;
    query = queryOf(location.hash);
    update();
    document.getElementById("images").scrollIntoView();
  });
  update();
  if (location.hash.includes("=")) document.getElementById("images").scrollIntoView();
}

if (typeof REPORT === "undefined") {
  document.getElementById("controls").hidden = true;
  document.getElementById("count").textContent = "The images are not here: data.js is missing beside this page.";
} else {
  start();
}
