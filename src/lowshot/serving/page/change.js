// The dialog in which a classifier gets a class more, loses one, or calls one by another name. What comes of it is a
// classifier more; the one that is changed stays as it is.

import * as api from "./api.js";
import { createCard } from "./cards.js";
import { problemsOfName, sizeOf, suggestedName, tooLargeToSend } from "./checks.js";
import { announce, button, byId, element, say } from "./dom.js";
import { drawing } from "./sources.js";
import { follow, whyNot } from "./training.js";
import { counted } from "./words.js";

const FEWEST_CLASSES = 2;

/** Set the dialog up: `{open(adapter)}`. `names()` gives the classifiers there are; `changed()` is called for a new one. */
export function createChange(server, { names, changed }) {
  const { limits } = server;
  const dialog = byId("change-dialog");
  const nameField = byId("change-name");
  const panel = byId("change-progress");
  let adapter = null;
  let card = null; // the class that is added
  let running = false;

  byId("change-add").addEventListener("submit", (event) => {
    event.preventDefault();
    add();
  });
  byId("change-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => card?.empty());
  return { open };

  /** Show the classes of a classifier. */
  function open(described) {
    adapter = described;
    byId("change-title").textContent = `Classes of ${adapter.name}`;
    byId("change-kept").textContent = `What comes of it is a new classifier; ${adapter.name} stays as it is.`;
    nameField.value = suggestedName([], names(), adapter.name);
    card = createCard(limits, {
      changed: () => complain(null),
      entered: () => {},
      drawing,
      dropped: (_, found) => card.add(found.map((each) => ({ ...each, folders: [] }))),
    });
    card.number(adapter.class_names.length + 1);
    byId("change-card").replaceChildren(card.element);
    byId("change-classes").replaceChildren(...adapter.class_names.map(row));
    complain(null);
    panel.hidden = true;
    panel.replaceChildren();
    if (!dialog.open) dialog.showModal();
    byId("change-title").focus();
  }

  /** A class with what can be done to it. */
  function row(name) {
    const field = element("input", { "aria-label": `Another name for ${name}`, maxlength: "100", autocomplete: "off" });
    const save = element("button", { type: "submit" }, "Save");
    const leave = button("Cancel", () => edit(false));
    const form = element("form", { class: "row", hidden: true, novalidate: true }, field, save, leave);
    const rename = button("Rename", () => edit(true), { "aria-label": `Rename ${name}`, class: "quiet" });
    const remove = button("Remove", () => removed(name), { "aria-label": `Remove ${name}`, class: "quiet" });
    if (adapter.class_names.length <= FEWEST_CLASSES) {
      remove.disabled = true;
      remove.title = "A classifier has two classes at least.";
    }
    const shown = element("div", { class: "row" }, element("span", { class: "name" }, name), rename, remove);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      renamed(name, field.value.trim());
    });
    return element("li", {}, shown, form);

    function edit(on) {
      shown.hidden = on;
      form.hidden = !on;
      field.value = name;
      if (on) field.select();
      else rename.focus();
    }
  }

  async function add() {
    const { name, images } = card.value();
    const problems = [];
    if (!name.trim()) problems.push("The class has no name.");
    if (!images.length) problems.push("The class has no images: add a few.");
    const size = sizeOf([{ images }]);
    if (size > limits.teaching_bytes) problems.push(tooLargeToSend(size, limits.teaching_bytes));
    card.show(problems);
    if (problems.length) return card.focus();
    await run((newName) => api.addTo(adapter.name, newName, name.trim(), images), `with ${name.trim()}`);
  }

  async function removed(name) {
    await run((newName) => api.withoutClass(adapter.name, newName, name), `without ${name}`);
  }

  async function renamed(old, name) {
    if (!name || name === old) return complain(`Give ${old} another name.`);
    await run((newName) => api.renamedClass(adapter.name, newName, old, name), `in which ${old} is ${name}`);
  }

  function complain(message) {
    say(byId("change-problem"), message);
  }

  /** Begin a job and follow it to its end; what is wrong is said, and nothing that was put in is lost. */
  async function run(begin, difference) {
    const newName = nameField.value.trim();
    const [wrong] = problemsOfName(newName, names());
    nameField.setAttribute("aria-invalid", String(wrong !== undefined));
    complain(wrong?.message ?? null);
    if (wrong) return nameField.focus();
    if (running) return complain("Another change is under way; wait for it.");
    running = true;
    try {
      const { job: id } = await begin(newName);
      const job = await follow(id, panel);
      if (job?.state !== "done") throw new Error(whyNot(job));
      await changed();
      await done(job, difference);
    } catch (error) {
      panel.hidden = true;
      complain(error.message);
    } finally {
      running = false;
    }
  }

  async function done(job, difference) {
    const { name, class_names: classes } = await api.adapter(job.adapter);
    const words = `${name} is there: ${adapter.name} ${difference}, ${counted(classes.length, "class", "classes")}.`;
    const ask = element("a", { class: "button primary", href: `#ask/${encodeURIComponent(name)}` }, "Ask it");
    ask.addEventListener("click", () => dialog.close());
    const title = element("h3", { tabindex: "-1" }, words);
    const notes = job.notes.map((note) => element("p", { class: "note" }, note));
    panel.replaceChildren(title, ...notes, element("div", { class: "row" }, ask));
    nameField.value = suggestedName([], names(), adapter.name);
    title.focus();
    announce(words);
  }
}
