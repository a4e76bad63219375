// A training under way: its progress, live, and what came of it.

import * as api from "./api.js";
import { announce, button, byId, element, wait } from "./dom.js";
import { bytes, counted, heldOut, percent, seconds } from "./words.js";

const POLL_SECONDS = 0.5;
const UNREACHABLE_SECONDS = 2;
const QUARTER = 0.25; // how often progress is said aloud
const [CHART_WIDTH, CHART_HEIGHT] = [320, 56];

/**
 * Follow a job to its end in the panel; gives the job as it ended, or null if the server does not know it any more.
 */
export async function follow(id, panel) {
  const view = progressView(() => api.cancel(id));
  panel.replaceChildren(view.element);
  panel.hidden = false;
  panel.scrollIntoView({ block: "nearest" });
  for (;;) {
    try {
      const job = await api.job(id);
      view.show(job);
      if (!["queued", "running"].includes(job.state)) return job;
      await wait(POLL_SECONDS);
    } catch (error) {
      if (error.status === 404) return null;
      view.trouble(error.message);
      if (error.status === 401) throw error;
      await wait(UNREACHABLE_SECONDS);
    }
  }
}

/** What was taught, with what to do next. */
export function showTaught(panel, job, adapter) {
  const facts = [
    adapter.method,
    counted(adapter.class_names.length, "class", "classes"),
    adapter.bytes ? `${bytes(adapter.bytes)} on disk` : null,
    `taught in ${seconds(job.seconds)}`,
    typeof adapter.accuracy === "number" ? `${percent(adapter.accuracy)} right` : null,
  ];
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const save = button("Download the adapter", () =>
    api.download(adapter.name).catch((error) => Object.assign(problem, { textContent: error.message, hidden: false })),
  );
  panel.replaceChildren(
    element("h2", { tabindex: "-1" }, `${adapter.name} is taught`),
    element("p", { class: "note" }, facts.filter(Boolean).join(" \u00b7 ")),
    element("p", {}, howRight(adapter.held_out)),
    ...job.notes.map((note) => element("p", { class: "problem" }, note)),
    element(
      "div",
      { class: "row" },
      element("a", { class: "button primary", href: `#ask/${encodeURIComponent(adapter.name)}` }, "Ask it"),
      save,
    ),
    problem,
  );
  panel.querySelector("h2").focus();
  announce(`${adapter.name} is taught.`);
}

/** How often it is right as far as its own images tell, or why they do not. */
function howRight(heldOutShots) {
  if (!heldOutShots) {
    return "How often it is right is not known: it learnt from all of its images. Try it on others, or have images held out (Settings).";
  }
  const manner = "each by a classifier that had not seen it, taught with the others";
  const choice = `The best of ${heldOutShots.best_of} methods on these images was taken, which flatters it a little.`;
  return `${heldOut(heldOutShots)}, ${manner}. ${heldOutShots.best_of > 1 ? choice : ""}`.trim();
}

/** Why a job that ended has made nothing; null for one that the server does not know. */
export function whyNot(job) {
  if (!job) return "The server does not know this training any more: it was started anew meanwhile. Teach again.";
  if (job.state === "cancelled") return "The training was stopped; nothing was kept of it.";
  return job.message || "The training failed, and the server gave no reason. Its log may have one.";
}

/** Why nothing was taught. What was put in is still there. */
export function showFailed(panel, message) {
  const words = element("p", { class: "problem", role: "alert" }, message);
  const reassurance = element("p", { class: "note" }, "Your classes and images are still in the form above.");
  panel.replaceChildren(words, reassurance);
  panel.hidden = false;
}

function progressView(cancel) {
  const losses = []; // [step, loss]
  let announced = 0; // share of the training
  const title = element("h2", {}, "Sending the images");
  const bar = element("progress", { "aria-label": "Training" });
  const words = element("p", { class: "note" });
  const chart = lossChart();
  const stop = button("Stop", async () => {
    stop.disabled = true;
    await cancel().catch((error) => (words.textContent = error.message));
  });
  const root = element("div", {}, title, bar, words, chart.element, element("div", { class: "row" }, stop));
  return { element: root, show, trouble: (message) => (words.textContent = message) };

  function show(job) {
    title.textContent = job.state === "queued" ? `${job.name} waits for its turn` : `Teaching ${job.name}`;
    const share = job.steps ? job.step / job.steps : 0;
    if (job.steps) Object.assign(bar, { max: job.steps, value: job.step });
    words.textContent = progressWords(job);
    if (losses.at(-1)?.[0] > job.step) losses.length = announced = 0; // the next part of the work, such as another fold
    if (Number.isFinite(job.loss) && losses.at(-1)?.[0] !== job.step) losses.push([job.step, job.loss]);
    chart.show(losses, job.steps);
    if (share >= announced + QUARTER && share < 1) {
      announced = Math.floor(share / QUARTER) * QUARTER;
      announce(`${percent(announced)} of the training is done.`);
    }
  }
}

function progressWords(job) {
  if (job.state === "queued") return "Another training is under way; this one begins after it.";
  const parts = [job.message, job.steps ? `step ${job.step} of ${job.steps}` : null, seconds(job.seconds)];
  if (Number.isFinite(job.loss)) parts.push(`loss ${job.loss.toFixed(3)}`);
  return parts.filter(Boolean).join(" \u00b7 ");
}

/** The loss so far as a line. The words beside it say the same, so it is hidden from those who listen. */
function lossChart() {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const line = svg.appendChild(document.createElementNS(space, "polyline"));
  svg.setAttribute("viewBox", `0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`);
  svg.setAttribute("class", "loss");
  svg.setAttribute("aria-hidden", "true");
  return { element: svg, show };

  function show(losses, steps) {
    svg.toggleAttribute("hidden", losses.length < 2);
    const highest = Math.max(...losses.map(([, loss]) => loss), 1e-9);
    const point = ([step, loss]) =>
      `${((step / steps) * CHART_WIDTH).toFixed(1)},${((1 - loss / highest) * (CHART_HEIGHT - 4) + 2).toFixed(1)}`;
    line.setAttribute("points", losses.map(point).join(" "));
  }
}
