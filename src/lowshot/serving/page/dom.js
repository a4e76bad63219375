// The few things that every part of the page does with the document.

import { droppedFiles, foundFile } from "./folders.js";

/** The element of an id; every id that is asked for is in index.html. */
export const byId = (id) => document.getElementById(id);

/** A new element. A function among the attributes listens to the event of that name; null and false are left out. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A button that does not send a form. */
export function button(label, click, attributes = {}) {
  return element("button", { type: "button", click, ...attributes }, label);
}

/** A button that opens the file chooser: a file input, which the keyboard reaches too, inside its label. `choose` is
 * called with found files (see folders.js). */
export function fileButton(label, choose, attributes = {}) {
  const input = element("input", {
    type: "file",
    accept: "image/*,.heic,.tif,.tiff,.ppm,.pgm",
    multiple: true,
    ...attributes,
  });
  input.addEventListener("change", () => {
    const files = Array.from(input.files, foundFile);
    input.value = ""; // so that the same file can be chosen again
    if (files.length) choose(files);
  });
  return element("label", { class: "button" }, label, input);
}

/** Say something to those who listen to the page, and to nobody else. */
export function announce(text) {
  byId("announcement").textContent = text;
}

/** Ask a question in a dialog; gives the value of the button that answered it, "" where it was closed. */
export function asked(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

/** Show a line of words in an element, or hide it if there are none. */
export function say(target, text) {
  target.textContent = text ?? "";
  target.hidden = !text;
}

/** Call `take` with what is dropped on an element: found files (see folders.js), those in folders too. */
export function acceptDrops(target, take) {
  let depth = 0; // dragenter and dragleave come for every child too
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    target.classList.toggle("over", depth > 0);
  };
  target.addEventListener("dragenter", (event) => {
    event.preventDefault();
    mark(1);
  });
  target.addEventListener("dragleave", () => mark(-1));
  target.addEventListener("dragover", (event) => event.preventDefault());
  target.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    depth = 0;
    mark(0);
    take(await droppedFiles(event.dataTransfer));
  });
}

export const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
