// The keys of the panel «Duplicates». FiftyOne lets no Python panel bind keys; this presses the panel's own buttons.
"use strict";

(() => {
  const PANEL = '[data-cy="panel-content-duplicates"]';
  const ANY_PANEL = '[data-cy^="panel-content-"]';
  const SLIDER = ".MuiSlider-root";
  const BUTTONS = {
    n: "Next", p: "Back", u: "Undo",
    k: "Keep", d: "Drop", x: "Not a duplicate",
  };
  const OF_ONE_IMAGE = ["k", "d", "x"];
  const ACCEPT = "Keep ★, drop the others";
  const NOT_TYPED_INTO = ["button", "checkbox", "radio"];
  // Until the panel is drawn anew, a second press would be for what it showed before.
  const WAITS_MS = 2000;

  let isInUse = false;
  let chosen = "";
  let waitsUntil = 0;
  let marked = null;
  let watched = null;
  let isSliding = false;

  const listButtons = (panel, label) =>
    [...panel.querySelectorAll("button")].filter((one) => one.querySelector("p")?.textContent === label);

  const listImages = (panel) =>
    listButtons(panel, "Keep").map((button) => {
      let card = button;
      while (!card.querySelector("img")) card = card.parentElement;
      return card;
    });

  const readSource = (card) => card.querySelector("img").getAttribute("src");

  const findChosen = (images) => Math.max(images.findIndex((card) => readSource(card) === chosen), 0);

  function mark(panel) {
    const images = listImages(panel);
    const card = isInUse && images.length ? images[findChosen(images)] : null;
    if (marked !== card && marked) marked.style.outline = "";
    marked = card;
    if (card) card.style.outline = "2px solid var(--fo-palette-primary-main, #ff6d04)";
  }

  function choose(panel, place) {
    const images = listImages(panel);
    if (place < 0 || place >= images.length) return;
    chosen = readSource(images[place]);
    mark(panel);
    images[place].scrollIntoView({ block: "nearest" });
  }

  function press(button) {
    if (!button || button.disabled || performance.now() < waitsUntil) return;
    waitsUntil = performance.now() + WAITS_MS;
    button.click();
  }

  function follow(panel, key) {
    const images = listImages(panel);
    const place = findChosen(images);
    if (key === "arrowleft" || key === "arrowright") choose(panel, place + (key === "arrowleft" ? -1 : 1));
    else if (/^[1-9]$/.test(key)) choose(panel, Number(key) - 1);
    else if (key === "enter") press(listButtons(panel, ACCEPT)[0]);
    else if (OF_ONE_IMAGE.includes(key)) press(listButtons(panel, BUTTONS[key])[place]);
    else if (key in BUTTONS) press(listButtons(panel, BUTTONS[key])[0]);
    else return false;
    return true;
  }

  const isTypedInto = (one) =>
    one.isContentEditable || one.tagName === "TEXTAREA" || one.tagName === "SELECT" ||
    (one.tagName === "INPUT" && !NOT_TYPED_INTO.includes(one.type));

  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (event.key === "Enter" && event.target.closest?.(`${ANY_PANEL} button`)) {
      // The bar of views takes Enter for itself wherever it is pressed; a button that has the focus would do nothing.
      event.stopImmediatePropagation();
      return;
    }
    const panel = document.querySelector(PANEL);
    if (!panel || !isInUse || isTypedInto(event.target) || document.querySelector('[role="dialog"], [data-cy="modal"]'))
      return;
    if (follow(panel, event.key.toLowerCase())) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }

  // Only while the panel is what was clicked or focused last: a letter typed elsewhere decides nothing.
  function onUse(event) {
    const panel = document.querySelector(PANEL);
    const wasInUse = isInUse;
    isInUse = Boolean(panel?.contains(event.target));
    isSliding = isInUse && Boolean(event.target.closest(SLIDER));
    if (!panel || isInUse === wasInUse) return;
    watch(panel);
    mark(panel);
  }

  const observer = new MutationObserver(() => {
    waitsUntil = 0;
    if (!watched.isConnected) return;
    mark(watched);
    // The App makes a new slider for each value, and the focus was in the old one.
    if (isSliding && document.activeElement === document.body) watched.querySelector(`${SLIDER} input`)?.focus();
  });

  function watch(panel) {
    if (panel === watched) return;
    watched = panel;
    observer.disconnect();
    observer.observe(panel, { childList: true, subtree: true, characterData: true, attributeFilter: ["src"] });
  }

  // In the window, before everything else: the App's own keys are bound to the document.
  window.addEventListener("keydown", onKey, true);
  window.addEventListener("pointerdown", onUse, true);
  window.addEventListener("focusin", onUse, true);
})();
