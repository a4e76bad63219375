// Files that were dropped or chosen, with the folders that they lie in, and the classes that folders stand for. A found
// file is `{name, folders, open()}`: `folders` from the outermost that was handed over, `open()` gives the File.

import { counted } from "./words.js";

const MOST_FILES = 20_000; // that are looked at: somebody may drop a whole disk
const IMAGE = /\.(jpe?g|png|webp|gif|bmp|tiff?|hei[cf]|avif|p[pgn]m)$/i;
const CLUTTER = /^(\.|Thumbs\.db$|desktop\.ini$|__MACOSX$)/i; // put there by systems, for themselves
const SPLITS = ["train", "training", "val", "valid", "validation", "test", "testing"];

/** The files of a drop, those in its folders too. Begins before the browser forgets what was dropped. */
export async function droppedFiles(transfer) {
  const dropped = Array.from(transfer.items)
    .filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = [];
  for (const { entry, file } of dropped) {
    if (entry?.isDirectory) await collect(entry, [], found);
    else if (file) found.push(foundFile(file));
  }
  return found;
}

/** A File as a found file, with its folders where it was chosen in a folder. */
export function foundFile(file) {
  const folders = (file.webkitRelativePath ?? "").split("/").slice(0, -1);
  return { name: file.name, folders, open: async () => file };
}

/**
 * The classes that found files belong to, by their folders: `{classes: [{name, files}], notes}`.
 *
 * The folders below the one that all files lie in are the classes, however deep the files lie in them. Of splits the
 * training images are taken. `notes` says what was left out, a line each.
 */
export function classesOf(found, limits) {
  const notes = [];
  const seen = found.filter(({ name, folders }) => ![name, ...folders].some((each) => CLUTTER.test(each)));
  const images = seen.filter(({ name }) => IMAGE.test(name));
  const others = seen.filter(({ name }) => !IMAGE.test(name));
  if (others.length) notes.push(`${named(others)} left out: by the name no image.`);
  const inside = trainingPart(images, notes);
  const shared = sharedFolders(inside);
  const groups = new Map();
  for (const each of inside) {
    const name = wordsOf(each.folders[shared.length] ?? "");
    groups.set(name, [...(groups.get(name) ?? []), each]);
  }
  const outside = groups.get("") ?? [];
  if (groups.size === 1 && outside.length && shared.length) {
    return { classes: [portion(wordsOf(shared.at(-1)), outside, limits, notes)], notes };
  }
  if (outside.length) notes.push(`${named(outside)} left out: in no class's folder.`);
  groups.delete("");
  const names = [...groups.keys()].sort(byNumber);
  if (names.length > limits.classes) {
    notes.push(`There are ${names.length} folders; this server takes ${limits.classes} classes, so the rest is left out.`);
  }
  const classes = names.slice(0, limits.classes).map((name) => portion(name, groups.get(name), limits, notes));
  return { classes, notes };
}

/** A class with as many of its images as the server takes, spread over all of them. */
function portion(name, files, limits, notes) {
  const most = limits.images_per_class;
  const sorted = files.sort((one, other) => byNumber(pathOf(one), pathOf(other)));
  if (sorted.length <= most) return { name, files: sorted };
  notes.push(`\u201c${name}\u201d has ${counted(sorted.length, "image")}: ${most} spread over them are taken.`);
  const spread = Array.from({ length: most }, (_, place) => sorted[Math.floor((place * sorted.length) / most)]);
  return { name, files: spread };
}

function trainingPart(images, notes) {
  const splitOf = ({ folders }) => folders.slice(0, -1).find((each) => SPLITS.includes(each.toLowerCase()));
  const splits = [...new Set(images.map(splitOf).filter(Boolean))];
  const training = splits.find((each) => each.toLowerCase().startsWith("train"));
  if (!training || splits.length < 2) return images;
  const part = images.filter((each) => splitOf(each) === training);
  notes.push(`Only what is in ${training} is taken: ${counted(images.length - part.length, "image")} left out.`);
  return part;
}

/** The folders that all files lie in, from the outside. */
function sharedFolders(files) {
  const first = files[0]?.folders ?? [];
  const apart = first.findIndex((folder, depth) => files.some((each) => each.folders[depth] !== folder));
  return apart < 0 ? first : first.slice(0, apart);
}

async function collect(directory, above, found) {
  const folders = [...above, directory.name];
  for (const entry of await entriesOf(directory)) {
    if (found.length >= MOST_FILES) return;
    if (entry.isDirectory) await collect(entry, folders, found);
    else found.push({ name: entry.name, folders, open: () => new Promise((take, fail) => entry.file(take, fail)) });
  }
}

/** All that is in a folder; the browser tells a hundred at a time. */
async function entriesOf(directory) {
  const reader = directory.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((take, fail) => reader.readEntries(take, fail));
    if (!some.length) return all.sort((one, other) => byNumber(one.name, other.name));
    all.push(...some);
  }
}

const byNumber = new Intl.Collator("en", { numeric: true }).compare;
const pathOf = ({ folders, name }) => [...folders, name].join("/");
/** A folder's name as lowshot reads it. */
const wordsOf = (folder) => folder.normalize("NFC").replaceAll("_", " ").trim().replace(/\s+/g, " ");

/** "notes.txt", "notes.txt and 3 more files". */
function named(files) {
  const rest = files.length - 1;
  return rest ? `${pathOf(files[0])} and ${counted(rest, "more file", "more files")}` : pathOf(files[0]);
}
