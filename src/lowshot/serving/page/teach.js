// The place where a classifier is taught. Nothing that was put in is lost: the form stays as it is while a training
// runs, after it failed, and after it is done.

import * as api from "./api.js";
import { createCard } from "./cards.js";
import { isBegun, problemsOf, sizeOf, suggestedName, tooLargeToSend } from "./checks.js";
import { announce, asked, button, byId, element, fileButton, say } from "./dom.js";
import { classesOf, foundFile } from "./folders.js";
import { smaller } from "./images.js";
import { drawing } from "./sources.js";
import { follow, showFailed, showTaught, whyNot } from "./training.js";
import { counted } from "./words.js";

const FIRST_CARDS = 3;
const CALIBRATION_FOLDS = 5;
const AUTO = "auto"; // holds images out by itself
const METHODS = {
  [AUTO]: "auto: the best of several on held-out images",
  "lora-xs": "lora-xs: the smallest adapter",
  lora: "lora: low-rank updates of both towers",
  "zero-shot": "zero-shot: by the names alone",
};

const sameName = (one, other) => one.trim().toLowerCase() === other.trim().toLowerCase();

/**
 * Set the place up: `{add(found), dropped(found), open(adapter), correct(adapter, image, name), resume()}`.
 *
 * `taught()` is called when there is a new classifier; `names()` gives those that there are.
 */
export function createTeach(server, { taught, names }) {
  const limits = server.limits;
  const panel = byId("training");
  const nameField = byId("classifier-name");
  let cards = [];
  let unsent = false; // something was put in since the last training that was sent and done
  let nameIsOurs = true; // the name was suggested, not typed
  let opened = null; // name of the classifier whose classes these are
  let opening = Promise.resolve(); // until its images are here
  let wereProblems = false;

  byId("teach-form").hidden = !server.teach;
  byId("teach-off").hidden = server.teach;
  byId("method").replaceChildren(
    ...server.methods.map((method) => element("option", { value: method }, METHODS[method] ?? method)),
  );
  if (server.methods.includes(AUTO)) byId("method").value = AUTO;
  byId("method").addEventListener("change", offerHoldingOut);
  offerHoldingOut();
  byId("characters-only").hidden = server.model !== "builtin";
  byId("names-matter").hidden = !server.reads_names;
  for (let number = 0; number < FIRST_CARDS; number += 1) addCard();
  byId("add-class").addEventListener("click", () => addCard().focus());
  byId("class-buttons").append(fileButton("Choose folders", (found) => dropped(null, found), { webkitdirectory: true }));
  byId("teach-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  nameField.addEventListener("input", () => {
    nameIsOurs = nameField.value === "";
    changed();
  });
  window.addEventListener("beforeunload", (event) => {
    if (unsent) event.preventDefault();
  });
  return { add, dropped: (found) => dropped(null, found), open, correct, resume };

  // -- the form

  function addCard() {
    const card = createCard(limits, { changed, removed, entered, drawing, dropped });
    cards.push(card);
    byId("classes").append(card.element);
    renumber();
    return card;
  }

  function removed(card) {
    const index = cards.indexOf(card);
    cards = cards.filter((each) => each !== card);
    card.element.remove();
    if (!cards.length) addCard();
    renumber();
    changed();
    cards[Math.min(index, cards.length - 1)].focus();
    announce(`Class ${index + 1} removed.`);
  }

  function renumber() {
    cards.forEach((card, index) => card.number(index + 1));
  }

  /** Enter goes on to the next class, and makes one after the last. */
  function entered(card) {
    (cards[cards.indexOf(card) + 1] ?? addCard()).focus();
  }

  function changed() {
    const begun = begunCards();
    unsent = begun.length > 0;
    if (nameIsOurs)
      nameField.value = suggestedName(
        begun.map((card) => card.value()),
        names(),
        opened,
      );
    if (wereProblems) check(); // what is mended must not stay marked
  }

  function begunCards() {
    return cards.filter((card) => isBegun(card.value()));
  }

  /** Pasted images go to the class that the person is in, else to the first without any. */
  function add(found) {
    const card =
      cards.find((each) => each.isFocused()) ?? cards.find((each) => !each.value().images.length) ?? addCard();
    card.add(found);
  }

  /** Take what was dropped on a class, or beside all of them (null): images for that class, a class for each folder. */
  async function dropped(card, found) {
    const loose = found.filter((each) => !each.folders.length);
    const { classes, notes } = classesOf(
      found.filter((each) => each.folders.length),
      limits,
    );
    const nothing = !classes.length && !notes.length;
    if (card && (loose.length || nothing)) await card.add(loose);
    else if (loose.length) notes.push(`${loose[0].name}: drop images onto the class that they are of; folders anywhere.`);
    else if (nothing) notes.push("There was no image in that. Drop images onto a class, or a folder of them anywhere.");
    byId("left-out").replaceChildren(...notes.map((note) => element("li", {}, note)));
    byId("left-out").hidden = !notes.length;
    for (const { name, files } of classes) {
      const own = classes.length === 1 && card && isBegun(card.value()) ? card : cardFor(name);
      await own.add(files);
    }
  }

  /** The card of a class: the one of this name, or an untouched one that gets it. */
  function cardFor(name) {
    const there = cards.find((each) => sameName(each.value().name, name));
    if (there) return there;
    const card = cards.find((each) => !isBegun(each.value())) ?? addCard();
    card.call(name);
    return card;
  }

  // -- a classifier that was taught before

  /** Put the classes of a classifier in place of those in the form; whether that was done. */
  async function open(adapter) {
    if (unsent && (await asked(byId("replace-dialog"))) !== "replace") return false;
    for (const card of cards) {
      card.empty();
      card.element.remove();
    }
    cards = [];
    opened = adapter.name;
    nameIsOurs = true;
    panel.hidden = byId("left-out").hidden = true;
    for (const name of adapter.class_names) cardFor(name);
    showProblems([]);
    opening = addExamples(adapter);
    return true;
  }

  async function addExamples(adapter) {
    const { name, examples } = adapter;
    say(
      byId("opened"),
      examples.length
        ? `${counted(examples.length, "image")} of ${name}, as the server keeps them: large ones made smaller. What is taught from here is a new classifier; ${name} stays as it is.`
        : `${name} has none of the images that it learnt from: add images of each class.`,
    );
    for (const each of adapter.class_names) {
      const files = examples.filter((example) => example.class === each).map((example) => exampleFile(name, example));
      if (files.length) await cardFor(each).add(files);
    }
    unsent = false;
  }

  function exampleFile(adapter, { id, class: name }) {
    const title = `${name} ${Number(id) + 1}`;
    return { name: title, folders: [], open: async () => new File([await api.example(adapter, id)], title) };
  }

  /** Add an image to a class of a classifier, or to a new class (""); gives why not, or null where it is done. */
  async function correct(adapter, image, name) {
    if (opened !== adapter.name && !(await open(adapter))) return "Nothing was changed.";
    await opening;
    const card = name ? cardFor(name) : addCard();
    const [refused] = await card.add([foundFile(new File([image.blob], image.name, { type: image.blob.type }))]);
    return refused ?? null;
  }

  /** Show what is wrong; whether nothing is. */
  function check() {
    const problems = problemsOf(
      { name: nameField.value.trim(), classes: cards.map((card) => card.value()) },
      names(),
      limits,
    );
    cards.forEach((card, index) =>
      card.show(problems.filter((each) => each.about === index).map((each) => each.message)),
    );
    nameField.setAttribute("aria-invalid", String(problems.some((each) => each.about === "name")));
    showProblems(problems.map((each) => each.message));
    return !problems.length;
  }

  function showProblems(messages) {
    const place = byId("problems");
    wereProblems = messages.length > 0;
    place.hidden = !messages.length;
    place.replaceChildren(
      element("p", {}, "Before this can be taught:"),
      element("ul", {}, ...messages.map((message) => element("li", {}, message))),
    );
  }

  // -- training

  async function send() {
    await opening;
    if (!check()) {
      byId("problems").focus();
      return;
    }
    const classes = await withinLimits(begunCards().map((card) => card.value()));
    const size = sizeOf(classes);
    if (size > limits.teaching_bytes) {
      showProblems([tooLargeToSend(size, limits.teaching_bytes)]);
      return;
    }
    const named = classes.map(({ name, images }) => ({ name: name.trim(), images }));
    const adapter = await run(() => api.teach(nameField.value.trim(), settings(), named));
    if (adapter) opened = adapter;
    changed();
    unsent = unsent && !adapter;
  }

  /** Whether to hold images out is asked where the method does not do it by itself. */
  function offerHoldingOut() {
    const isOffered = byId("method").value !== AUTO && server.settings.includes("calibration_folds");
    byId("calibrate-choice").hidden = !isOffered;
  }

  function settings() {
    const method = byId("method").value;
    const isHeldOut = byId("calibrate").checked && !byId("calibrate-choice").hidden;
    return isHeldOut ? { method, calibration_folds: CALIBRATION_FOLDS } : { method };
  }

  /** The classes as they are if they fit into one request, else with their largest images scaled down. */
  async function withinLimits(classes) {
    if (sizeOf(classes) <= limits.teaching_bytes) return classes;
    announce("Scaling the largest images down so that all fit.");
    const scaled = [];
    for (const { name, images } of classes) {
      const fitted = [];
      for (const image of images) fitted.push(await smaller(image));
      scaled.push({ name, images: fitted });
    }
    return scaled;
  }

  /** Begin a job and follow it to its end; gives the name of what was taught, or null. */
  async function run(begin) {
    busy(true);
    try {
      const { job: id } = await begin();
      return await finish(await follow(id, panel));
    } catch (error) {
      showFailed(panel, error.message);
      return null;
    } finally {
      busy(false);
    }
  }

  async function finish(job) {
    if (job?.state !== "done") {
      showFailed(panel, whyNot(job));
      return null;
    }
    await taught();
    showTaught(panel, job, await api.adapter(job.adapter));
    return job.adapter;
  }

  function busy(on) {
    byId("teach-button").disabled = on;
    byId("teach-button").textContent = on ? "Teaching\u2026" : "Teach";
    if (!on) return;
    showProblems([]);
    panel.scrollIntoView({ block: "nearest" });
  }

  /** A training that was under way when the page was opened goes on being shown. */
  async function resume() {
    const { jobs } = await api.jobs().catch(() => ({ jobs: [] }));
    const underWay = jobs.find((job) => ["queued", "running"].includes(job.state));
    if (underWay) await run(async () => ({ job: underWay.id }));
  }
}
