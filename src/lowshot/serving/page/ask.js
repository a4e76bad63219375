// The place where a classifier is asked.

import * as api from "./api.js";
import { showAnswer, showRefusal, spoken } from "./answer.js";
import { createCamera } from "./camera.js";
import { acceptDrops, announce, asked, button, byId, element, fileButton, say } from "./dom.js";
import { foundFile } from "./folders.js";
import { picture, prepare, release } from "./images.js";
import { createPad } from "./pad.js";
import { why } from "./why.js";
import { bytes, counted, heldOut, percent } from "./words.js";

const IMAGES_AT_ONCE = 8;
const KEPT_IMAGES = 24; // in the strip; older ones go
const NEIGHBOURS = 4;
const MANY_ADAPTERS = 12; // from here on the list can be narrowed
const LISTED_ADAPTERS = 300;
const MOST_CLASSES = 1000; // that the server names at once
const DRAWING_PAUSE = 250; // milliseconds after a stroke before the drawing is sent

/**
 * Set the place up: `{show(adapters, refused), select(name), current(), leave(), ask(files)}`.
 *
 * `chosen(name)` is called when the person chooses a classifier, `removed()` when one was removed, `reopened(adapter)`
 * to open its classes in the form, `correct(adapter, image, name)` to add an image to one of them (see teach.js),
 * `changing(adapter)` to add, remove or rename one (see change.js).
 */
export function createAsk(server, { chosen, removed, reopened, correct, changing }) {
  let listed = []; // all adapters
  let adapter = null; // the chosen one, with its details
  let wanted = null; // the name of the one that was chosen last, whose details may still be on their way
  let items = []; // images in the strip, newest first: {image, answers: Map of an adapter's key -> prediction}
  let current = null; // the item on the stage
  let drawing = null; // the item on the pad
  let request = new AbortController(); // what is under way; a later question ends an earlier one
  let timer = null;

  const pad = createPad(() => {
    clearTimeout(timer);
    timer = setTimeout(readDrawing, DRAWING_PAUSE);
    request.abort(); // what is under way is of the drawing as it was, and so is what is shown
    setBusy(!pad.isEmpty());
  });
  const camera = createCamera((file) => {
    setSource("picture");
    ask([foundFile(file)]);
  });
  byId("draw-source").append(pad.element);
  byId("camera-source").append(camera.element);
  byId("choose").append(fileButton("Choose images", ask, { id: "choose-images" }));
  for (const radio of document.querySelectorAll("[name=source]"))
    radio.addEventListener("change", () => setSource(radio.value));
  acceptDrops(byId("ask-place"), ask);
  byId("adapter").addEventListener("change", (event) => chosen(event.target.value));
  byId("adapter-filter").addEventListener("input", listAdapters);
  byId("compare").addEventListener("change", () => {
    for (const item of [...items, drawing]) item?.answers.clear();
    answerAll();
  });
  byId("compare-choice").hidden = !server.reads_names; // else there is nothing before it was taught
  if (server.model === "builtin") setSource("draw"); // what it knows is characters
  showCurrent();

  return { show, select, ask, leave: camera.stop, current: () => adapter?.name ?? null };

  // -- classifiers

  function show(adapters, refused) {
    listed = adapters;
    byId("adapter-filter").hidden = adapters.length <= MANY_ADAPTERS;
    byId("classifier").hidden = byId("bench").hidden = !adapters.length;
    byId("nothing-taught").hidden = adapters.length > 0;
    listAdapters();
    showRefused(refused);
    if (adapter && !adapters.some((each) => each.name === adapter.name)) forget();
  }

  function listAdapters() {
    const part = byId("adapter-filter").value.trim().toLowerCase();
    const narrowed = listed.filter((each) => each.name.toLowerCase().includes(part) || each.name === adapter?.name);
    const options = narrowed.slice(0, LISTED_ADAPTERS).map((each) => element("option", { value: each.name }, each.name));
    const left = narrowed.length - options.length;
    if (left > 0) options.push(element("option", { disabled: true }, `and ${left} more: narrow the list`));
    byId("adapter").replaceChildren(...options);
    if (adapter) byId("adapter").value = adapter.name;
  }

  function forget() {
    adapter = null;
    byId("adapter-facts").hidden = byId("adapter-actions").hidden = true;
    byId("answer").replaceChildren();
  }

  /** Choose a classifier by name; the images on show are asked of it at once. */
  async function select(name) {
    say(byId("adapter-problem"), null);
    byId("adapter").value = wanted = name;
    try {
      const described = await api.adapter(name);
      if (wanted !== name) return; // another was chosen meanwhile
      adapter = described;
    } catch (error) {
      forget();
      say(byId("adapter-problem"), error.message);
      return;
    }
    listAdapters();
    say(byId("adapter-facts"), facts(adapter));
    showActions();
    showCurrent();
    await answerAll();
  }

  function showActions() {
    const buttons = [
      button("Download", () => guarded(() => api.download(adapter.name)), { id: "download", class: "quiet" }),
    ];
    if (isTeachable(adapter)) buttons.push(button("Open in Teach", () => reopened(adapter), { id: "open", class: "quiet" }));
    if (server.teach) buttons.push(button("Change classes", () => changing(adapter), { id: "change", class: "quiet" }));
    if (server.teach) buttons.push(button("Remove", removeAdapter, { id: "remove", class: "quiet" }));
    byId("adapter-actions").replaceChildren(...buttons);
    byId("adapter-actions").hidden = false;
  }

  async function removeAdapter() {
    const { name } = adapter;
    byId("remove-title").textContent = `Remove ${name}?`;
    if ((await asked(byId("remove-dialog"))) !== "remove") return;
    await guarded(async () => {
      await api.remove(name);
      forget();
      announce(`${name} is removed.`);
      await removed();
    });
  }

  async function guarded(act) {
    say(byId("adapter-problem"), null);
    try {
      await act();
    } catch (error) {
      say(byId("adapter-problem"), error.message);
    }
  }

  // -- images

  function source() {
    return document.querySelector("[name=source]:checked").value;
  }

  function setSource(value) {
    document.querySelector(`[name=source][value=${value}]`).checked = true;
    for (const each of ["picture", "draw", "camera"]) byId(`${each}-source`).hidden = each !== value;
    if (value !== "camera") camera.stop();
    showCurrent();
  }

  /** Ask about found files. Those that cannot be used are named, the others are asked all the same. */
  async function ask(files) {
    setSource("picture");
    const problems = files.length ? [] : ["That was no file. Save the image first, or copy it and paste it here."];
    if (files.length > KEPT_IMAGES)
      problems.push(`${files.length} images came at once; the first ${KEPT_IMAGES} are asked about.`);
    const fresh = [];
    for (const file of files.slice(0, KEPT_IMAGES)) {
      try {
        fresh.push({ image: await prepare(file, server.limits), answers: new Map() });
      } catch (error) {
        problems.push(error.message);
      }
    }
    showProblems(problems);
    if (!fresh.length) return;
    items = [...fresh, ...items];
    for (const old of items.splice(KEPT_IMAGES)) release(old.image);
    current = items[0];
    showCurrent();
    await answerAll();
  }

  function showProblems(problems) {
    byId("unusable").replaceChildren(...problems.map((each) => element("li", {}, each)));
    byId("unusable").hidden = !problems.length;
  }

  async function readDrawing() {
    timer = null;
    if (pad.isDrawing()) return; // the end of the stroke brings us back
    const blob = pad.isEmpty() ? null : await pad.blob();
    if (timer !== null) return; // so does a stroke that has ended meanwhile
    drawing = blob && { image: { blob, name: "drawing.png" }, answers: new Map() };
    if (source() === "draw") showAnswerOf(drawing);
    if (drawing && adapter) await answerAll();
    else setBusy(false);
  }

  function subject() {
    return { picture: current, draw: drawing, camera: null }[source()];
  }

  function showCurrent() {
    byId("shown").replaceChildren(
      ...(current ? [picture(current.image, "the image that is asked about", current.image.url)] : []),
    );
    byId("stage-invitation").hidden = current !== null;
    say(byId("shown-note"), current?.image.note);
    showStrip();
    showAnswerOf(subject());
  }

  function showStrip() {
    byId("strip").hidden = items.length < 2;
    const tiles = items.map((item) => {
      const best = adapter && item.answers.get(keyOf(adapter))?.classes?.[0].name;
      const pick = () => {
        current = item;
        showCurrent();
        byId("strip").children[items.indexOf(item)].firstChild.focus();
      };
      const label = `${item.image.name}${best ? `: ${best}` : ""}`;
      const tile = button("", pick, { "aria-pressed": String(item === current), "aria-label": label });
      tile.append(picture(item.image, ""), element("span", {}, best ?? "\u2026"));
      return element("li", {}, tile);
    });
    byId("strip").replaceChildren(...tiles);
  }

  // -- answers

  /** Ask for whatever has no answer of this classifier yet, the image on show first. */
  async function answerAll() {
    request.abort();
    request = new AbortController();
    setBusy(false);
    if (!adapter) return;
    const { signal } = request;
    const first = subject();
    const waiting = [first, ...items.filter((item) => item !== first)].filter(
      (item) => item && !item.answers.has(keyOf(adapter)),
    );
    const portion = Math.min(server.limits.images_per_request, IMAGES_AT_ONCE);
    // The image on show goes alone, so that its answer does not wait for the others.
    for (let start = 0; start < waiting.length; start += start ? portion : 1) {
      const asked = waiting.slice(start, start ? start + portion : 1);
      if (!(await answered(asked, adapter, signal))) return;
    }
  }

  /** Get the answers of some items and show them; whether to go on. */
  async function answered(asked, by, signal) {
    const isShown = asked.includes(subject());
    if (isShown) setBusy(true);
    try {
      const options = {
        top: Math.min(by.class_names.length, MOST_CLASSES),
        zeroShot: byId("compare").checked,
        neighbours: NEIGHBOURS,
        signal,
        busy,
      };
      const { predictions } = await api.predict(
        by.name,
        asked.map((item) => item.image),
        options,
      );
      asked.forEach((item, index) => item.answers.set(keyOf(by), predictions[index]));
      if (asked.includes(subject())) announce(spoken(subject().answers.get(keyOf(by))));
      showCurrent();
      return true;
    } catch (error) {
      if (error.name === "AbortError") return false;
      // A request of bad images alone is refused as a whole: that is these images' answer, and no reason to stop.
      if (error.status === 422 || error.status === 415) {
        for (const item of asked) item.answers.set(keyOf(by), { error: { message: error.message } });
        showCurrent();
        return true;
      }
      showRefusal(byId("answer"), error.message, button("Try again", answerAll));
      return false;
    } finally {
      if (isShown && !signal.aborted) setBusy(false);
    }
  }

  function setBusy(on) {
    byId("answer").setAttribute("aria-busy", String(on));
  }

  function busy(pause) {
    const words = `The server is busy; asking again in ${counted(pause, "second")}.`;
    byId("answer").replaceChildren(element("p", { class: "note" }, words));
    announce(words);
  }

  function showAnswerOf(item) {
    const prediction = adapter && item?.answers.get(keyOf(adapter));
    const further = prediction && !prediction.error ? [why(adapter, item.image, prediction), correction(item)] : [];
    if (prediction) showAnswer(byId("answer"), prediction, adapter, further);
    else if (!item) byId("answer").replaceChildren(...(adapter ? [waitingWords()] : []));
  }

  /** The way to say what an image really is; a line where that was said; null where nothing can be taught. */
  function correction(item) {
    const { labels, classes } = item.answers.get(keyOf(adapter));
    if (!isTeachable(adapter) || labels) return null; // a picture is taught one class
    if (item.corrected) {
      const link = element("a", { href: "#teach" }, "Teach again with it");
      return element("p", { class: "note corrected" }, `${item.corrected} `, link);
    }
    const best = classes[0].name;
    const names = adapter.class_names.filter((name) => name !== best);
    const options = names.map((name) => element("option", { value: name }, name));
    const another = element("option", { value: "" }, "another class, which it does not know");
    const select = element("select", { "aria-label": "What it is" }, ...options, another);
    const problem = element("p", { class: "problem", role: "alert", hidden: true });
    const add = button("Add it to this class", async () => {
      const refused = await correct(adapter, item.image, select.value);
      say(problem, refused);
      if (refused) return;
      item.corrected = select.value ? `Added to \u201c${select.value}\u201d.` : "Added to a new class.";
      announce(item.corrected);
      showAnswerOf(subject());
    });
    const words = element("summary", {}, "This is wrong");
    return element("details", { class: "wrong" }, words, element("div", { class: "row" }, "It is", select, add), problem);
  }

  function isTeachable({ class_names: names }) {
    return server.teach && names.length <= server.limits.classes;
  }

  function waitingWords() {
    const names = adapter.class_names.slice(0, 12).join(", ");
    const more = adapter.class_names.length > 12 ? ", \u2026" : "";
    return element("p", { class: "standfirst" }, `It tells apart ${names}${more}.`);
  }
}

/** Tells an adapter from another that has its name later. */
const keyOf = (adapter) => `${adapter.name} ${adapter.created}`;

function facts(adapter) {
  const parts = [
    adapter.method,
    counted(adapter.class_names.length, "class", "classes"),
    adapter.shots ? `${counted(adapter.shots, "image")} each` : null,
    adapter.bytes ? bytes(adapter.bytes) : null,
    typeof adapter.accuracy === "number" ? `${percent(adapter.accuracy)} right on unseen images` : null,
    adapter.held_out ? heldOut(adapter.held_out) : null,
  ];
  return parts.filter(Boolean).join(" \u00b7 ");
}

function showRefused(refused) {
  const place = byId("refused");
  place.hidden = !refused.length;
  place.querySelector("summary").textContent = `${counted(refused.length, "folder")} could not be loaded`;
  place
    .querySelector("ul")
    .replaceChildren(...refused.map((each) => element("li", {}, `${each.name}: ${each.reason}`)));
}
