// The page of cards: one at a time, answered with one key, each answer sent at once.

import { announce, button, byId, element, say } from "../static/dom.js";
import { counted, percent } from "../static/words.js";
import { answersOf, choiceInWords, keyOfClass, sameChoice } from "./keys.js";
import * as server from "./server.js";

const AHEAD = 4; // images that are fetched before their turn
const MANY_CLASSES = 12; // from so many on they can be searched

let state = null;
let place = 0; // of the card that is shown; as many as there are cards where the end is
let history = []; // keys of cards that were answered on this page, the last one at the end
let unsent = Promise.resolve(); // answers are sent one after the other
let sending = 0;
let isLooking = false;

document.addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());
byId("with-keys").addEventListener("change", show);
byId("find").addEventListener("input", showClasses);
byId("find").addEventListener("keydown", (event) => {
  if (event.key === "Escape") leaveSearch();
  if (event.key !== "Enter") return;
  event.preventDefault();
  byId("classes").querySelector("button")?.click();
});
byId("new-class").addEventListener("submit", addClass);
start();

async function start() {
  if (!(await load())) return;
  place = firstOpen(0);
  show();
}

/** Take over what the server has; whether it answered. A card that another page has answered meanwhile is passed. */
async function load() {
  try {
    const wasOpen = state && card() && isOpen(card());
    state = await server.state();
    if (wasOpen && card() && !isOpen(card())) place = firstOpen(place);
    say(byId("outage"), null);
    return true;
  } catch (error) {
    outage(error);
    return false;
  }
}

/** Look whether another page has answered meanwhile. */
async function refresh() {
  if (!state || sending || isLooking) return;
  const { revision, round } = state;
  if (!(await load()) || state.revision === revision) return;
  if (state.round !== round) place = firstOpen(0);
  show();
}

function outage(error) {
  say(byId("outage"), `${error.message} `);
  byId("outage").append(button("Try again", start));
}

const card = () => state.cards[place];
const isOpen = (each) => Object.keys(each.choice).length === 0;

/** The first card from a place on that is not answered, or one before it; the end where all are. */
function firstOpen(from) {
  const after = state.cards.findIndex((each, index) => index >= from && isOpen(each));
  const any = after >= 0 ? after : state.cards.findIndex(isOpen);
  return any >= 0 ? any : state.cards.length;
}

// Answers

function answer(choice) {
  const current = card();
  if (!current || isLooking || !byId("outage").hidden) return;
  say(byId("refused"), null);
  current.choice = choice;
  history = [...history.filter((key) => key !== current.key), current.key];
  announce(`${choiceInWords(current, choice)}.`);
  send(current, choice);
  place = firstOpen(place + 1);
  show();
  focusQuestion();
}

/** Take the last answer of this page back, and show its card. */
function undo() {
  const key = history.pop();
  const index = state.cards.findIndex((each) => each.key === key);
  if (index < 0) return;
  place = index;
  card().choice = {};
  announce("Taken back.");
  send(card(), {});
  show();
  focusQuestion();
}

function go(step) {
  place = Math.min(Math.max(0, place + step), state.cards.length);
  say(byId("refused"), null);
  show();
  focusQuestion();
}

/** Send an answer behind those that are on their way; where one is refused its card is shown as it is on the disk. */
function send(sent, choice) {
  sending += 1;
  unsent = unsent
    .then(() => server.decide(sent.key, choice))
    .then((figures) => {
      const isAlone = figures.revision === state.revision + 1;
      Object.assign(state, figures);
      sending -= 1;
      if (!isAlone && !sending) reload(null);
      else if (!card()) showEnd();
    })
    .catch((error) => {
      sending -= 1;
      return error.status ? reload(sent.key, error) : outage(error);
    });
}

async function reload(key, error) {
  if (!(await load())) return;
  const index = state.cards.findIndex((each) => each.key === key);
  if (index >= 0) place = index;
  if (place > state.cards.length) place = firstOpen(0);
  show();
  if (error) say(byId("refused"), error.message);
}

async function addClass(event) {
  event.preventDefault();
  const field = byId("new-name");
  if (!field.value.trim()) return;
  try {
    const { name, revision } = await server.addClass(field.value);
    state.revision = revision;
    if (!state.classes.includes(name)) state.classes.push(name);
    field.value = "";
    answer({ label: name });
  } catch (error) {
    if (error.status) say(byId("refused"), error.message);
    else outage(error);
  }
}

async function teachOn() {
  if (isLooking) return;
  isLooking = true;
  showEnd();
  byId("end-title").focus();
  try {
    await unsent;
    state = await server.nextRound(state.round);
    history = [];
    place = firstOpen(0);
    isLooking = false;
    show();
    focusQuestion();
  } catch (error) {
    isLooking = false;
    show();
    if (error.status) say(byId("end-problem"), error.message);
    else outage(error);
  }
}

// Keys

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !state || !byId("with-keys").checked) return;
  const target = event.target;
  if (target.matches("input:not([type=checkbox]), textarea, select")) return;
  if (target.matches("button, a, input") && ["Enter", " "].includes(event.key)) return; // they are pressed themselves
  const act = actionOf(event.key.length === 1 ? event.key.toLowerCase() : event.key);
  if (!act) return;
  event.preventDefault();
  if (!event.repeat) act(); // a key that is held down is one answer
}

function actionOf(key) {
  if (["u", "Backspace"].includes(key)) return history.length ? undo : null;
  if (key === "ArrowLeft") return place > 0 ? () => go(-1) : null;
  if (key === "ArrowRight") return place < state.cards.length ? () => go(1) : null;
  if (!card()) return key === "Enter" && state.cards.length ? teachOn : null;
  if (key === "/") return byId("find").hidden ? null : () => byId("find").focus();
  if (key === "+") return byId("new-class").hidden ? null : () => byId("new-name").focus();
  const own = answersOf(card()).find((each) => each.key === key);
  if (own) return () => answer(own.choice);
  const name = card().kind === "copies" ? undefined : state.classes.find((_, index) => keyOfClass(index) === key);
  return name === undefined ? null : () => answer({ label: name });
}

function leaveSearch() {
  byId("find").value = "";
  showClasses();
  focusQuestion();
}

// What is shown

function show() {
  document.body.classList.toggle("no-keys", !byId("with-keys").checked);
  const done = state.cards.filter((each) => !isOpen(each)).length;
  byId("progress").max = Math.max(1, state.cards.length);
  byId("progress").value = done;
  byId("count").textContent = state.cards.length
    ? `${done} of ${counted(state.cards.length, "card")}${state.round > 1 ? `, round ${state.round}` : ""}`
    : "";
  byId("where").textContent = state.where;
  byId("then").hidden = !state.then;
  byId("then").querySelector("code").textContent = state.then;
  showEnd();
  byId("card").hidden = !card();
  if (card()) showCard();
}

function showCard() {
  const current = card();
  byId("pictures").classList.toggle("two", current.images.length > 1);
  byId("pictures").replaceChildren(...current.images.map((image, index) => figure(image, current, index)));
  for (const next of state.cards.slice(place + 1, place + 1 + AHEAD)) {
    for (const image of next.images) new Image().src = address(image);
  }
  byId("question").textContent = questionOf(current);
  byId("facts").textContent = factsOf(current);
  const words = choiceInWords(current, current.choice);
  say(byId("answer"), words === null ? null : `Answered: ${words}`);
  byId("answers").replaceChildren(
    ...answersOf(current).map(({ key, label, choice }) => {
      const isGiven = sameChoice(choice, current.choice);
      return keyButton(label, key, () => answer(choice), { class: key === "Enter" ? "primary" : "", "aria-pressed": String(isGiven) });
    }),
  );
  byId("moves").replaceChildren(
    button("Back", () => go(-1), { disabled: place === 0, title: "Left arrow" }),
    button("Forward", () => go(1), { title: "Right arrow" }),
    keyButton("Undo", "u", undo, { disabled: !history.length }),
    ...(current.kind === "suggestion" ? [button("Teach on now", teachOn)] : []),
  );
  byId("find").value = "";
  showClasses();
  byId("key-help").textContent = keyHelp(current);
}

function showClasses() {
  const current = card();
  if (!current) return;
  const hasClasses = current.kind !== "copies";
  byId("class-place").hidden = !hasClasses;
  if (!hasClasses) return;
  byId("find").hidden = state.classes.length < MANY_CLASSES;
  byId("new-class").hidden = current.kind !== "suggestion";
  const part = byId("find").value.trim().toLowerCase();
  const buttons = state.classes.map((name, index) => ({ name, key: keyOfClass(index) }));
  byId("classes").replaceChildren(
    ...buttons
      .filter(({ name }) => name.toLowerCase().includes(part))
      .map(({ name, key }) => {
        const isGiven = current.choice.label === name;
        return keyButton(name, key, () => answer({ label: name }), { "aria-pressed": String(isGiven) });
      }),
  );
}

function showEnd() {
  byId("end").hidden = Boolean(card()) && !isLooking;
  if (byId("end").hidden) return;
  byId("card").hidden = true;
  byId("looking").hidden = !isLooking;
  say(byId("end-problem"), null);
  const { title, facts } = endInWords();
  byId("end-title").textContent = title;
  byId("end-facts").textContent = facts;
  const { right, of } = state.guesses;
  say(byId("end-guesses"), of && !isLooking ? `Its guess was right for ${right} of ${counted(of, "image")}: these are the ones it was least sure of.` : null);
  const again = state.kind === "suggest" ? "Teach on" : "Look again";
  const buttons = isLooking || !state.cards.length ? [] : [keyButton(again, "Enter", teachOn, { class: "primary" })];
  if (!isLooking && state.cards.length) buttons.push(button("Back", () => go(-1)));
  byId("end-buttons").replaceChildren(...buttons);
}

function endInWords() {
  if (isLooking) return { title: "Learning from the labels so far \u2026", facts: "" };
  const labelled = counted(state.labelled, "label");
  if (state.cards.length) return { title: "All answered", facts: `${labelled} given on this page so far.` };
  const nothing = {
    suggest: "All images of the folder are answered",
    doubt: "No label is doubted",
    copies: "No image is there twice",
  };
  return { title: nothing[state.kind], facts: state.labelled ? `${labelled} given on this page.` : "" };
}

function figure(image, current, index) {
  const shown = element("img", { alt: image.name, draggable: "false" });
  const stage = element("div", { class: "stage" }, shown);
  shown.addEventListener("load", () => shown.classList.toggle("tiny", shown.naturalWidth < 97));
  shown.addEventListener("error", () => {
    stage.replaceChildren(element("p", { class: "unseen" }, "This image cannot be shown: it has gone, or cannot be read. Skip it."));
  });
  shown.src = address(image);
  const of = current.kind === "copies" ? `${index + 1}: ${current.labels[index]} \u00b7 ` : "";
  return element("figure", {}, stage, element("figcaption", {}, `${of}${image.name}`));
}

function questionOf({ kind, looks_like: guess, labels }) {
  if (kind === "copies") return "Are both to stay?";
  if (kind === "doubt") return `Is it ${labels[0]}?`;
  return guess ? `Is it ${guess}?` : "What is it?";
}

function factsOf({ kind, looks_like: guess, probability, why, labels }) {
  if (kind === "copies") return `They show ${why}. The first is ${labels[0]}, the second ${labels[1]}.`;
  if (kind === "doubt") return `It looks like ${guess}: its label is wrong with probability ${percent(probability)}.`;
  const sure = guess ? `With probability ${percent(probability)}. ` : "";
  return sure + (why === "typical" ? "It is typical of many." : "It stands for many that the classifier is unsure of.");
}

function keyHelp({ kind }) {
  const undoing = "u takes back, arrows look at other cards";
  if (kind === "copies") return `1, 2, k, x, s; ${undoing}`;
  const guess = kind === "doubt" ? "Enter for what it looks like, k for its label, x leaves it out" : "Enter for the guess";
  const more = kind === "suggestion" ? ", + for another class" : "";
  return `${guess}, digits and letters for classes${more}, s skips, ${undoing}`;
}

function keyButton(label, key, click, attributes = {}) {
  const made = button(label, click, { ...attributes, "aria-keyshortcuts": key });
  if (key) made.prepend(element("kbd", { "aria-hidden": "true" }, key === "Enter" ? "\u21b5" : key));
  return made;
}

function focusQuestion() {
  byId(card() ? "question" : "end-title").focus({ preventScroll: true });
}

const address = (image) => `images/${image.id}`;
