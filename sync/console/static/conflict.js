// The drawing of a conflict: zoom, choice by a click on a shape, and keys. Without it the form works as it is.
"use strict";

const drawing = document.querySelector(".decide .drawing");
const form = document.querySelector(".choices");
const rows = [...form.querySelectorAll("[data-row]")];
const VALUES = { ours: "curated", theirs: "reviewed" };
let current = 0;

function radioOf(row, value) {
  return row.querySelector(`input[value="${value}"]`);
}

function showChoice() {
  for (const row of rows) {
    for (const [side, value] of Object.entries(VALUES)) {
      const other = side === "ours" ? "theirs" : "ours";
      for (const shape of drawing.querySelectorAll(`[data-label="${row.dataset.row}"][data-side="${side}"]`)) {
        shape.classList.toggle("chosen", radioOf(row, value).checked);
        shape.classList.toggle("dropped", radioOf(row, VALUES[other]).checked);
      }
    }
  }
}

function choose(row, value) {
  radioOf(row, value).checked = true;
  showChoice();
}

function zoomTo(box) {
  drawing.setAttribute("viewBox", box);
}

function go(to) {
  current = Math.max(0, Math.min(rows.length - 1, to));
  rows.forEach((row, i) => {
    row.classList.toggle("current", i === current);
    for (const shape of drawing.querySelectorAll(`[data-label="${row.dataset.row}"]`)) shape.classList.toggle("current", i === current);
  });
  rows[current].scrollIntoView({ block: "nearest" });
}

for (const button of document.querySelectorAll("[data-zoom]")) {
  button.hidden = false;
  button.addEventListener("click", () => zoomTo(button.dataset.zoom));
}

// A mask is a picture as large as the image: it is hit where it is painted.
function isPainted(mask, event) {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pixel = canvas.getContext("2d");
  pixel.drawImage(mask, -at.x, -at.y, mask.width.baseVal.value, mask.height.baseVal.value);
  return pixel.getImageData(0, 0, 1, 1).data[3] > 0;
}

function shapeAt(event) {
  for (const element of document.elementsFromPoint(event.clientX, event.clientY)) {
    const shape = element.closest("[data-label]");
    if (shape && VALUES[shape.dataset.side] && (element.localName !== "image" || isPainted(element, event))) return shape;
  }
  return null;
}

drawing.addEventListener("click", (event) => {
  const shape = shapeAt(event);
  if (!shape) return;
  const place = rows.findIndex((row) => row.dataset.row === shape.dataset.label);
  go(place);
  choose(rows[place], VALUES[shape.dataset.side]);
});

form.addEventListener("change", (event) => {
  const place = rows.findIndex((row) => row.contains(event.target));
  if (place >= 0) go(place);
  showChoice();
});

const KEYS = {
  1: () => { choose(rows[current], "curated"); },
  2: () => { choose(rows[current], "reviewed"); },
  n: () => { go(current + 1); },
  p: () => { go(current - 1); },
  z: () => { zoomTo(rows[current].dataset.view || drawing.dataset.whole); },
  0: () => { zoomTo(drawing.dataset.whole); },
  s: () => { document.querySelector("[data-next]")?.click(); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const box = document.querySelector(`.layers [data-key="${CSS.escape(event.key)}"]`);
  if (box) return box.click();
  if (event.key === "Enter" && !event.target.closest("button, a, summary")) {
    event.preventDefault();
    return form.querySelector("[data-decide]").click();
  }
  KEYS[event.key]?.();
});

go(0);
showChoice();
