// A list of any length, of which only the cards near the window exist.

// An element with a class and a text. Texts come from strangers and are never parsed as HTML.
function element(tag, name = "", text = undefined) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

class CardList {
  constructor(box, draw) {
    this.box = box;
    this.draw = draw; // draw(place): the content of a card and its button
    this.places = [];
    this.cards = new Map(); // number in the list -> card
    this.current = 0;
    let waiting = false;
    const soon = () => {
      if (!waiting) requestAnimationFrame(() => { waiting = false; this.refresh(); });
      waiting = true;
    };
    addEventListener("scroll", soon, { passive: true });
    new ResizeObserver(soon).observe(box);
    box.addEventListener("keydown", (event) => this.moved(event));
    box.addEventListener("focusin", (event) => {
      const card = event.target.closest(".card");
      if (card) this.select(card.number);
    });
  }

  show(places) {
    this.places = places;
    this.current = 0;
    for (const card of this.cards.values()) card.remove();
    this.cards.clear();
    this.refresh();
  }

  layout() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const gap = 0.8 * rem;
    const width = this.box.clientWidth;
    this.columns = Math.max(1, Math.floor((width + gap) / (23 * rem + gap)));
    this.width = (width - gap * (this.columns - 1)) / this.columns;
    this.height = Math.max(9.2, 4.9 + 4.3 * REPORT.models.length) * rem;
    this.gap = gap;
    this.row = this.height + gap;
    const rows = Math.ceil(this.places.length / this.columns);
    this.box.style.height = `${Math.max(0, rows * this.row - gap)}px`;
  }

  refresh() {
    this.layout();
    const top = -this.box.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / this.row) - 2) * this.columns;
    const last = Math.min(this.places.length, (Math.ceil((top + innerHeight) / this.row) + 2) * this.columns);
    for (const [number, card] of this.cards) {
      const focused = card.contains(document.activeElement);
      if ((number < first || number >= last) && !focused) { card.remove(); this.cards.delete(number); }
    }
    for (let number = first; number < last; number++) this.card(number);
    for (const [number, card] of this.cards) {
      const column = number % this.columns;
      card.style.width = `${this.width}px`;
      card.style.height = `${this.height}px`;
      card.style.top = `${Math.floor(number / this.columns) * this.row}px`;
      card.style.left = `${column * (this.width + this.gap)}px`;
    }
    this.select(this.current);
  }

  card(number) {
    if (this.cards.has(number)) return this.cards.get(number);
    const card = element("li", "card");
    card.number = number;
    card.setAttribute("aria-setsize", this.places.length);
    card.setAttribute("aria-posinset", number + 1);
    card.append(...this.draw(this.places[number], number));
    // In the order of the list, for readers of the screen.
    const next = [...this.cards.values()].filter((other) => other.number > number)
      .reduce((least, other) => (!least || other.number < least.number ? other : least), null);
    this.box.insertBefore(card, next);
    this.cards.set(number, card);
    return card;
  }

  // One card can be reached with Tab; arrows move from there.
  select(number) {
    this.current = number;
    let reachable = false;
    for (const card of this.cards.values()) {
      card.querySelector(".open").tabIndex = card.number === number ? 0 : -1;
      reachable ||= card.number === number;
    }
    if (!reachable && this.cards.size) {
      const visible = Math.min(...this.cards.keys());
      this.cards.get(visible).querySelector(".open").tabIndex = 0;
    }
  }

  moved(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns };
    let to = this.current + (steps[event.key] ?? 0);
    if (event.key === "Home") to = 0;
    else if (event.key === "End") to = this.places.length - 1;
    else if (!(event.key in steps)) return;
    event.preventDefault();
    this.focus(Math.min(Math.max(to, 0), this.places.length - 1));
  }

  focus(number) {
    if (!(number in this.places)) return;
    const top = scrollY + this.box.getBoundingClientRect().top + Math.floor(number / this.columns) * this.row;
    if (top < scrollY) scrollTo(0, top - this.gap);
    else if (top + this.height > scrollY + innerHeight) scrollTo(0, top + this.height + this.gap - innerHeight);
    this.current = number;
    this.refresh();
    this.card(number).querySelector(".open").focus({ preventScroll: true });
  }
}
