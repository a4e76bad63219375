// Why: which parts of an image spoke for a class, as a picture that is asked for when somebody wants to see it.

import * as api from "./api.js";
import { announce, element } from "./dom.js";
import { percent } from "./words.js";

/** What unfolds to the picture, for the most probable class of a prediction about an image. */
export function why(adapter, image, { classes: [best] }) {
  const place = element("div", { class: "explained" });
  const details = element("details", { class: "why" }, element("summary", {}, `Why ${best.name}?`), place);
  details.addEventListener("toggle", () => {
    if (details.open && !place.hasChildNodes()) show(place, adapter, image, best.name);
  });
  return details;
}

async function show(place, adapter, image, name) {
  place.setAttribute("aria-busy", "true");
  place.replaceChildren(element("p", { class: "note" }, "Looking\u2026"));
  try {
    const { picture, relevance } = await api.explain(adapter.name, image, name);
    const alt = `The parts of the image that spoke for ${name}, in colour`;
    const words = `${strongest(relevance)} What spoke for ${name} is in colour, from violet to yellow; the rest is grey.`;
    const shown = element("img", { src: `data:image/png;base64,${picture}`, alt, width: 320, height: 320 });
    place.replaceChildren(shown, element("p", { class: "note" }, words));
    announce(words);
  } catch (error) {
    place.replaceChildren(element("p", { class: "problem", role: "alert" }, error.message));
  } finally {
    place.removeAttribute("aria-busy");
  }
}

/** In words where the strongest place lies, for those who do not see it. */
function strongest(relevance) {
  const shares = relevance.flat();
  const most = Math.max(...shares);
  if (!(most > 0)) return "No part of the image spoke for it.";
  const width = relevance[0].length;
  const place = shares.indexOf(most);
  const third = (at, count, words) => words[Math.min(2, Math.floor((3 * (at + 0.5)) / count))];
  const row = third(Math.floor(place / width), relevance.length, ["at the top", "in the middle", "at the bottom"]);
  const column = third(place % width, width, ["on the left", "in the centre", "on the right"]);
  return `The strongest part lies ${row}, ${column}, with ${percent(most)} of all.`;
}
