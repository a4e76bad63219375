// One class in the teaching form: its name and its images.

import { acceptDrops, announce, button, element, fileButton } from "./dom.js";
import { picture, prepare, release } from "./images.js";
import { counted } from "./words.js";

const MOST_LINES = 5; // of files that cannot be used

/**
 * A card: `{element, add(found), call(name), value(), show(problems), number(n), focus(), isFocused(), empty()}`.
 *
 * `changed` is called after every change, `removed(card)` when it is removed (without it, it cannot be), `entered(card)` on Enter in the name,
 * `drawing(card, kind)` to open the pad ("draw") or the camera ("camera") for this class, `dropped(card, found)` when
 * files or folders are dropped on it.
 */
export function createCard(limits, { changed, removed, entered, drawing, dropped }) {
  let images = [];
  let unusable = []; // why files were not taken; stays until others are added, so that nothing else hides it
  let wrong = []; // what is wrong with the class as it is
  let adding = 0; // additions under way
  let place = 0;
  const key = `class-${(createCard.count = (createCard.count ?? 0) + 1)}`;
  const name = element("input", {
    id: `${key}-name`,
    maxlength: "100",
    autocomplete: "off",
    placeholder: "such as oak leaf",
    "aria-describedby": `${key}-problems`,
  });
  const label = element("label", { for: `${key}-name` });
  const removeButton = removed ? button("Remove", () => removed(card), { class: "quiet" }) : null;
  const thumbnails = element("ul", { class: "thumbnails" });
  const invitation = element("p", { class: "invitation" }, "Drop images or a folder here");
  const drop = element("div", { class: "drop" }, thumbnails, invitation);
  const problems = element("ul", { class: "problem", id: `${key}-problems`, hidden: true });
  const count = element("span", { class: "note" });
  const sources = element(
    "div",
    { class: "row" },
    fileButton("Choose", add),
    button("Draw", () => drawing(card, "draw")),
    button("Camera", () => drawing(card, "camera")),
    count,
  );
  const root = element(
    "li",
    { class: "card" },
    element("div", { class: "card-head" }, label, removeButton),
    name,
    drop,
    sources,
    problems,
  );
  const card = {
    element: root,
    add,
    call,
    empty,
    value: () => ({ name: name.value, images }),
    show,
    number,
    focus: () => name.focus(),
    isFocused,
  };

  name.addEventListener("input", () => changed());
  name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    entered(card);
  });
  acceptDrops(root, (found) => dropped(card, found));
  showImages();
  return card;

  /** Take found files in; those that cannot be used are named in the card. Gives why any was refused, a line each. */
  async function add(found) {
    const refused = found.length ? [] : ["That was no file. Save the image first, or copy it and paste it here."];
    const before = images.length;
    if (!adding) unusable = [];
    adding += 1;
    root.setAttribute("aria-busy", "true");
    for (const file of found) {
      try {
        const image = await prepare(file, limits);
        if (images.some((each) => each.fingerprint === image.fingerprint)) {
          release(image);
          refused.push(`${file.name} is in this class already.`);
        } else {
          images.push(image);
        }
      } catch (error) {
        refused.push(error.message);
      }
      showImages();
    }
    adding -= 1;
    if (!adding) root.removeAttribute("aria-busy");
    unusable = [...unusable, ...refused];
    changed();
    showProblems();
    const added = images.length - before;
    if (added || refused.length) announce([addedWords(added), ...refused].filter(Boolean).join(" "));
    return refused;
  }

  function addedWords(count) {
    return count > 0 ? `${counted(count, "image")} added to ${name.value || `class ${place}`}.` : "";
  }

  /** Give the class a name. */
  function call(text) {
    name.value = text;
    changed();
  }

  /** Give back the memory of its images; it is not used any more. */
  function empty() {
    for (const image of images) release(image);
    images = [];
  }

  function take(image) {
    const index = images.indexOf(image);
    images = images.filter((each) => each !== image);
    release(image);
    showImages();
    changed();
    const next = thumbnails.children[Math.min(index, images.length - 1)];
    (next?.querySelector("button") ?? name).focus();
    announce(`${image.name} removed.`);
  }

  function showImages() {
    const items = images.map((image) => {
      const shown = picture(image, image.name);
      const title = image.note ? `${image.name}. ${image.note}` : image.name;
      const away = button("\u00d7", () => take(image), { "aria-label": `Remove ${image.name}`, class: "away" });
      return element("li", { title, class: image.note ? "noted" : "" }, shown, away);
    });
    thumbnails.replaceChildren(...items);
    invitation.hidden = images.length > 0;
    count.textContent = images.length ? counted(images.length, "image") : "";
  }

  /** Show what is wrong with the class, below the files that were not taken. */
  function show(lines) {
    wrong = lines;
    name.setAttribute("aria-invalid", String(lines.length > 0));
    showProblems();
  }

  function showProblems() {
    const hidden = unusable.length - MOST_LINES;
    const more = hidden > 0 ? [`${counted(hidden, "more file")} cannot be used either.`] : [];
    const lines = [...unusable.slice(0, MOST_LINES), ...more, ...wrong];
    problems.replaceChildren(...lines.map((line) => element("li", {}, line)));
    problems.hidden = !lines.length;
  }

  function number(value) {
    place = value;
    label.textContent = `Class ${value}`;
    root.setAttribute("aria-label", `Class ${value}`);
    removeButton?.setAttribute("aria-label", `Remove class ${value}`);
  }

  function isFocused() {
    return root.contains(document.activeElement);
  }
}
