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
  const TO_ANOTHER_GROUP = ["Next", "Back", ACCEPT];
  const NOT_TYPED_INTO = ["button", "checkbox", "radio"];
  const GROUP = /^group [\d,.]+ of [\d,.]+ · (.+)$/;
  const MOST_WAITING = 8;
  // A press is done when the panel was drawn anew and then stood still; or, where nothing changes, after a while.
  const STILL_MS = 120;
  const UNCHANGED_MS = 2000;
  const SLOW_MS = 10000;

  let isInUse = false;
  let chosen = "";
  let shown = "";
  let working = null;
  let waiting = [];
  let timer = 0;
  let marked = null;
  let watched = null;
  let isSliding = false;

  const readLabel = (button) => button.querySelector("p")?.textContent;

  const readGroup = (panel) =>
    [...panel.querySelectorAll("p")].map((one) => GROUP.exec(one.textContent)?.[1]).find(Boolean) ?? "";

  const listButtons = (panel, label) =>
    [...panel.querySelectorAll("button")].filter((one) => readLabel(one) === label);

  const listImages = (panel) =>
    listButtons(panel, "Keep").map((button) => {
      let card = button;
      while (!card.querySelector("img")) card = card.parentElement;
      return card;
    });

  const readSource = (card) => card.querySelector("img").getAttribute("src");

  const findChosen = (images) => images.findIndex((card) => readSource(card) === chosen);

  function mark(panel) {
    const group = readGroup(panel);
    if (group !== shown) chosen = "";
    shown = group;
    const images = listImages(panel);
    const card = isInUse ? images[findChosen(images)] : null;
    if (marked && marked !== card) marked.style.outline = "";
    marked = card;
    if (card) card.style.outline = "2px solid var(--fo-palette-primary-main, #ff6d04)";
  }

  function choose(panel, card) {
    chosen = card ? readSource(card) : "";
    mark(panel);
    card?.scrollIntoView({ block: "nearest" });
  }

  function step(panel, by) {
    const images = listImages(panel);
    const place = findChosen(images);
    const next = place < 0 && by < 0 ? images.length - 1 : place + by;
    choose(panel, images[Math.min(Math.max(next, 0), images.length - 1)]);
  }

  function press(button) {
    if (button && !button.disabled) button.click();
    // What waits was typed for the group that this would have led to.
    else if (!button || TO_ANOTHER_GROUP.includes(readLabel(button))) waiting = [];
  }

  function follow(panel, key) {
    if (key === "arrowleft" || key === "arrowright") step(panel, key === "arrowleft" ? -1 : 1);
    else if (/^[1-9]$/.test(key)) choose(panel, listImages(panel)[Number(key) - 1]);
    else if (key === "enter") press(listButtons(panel, ACCEPT)[0]);
    else if (!OF_ONE_IMAGE.includes(key)) press(listButtons(panel, BUTTONS[key])[0]);
    else if (marked) press(listButtons(panel, BUTTONS[key])[findChosen(listImages(panel))]);
  }

  const isOurs = (key) => /^([1-9]|arrowleft|arrowright|enter)$/.test(key) || key in BUTTONS;

  function wait(key) {
    const isAgain = key === "enter" && (working.label === ACCEPT || waiting.includes(key));
    if (!isAgain && waiting.length < MOST_WAITING) waiting.push(key);
  }

  const endLater = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(end, ms);
  };

  // By mouse or by key: what is typed from now on waits for what the panel shows then.
  function onClick(event) {
    const button = event.target.closest?.(`${PANEL} button`);
    const label = button && readLabel(button);
    if (!label || (label !== ACCEPT && !Object.values(BUTTONS).includes(label))) return;
    const panel = document.querySelector(PANEL);
    watch(panel);
    const isLast = listButtons(panel, "Next")[0]?.disabled ?? true;
    // Of the last group nothing says beforehand whether another one follows: it may leave the list.
    const mustMove = TO_ANOTHER_GROUP.includes(label) && !(label === ACCEPT && isLast);
    const ms = mustMove ? SLOW_MS : UNCHANGED_MS;
    working = { label, group: readGroup(panel), movesUntil: mustMove ? performance.now() + ms : 0 };
    endLater(ms);
  }

  function end() {
    const { label, group, movesUntil } = working;
    const panel = document.querySelector(PANEL);
    const hasMoved = panel && readGroup(panel) !== group;
    const left = movesUntil - performance.now();
    if (panel && !hasMoved && left > 0) return endLater(left);
    working = null;
    // No key is for another group than the one it was typed for.
    if (!panel || hasMoved !== TO_ANOTHER_GROUP.includes(label)) waiting = [];
    while (waiting.length && !working) follow(panel, waiting.shift());
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
    const key = event.key.toLowerCase();
    if (!isOurs(key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (working) wait(key);
    else follow(panel, key);
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

  // Below the image the name may be shortened.
  function onOver({ target }) {
    if (target.matches?.(`${PANEL} img`)) target.title = target.alt;
  }

  const observer = new MutationObserver(() => {
    if (working) endLater(STILL_MS);
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
  window.addEventListener("click", onClick, true);
  window.addEventListener("pointerover", onOver, true);
})();
