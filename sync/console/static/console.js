// Refreshes the page in place: progress from /status.json, the rest by fetching the page when it changed.
"use strict";

const BUSY_MS = 1500;
const IDLE_MS = 10000;

function showLocalTimes() {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.valueOf())) time.textContent = format.format(moment);
  }
}

function showProgress(jobs) {
  for (const job of jobs) {
    const element = document.querySelector(`[data-job="${job.id}"]`);
    if (!element) continue;
    element.querySelector("[data-message]").textContent = job.message || job.state;
    const progress = element.querySelector("progress");
    if (!progress) continue;
    if (job.progress === null) progress.removeAttribute("value");
    else progress.value = job.progress;
  }
}

async function fetchPage() {
  const page = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
  // What a person has opened stays open.
  const open = [...document.querySelectorAll("details")].map((details) => details.open);
  const sameRuns = document.querySelectorAll(".runs > li").length === page.querySelectorAll(".runs > li").length;
  document.querySelector("header").replaceWith(page.querySelector("header"));
  document.querySelector("main").replaceWith(page.querySelector("main"));
  document.body.dataset.revision = page.body.dataset.revision;
  if (sameRuns) document.querySelectorAll("details").forEach((details, i) => { details.open = open[i] === true; });
  showLocalTimes();
}

async function refresh() {
  let wait = IDLE_MS;
  try {
    const status = await (await fetch("/status.json")).json();
    if (status.revision !== document.body.dataset.revision) await fetchPage();
    showProgress(status.active);
    if (status.active.length > 0) wait = BUSY_MS;
    document.body.classList.remove("offline");
  } catch {
    document.body.classList.add("offline");
  }
  setTimeout(refresh, wait);
}

showLocalTimes();
setTimeout(refresh, Number(document.body.dataset.active) > 0 ? BUSY_MS : IDLE_MS);
