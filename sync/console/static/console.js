// Small comforts: local times, the theme's switch, lists that answer at once, and pages that keep up with the jobs.
"use strict";

const BUSY_MS = 1000;
const IDLE_MS = 8000;
const YEAR_S = 31536000;

function showLocalTimes() {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.valueOf())) time.textContent = format.format(moment);
  }
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setUpTheme() {
  const button = document.querySelector("[data-theme-switch]");
  if (!button) return;
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  name();
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    document.cookie = `labelloop_theme=${theme}; path=/; max-age=${YEAR_S}; samesite=strict`;
    name();
  });
}

function setUpAutoForms() {
  for (const form of document.querySelectorAll("form[data-auto]")) {
    form.querySelector("button").hidden = true;
    form.addEventListener("change", () => form.requestSubmit());
  }
}

function showProgress(runs) {
  for (const run of runs) {
    for (const element of document.querySelectorAll(`[data-run="${run.id}"]`)) {
      element.querySelector("[data-message]").textContent = run.message || run.state;
      const progress = element.querySelector("progress");
      if (!progress) continue;
      if (run.progress === null) progress.removeAttribute("value");
      else progress.value = run.progress;
    }
  }
}

function showBadges(waiting) {
  for (const [name, count] of Object.entries(waiting)) {
    const badge = document.querySelector(`[data-badge="${name}"]`);
    if (!badge) continue;
    badge.textContent = count || "";
    badge.hidden = !count;
  }
}

async function fetchPage(main) {
  const answer = await fetch(location.href);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("main");
  if (answer.redirected || !fresh || !fresh.dataset.live) return location.reload();
  // What a person has opened stays open, and what has the focus keeps it.
  const open = [...main.querySelectorAll("details")].map((details) => details.open);
  const focusable = "a, button, summary, select";
  const place = [...main.querySelectorAll(focusable)].indexOf(document.activeElement);
  const sameButtons = main.querySelectorAll(focusable).length === fresh.querySelectorAll(focusable).length;
  main.replaceWith(fresh);
  fresh.querySelectorAll("details").forEach((details, i) => { if (open[i]) details.open = true; });
  if (place >= 0) (sameButtons ? fresh.querySelectorAll(focusable)[place] : fresh).focus({ preventScroll: true });
  showLocalTimes();
  setUpAutoForms();
}

async function refresh() {
  let wait = IDLE_MS;
  try {
    const answer = await fetch("/live.json");
    if (answer.status === 401) return location.reload();
    const live = await answer.json();
    const main = document.querySelector("main[data-live]");
    if (main && live.revision !== main.dataset.live) await fetchPage(main);
    showProgress(live.active);
    showBadges(live.waiting);
    if (live.active.length > 0) wait = BUSY_MS;
    document.querySelector("[data-offline]").hidden = true;
  } catch {
    document.querySelector("[data-offline]").hidden = false;
  }
  setTimeout(refresh, wait);
}

showLocalTimes();
setUpTheme();
setUpAutoForms();
if (document.querySelector("header.side")) {
  const main = document.querySelector("main[data-live]");
  setTimeout(refresh, main && Number(main.dataset.active) > 0 ? BUSY_MS : IDLE_MS);
}
