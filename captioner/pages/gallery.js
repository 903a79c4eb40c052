"use strict";
// Shows the photos whose caption or name holds every word of the search field.
const figures = [...document.querySelectorAll("figure")];
const texts = figures.map((figure) => figure.querySelector("figcaption").textContent.toLowerCase());
const field = document.getElementById("find");
const count = document.getElementById("count");
field.addEventListener("input", () => {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  figures.forEach((figure, i) => {
    figure.hidden = !words.every((word) => texts[i].includes(word));
    shown += !figure.hidden;
  });
  count.textContent = words.length ? `${shown} shown` : "";
});
