// What is wrong with a teaching form, found before anything is sent. Pure: from what was put in to a list of
// `{about, message}`, where `about` is the class (its place in the list), "name" or null.

import { bytes, counted } from "./words.js";

const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const ALLOWED = "small letters, digits, dots, hyphens and underscores, beginning with a letter or digit";
const LONGEST_CLASS_NAME = 100;

/** All problems of `{name, classes: [{name, images}]}`, in the order of the form. Untouched classes are no mistake. */
export function problemsOf({ name, classes }, takenNames, limits) {
  return [
    ...classes.flatMap((each, index) => (isBegun(each) ? problemsOfClass(each, index, limits) : [])),
    ...sameNames(classes),
    ...sameImages(classes),
    ...problemsOfAll(classes.filter(isBegun), limits),
    ...problemsOfName(name, takenNames),
  ];
}

/** Whether anything was put into a class. */
export const isBegun = (each) => each.name.trim() !== "" || each.images.length > 0;

/** A name that is free and allowed: the next after `opened`, a classifier's name, else made of the class names. */
export function suggestedName(classes, takenNames, opened = null) {
  return freeName(opened ? opened.replace(/-\d+$/, "") : nameOf(classes), takenNames);
}

/** Class names as one name: "circle-square-star". */
function nameOf(classes) {
  const plain = classes
    .map((each) =>
      each.name
        .toLowerCase()
        .normalize("NFKD")
        .replace(/[^a-z0-9]+/g, "-")
        .replace(/^-+|-+$/g, ""),
    )
    .filter(Boolean);
  return (plain.length > 3 ? [...plain.slice(0, 2), `and-${plain.length - 2}-more`] : plain)
    .join("-")
    .slice(0, 56)
    .replace(/-+$/, "");
}

function freeName(base, takenNames) {
  if (!base) return "";
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? base : `${base}-${number}`;
    if (!takenNames.includes(name)) return name;
  }
}

function problemsOfClass({ name, images }, index, limits) {
  const title = name.trim() ? `\u201c${name.trim()}\u201d` : `Class ${index + 1}`;
  const messages = [];
  if (!name.trim()) messages.push(`${title} has no name.`);
  if (name.trim().length > LONGEST_CLASS_NAME)
    messages.push(
      `The name of class ${index + 1} has ${name.trim().length} characters; expected at most ${LONGEST_CLASS_NAME}.`,
    );
  if (!images.length) messages.push(`${title} has no images: add a few, or remove the class.`);
  if (images.length > limits.images_per_class) {
    messages.push(`${title} has ${counted(images.length, "image")}; expected at most ${limits.images_per_class}.`);
  }
  return messages.map((message) => ({ about: index, message }));
}

function sameNames(classes) {
  const first = new Map();
  return classes.flatMap(({ name }, index) => {
    const key = name.trim().toLowerCase();
    if (!key) return [];
    if (!first.has(key)) return first.set(key, index) && [];
    return [
      {
        about: index,
        message: `Classes ${first.get(key) + 1} and ${index + 1} are both called \u201c${name.trim()}\u201d.`,
      },
    ];
  });
}

function sameImages(classes) {
  const first = new Map();
  return classes.flatMap(({ images }, index) =>
    images.flatMap((image) => {
      const before = first.get(image.fingerprint);
      if (before === undefined) first.set(image.fingerprint, index);
      if (before === undefined || before === index) return [];
      return [
        {
          about: index,
          message: `${image.name} is in class ${before + 1} and in class ${index + 1}; it can be in one.`,
        },
      ];
    }),
  );
}

function problemsOfAll(classes, limits) {
  const messages = [];
  if (classes.length < 2)
    messages.push(
      classes.length
        ? "There is one class alone; to tell things apart takes two."
        : "There are no classes yet; two are needed.",
    );
  if (classes.length > limits.classes)
    messages.push(`There are ${classes.length} classes; this server takes ${limits.classes} at most.`);
  return messages.map((message) => ({ about: null, message }));
}

/** What is wrong with the name of a classifier that is to be made. */
export function problemsOfName(name, takenNames) {
  const about = "name";
  if (!name) return [{ about, message: "The classifier has no name." }];
  if (!NAME.test(name) || name.includes("..")) {
    return [
      {
        about,
        message: `\u201c${name}\u201d cannot be a name: expected ${ALLOWED}.`,
      },
    ];
  }
  if (takenNames.includes(name))
    return [{ about, message: `There is a classifier called \u201c${name}\u201d already; choose another name.` }];
  return [];
}

/** Bytes that a request with these classes has, roughly. */
export const sizeOf = (classes) =>
  classes.flatMap((each) => each.images).reduce((sum, image) => sum + image.blob.size + 500, 0);

export const tooLargeToSend = (size, limit) =>
  `All images together have ${bytes(size)}; this server takes ${bytes(limit)} at once. Remove some.`;
