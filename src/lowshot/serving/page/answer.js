// An answer: the verdict in words, probabilities as bars beside those of the untaught model, the nearest examples.

import { showExample } from "./api.js";
import { element } from "./dom.js";
import { counted, percent } from "./words.js";

const ROWS = 5;
const FEWEST_ROWS = 3; // of these the probability may be negligible
const NEGLIGIBLE = 0.001;
const LIKELY = 0.5; // a best class below this is said to be a guess

/** Show a prediction of an adapter (as GET /v1/adapters/{name} describes it) in `place`; `further` stands below it. */
export function showAnswer(place, prediction, adapter, further = []) {
  if (prediction.error) {
    showRefusal(place, prediction.error.message);
    return;
  }
  place.replaceChildren(
    verdict(prediction),
    ...comparison(prediction),
    bars(prediction),
    element("p", { class: "note" }, trust(adapter.calibrated)),
    ...further.filter((each) => each !== null),
    ...nearest(prediction.neighbours ?? [], adapter.name),
  );
  // A bar grows from nothing once it is on the page; with reduced motion it is there at once.
  requestAnimationFrame(() => requestAnimationFrame(() => grow(place)));
}

/** Show why there is no answer; `again`, if given, is a button. */
export function showRefusal(place, message, again = null) {
  place.replaceChildren(
    element("p", { class: "problem", role: "alert" }, message),
    ...(again ? [element("div", { class: "row" }, again)] : []),
  );
}

/** The answer in one sentence, for those who listen. */
export function spoken(prediction) {
  if (prediction.error) return prediction.error.message;
  const [best] = prediction.classes;
  const before = prediction.zero_shot?.[0];
  if (prediction.labels?.length) return `${prediction.labels.join(", ")}.`;
  const nearest = `${best.name}, ${percent(best.probability)}.`;
  if (prediction.labels) return `No label. Nearest: ${nearest}`;
  const sentence = prediction.none_of_these ? `None of these. Nearest: ${nearest}` : nearest;
  return before ? `${sentence} Before it was taught: ${before.name}, ${percent(before.probability)}.` : sentence;
}

function verdict({ classes: [best], none_of_these: none, labels }) {
  if (labels?.length) return element("p", { class: "verdict" }, labels.join(", "));
  if (none || labels) {
    const nearest = element("span", { class: "guess" }, `; nearest: ${best.name} `);
    const sure = element("span", { class: "sure" }, percent(best.probability));
    return element("p", { class: "verdict" }, labels ? "no label" : "none of these", nearest, sure);
  }
  const guess = best.probability < LIKELY ? element("span", { class: "guess" }, "perhaps ") : null;
  return element(
    "p",
    { class: "verdict" },
    guess,
    best.name,
    " ",
    element("span", { class: "sure" }, percent(best.probability)),
  );
}

function comparison({ classes, zero_shot: before }) {
  if (!before?.length) return [];
  const same = before[0].name === classes[0].name;
  const words = same
    ? `Before it was taught the model said so too, with ${percent(before[0].probability)}.`
    : `Before it was taught the model said ${before[0].name}, with ${percent(before[0].probability)}.`;
  return [element("p", { class: "before" }, words)];
}

function bars({ classes, zero_shot: before }) {
  const earlier = new Map((before ?? []).map((each) => [each.name, each.probability]));
  const counts = ({ name, probability }, rank) =>
    rank < FEWEST_ROWS || Math.max(probability, earlier.get(name) ?? 0) >= NEGLIGIBLE;
  const shown = classes.slice(0, ROWS).filter(counts);
  const favourite = before?.length && classes.find((each) => each.name === before[0].name);
  if (favourite && !shown.includes(favourite)) shown.push(favourite);
  const rows = shown.map((each, rank) => barRow(each, earlier.get(each.name), rank));
  const rest = classes.length - shown.length;
  return element(
    "div",
    {},
    before ? legend() : null,
    element("ol", { class: "bars", "aria-label": "Probabilities" }, ...rows),
    rest > 0 ? element("p", { class: "note" }, `and ${counted(rest, "class", "classes")} less probable`) : null,
  );
}

function legend() {
  const key = (kind, words) => element("span", {}, element("span", { class: `key ${kind}` }), words);
  return element(
    "p",
    { class: "legend note", "aria-hidden": "true" },
    key("taught", "taught"),
    key("untaught", "before (zero-shot)"),
  );
}

function barRow({ name, probability }, earlier, rank) {
  const row = element(
    "li",
    { class: rank ? "" : "best" },
    element("span", { class: "name" }, name),
    element("span", { class: "share" }, percent(probability)),
    bar("taught", probability),
  );
  if (earlier !== undefined) {
    row.append(
      bar("untaught", earlier),
      element(
        "span",
        { class: "share untaught" },
        element("span", { class: "unseen-label" }, "before: "),
        percent(earlier),
      ),
    );
  }
  return row;
}

function bar(kind, share) {
  const drawn = element("span", { class: `bar ${kind}`, "aria-hidden": "true" }, element("span"));
  drawn.dataset.share = share;
  return drawn;
}

function grow(place) {
  for (const each of place.querySelectorAll(".bar")) each.style.setProperty("--share", each.dataset.share);
}

function trust(calibrated) {
  if (calibrated) return "Calibrated on held-out images: of answers this sure, about that share is right.";
  return "Not calibrated: good for ranking, but it may be surer than it should be.";
}

function nearest(neighbours, adapter) {
  if (!neighbours.length) return [];
  const items = neighbours.map((each) => {
    const image = element("img", { alt: `training image of ${each.class}` });
    image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 64));
    showExample(image, adapter, each.id).catch(() => image.remove());
    return element(
      "li",
      {},
      image,
      element("span", {}, each.class),
      element("span", { class: "note" }, `similarity ${each.similarity.toFixed(2)}`),
    );
  });
  return [element("h2", {}, "Nearest training images"), element("ul", { class: "neighbours" }, ...items)];
}
