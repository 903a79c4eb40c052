"use strict";
// Draws where a word looked: the photo in a warm light there, dark elsewhere, as the figures of
// `captioner caption --attention-figures` do (captioner/analysis/attention_figure.py).

const GLOW = [255, 214, 64];
const DARKEST = 0.3; // brightness of the photo where a word does not look
const LIT = 0.7; // share of the photo where it looks most; the rest is the glow
const SIDE = 480; // longest side of the drawing, in pixels; the browser enlarges it smoothly

// Bicubic interpolation of n numbers along an edge of `length` pixels, of which those from `from`
// to `to` are covered: for each pixel the numbers' indices and shares, or null outside.
function bicubic(n, from, to, length) {
  const kernel = (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  };
  return Array.from({ length }, (_, i) => {
    if (i + 0.5 < from || i + 0.5 >= to) return null;
    const at = ((i + 0.5 - from) / (to - from)) * n - 0.5;
    const first = Math.floor(at) - 1;
    return [0, 1, 2, 3].map((k) => [
      Math.min(Math.max(first + k, 0), n - 1), // beyond the edge lie copies of the edge
      kernel(at - first - k),
    ]);
  });
}

// Enlarges weights (rows * columns, row by row) to a Float32Array of width * height pixels: a
// cell's weight at its centre, 0 outside the box [left, top, right, bottom].
function weightMap(weights, [rows, columns], [left, top, right, bottom], width, height) {
  const across = bicubic(columns, left, right, width);
  const down = bicubic(rows, top, bottom, height);
  const wide = new Float32Array(rows * width);
  for (let r = 0; r < rows; r++) {
    across.forEach((parts, x) => {
      for (const [c, share] of parts || []) wide[r * width + x] += share * weights[r * columns + c];
    });
  }
  const map = new Float32Array(width * height);
  down.forEach((parts, y) => {
    if (!parts) return;
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (const [r, share] of parts) sum += share * wide[r * width + x];
      map[y * width + x] = Math.max(sum, 0);
    }
  });
  return map;
}

// The maps of all words of a caption, and the weight of full light: one scale for the whole
// caption, so that a word which looks at the sentence stays dark.
function mapsOf(attention, size, box) {
  const scale = Math.min(1, SIDE / Math.max(...size));
  const [width, height] = size.map((edge) => Math.max(1, Math.round(edge * scale)));
  const [x, y] = [width / size[0], height / size[1]];
  const here = [box[0] * x, box[1] * y, box[2] * x, box[3] * y];
  const maps = attention.weights.map((row) => weightMap(row, attention.grid, here, width, height));
  let brightest = 2 / (attention.grid[0] * attention.grid[1]);
  for (const map of maps) for (const weight of map) if (weight > brightest) brightest = weight;
  return { maps, width, height, brightest };
}

// Draws one word's map over the photo.
function drawLight(canvas, { maps, width, height, brightest }, word) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  maps[word].forEach((weight, i) => {
    const light = Math.min(weight / brightest, 1) ** 0.8;
    const alpha = 1 - DARKEST - (LIT - DARKEST) * light;
    const glow = ((1 - LIT) * light) / alpha;
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = glow * GLOW[c];
    picture.data[4 * i + 3] = 255 * alpha;
  });
  context.putImageData(picture, 0, 0);
}

function clearLight(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}
