// From files to what is sent. An image goes as it is: scaling it here, before the server scales it for the model, would
// change the pixels that the model sees. Only what the server would refuse (too many bytes or pixels, or a format that
// only the browser knows) is drawn anew, and the image says so.

import { bytes } from "./words.js";

/** Why a file cannot be used; the message names it and can be shown as it is. */
export class ImageError extends Error {}

const SHORTER_SIDE = 1024; // of an image that is scaled down: several times what any CLIP sees
const THUMBNAIL_SIDE = 256;
const TINY_SIDE = 64; // smaller images are shown as the squares they are
const LONGEST_RATIO = 50;

/**
 * Make a found file (see folders.js) ready: `{blob, name, url, thumbnail, width, height, tiny, note, fingerprint}`.
 *
 * `url` and `thumbnail` are null where the server can read the format and the browser cannot (TIFF, PPM). `note` says
 * what was changed, if anything. Raises ImageError.
 */
export async function prepare(found, limits) {
  const file = await opened(found);
  const format = await formatOf(file);
  const bitmap = await decoded(file);
  if (!bitmap && !(format === "TIFF" || format === "PPM")) throw new ImageError(whyUnreadable(file, format));
  if (!bitmap) return undisplayable(file, limits);
  try {
    const { width, height } = bitmap;
    if (Math.max(width, height) > LONGEST_RATIO * Math.min(width, height)) {
      throw new ImageError(`${file.name} has ${width} × ${height} pixels; expected sides within 1:${LONGEST_RATIO}.`);
    }
    const fitted = await fitting(bitmap, file, format, limits);
    return await ready(bitmap, file.name, fitted);
  } finally {
    bitmap.close();
  }
}

/** The same image in fewer bytes, for a request that would be too large; itself if that would change nothing. */
export async function smaller(image) {
  if (Math.min(image.width, image.height) <= SHORTER_SIDE) return image;
  const bitmap = await createImageBitmap(image.blob);
  const blob = await redrawn(bitmap, SHORTER_SIDE);
  bitmap.close();
  return blob.size < image.blob.size ? { ...image, blob } : image;
}

/** Give back the memory of an image that is not shown any more. */
export function release(image) {
  for (const url of new Set([image.url, image.thumbnail])) if (url) URL.revokeObjectURL(url);
}

/** An img element for an image, or words where the browser cannot show it. */
export function picture(image, alt, source = image.thumbnail) {
  const shown = document.createElement(source ? "img" : "span");
  shown.className = image.tiny ? "tiny" : "";
  if (source) Object.assign(shown, { src: source, alt });
  else Object.assign(shown, { textContent: image.name, className: "unseen" });
  return shown;
}

async function ready(bitmap, name, { blob, note }) {
  const { width, height } = bitmap;
  const tiny = Math.max(width, height) < TINY_SIDE;
  const url = URL.createObjectURL(blob);
  const thumbnail = tiny ? url : URL.createObjectURL(await redrawn(bitmap, THUMBNAIL_SIDE));
  return { blob, name, url, thumbnail, width, height, tiny, note, fingerprint: await fingerprint(blob) };
}

async function undisplayable(file, limits) {
  if (file.size > limits.image_bytes) throw new ImageError(tooLarge(file, limits));
  const note = "This browser cannot show it; the server can read it.";
  const unseen = { url: null, thumbnail: null, width: 0, height: 0, tiny: false };
  return { blob: file, name: file.name, note, ...unseen, fingerprint: await fingerprint(file) };
}

/** The File, in memory or on a disk that may have changed since it was chosen. */
async function opened(found) {
  try {
    const file = await found.open();
    await file.slice(0, 1).arrayBuffer();
    return file;
  } catch {
    throw new ImageError(`${found.name} cannot be read: it may have been moved, or nobody may read it.`);
  }
}

async function decoded(file) {
  try {
    return await createImageBitmap(file); // turned as its EXIF data says
  } catch {
    return null;
  }
}

async function fitting(bitmap, file, format, limits) {
  const tooBig = file.size > limits.image_bytes;
  if (format && !tooBig) return { blob: file, note: null };
  const blob = await redrawn(bitmap, tooBig ? SHORTER_SIDE : Infinity);
  if (blob.size > limits.image_bytes) throw new ImageError(tooLarge(file, limits));
  return {
    blob,
    note: tooBig ? "Made smaller: it is larger than the server takes." : "Converted to JPEG by the browser.",
  };
}

/** A bitmap as a file whose shorter side is at most `side`: PNG for a thumbnail, else JPEG. White shows through it. */
async function redrawn(bitmap, side) {
  const scale = Math.min(1, side / Math.min(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, side === THUMBNAIL_SIDE ? "image/png" : "image/jpeg", 0.95));
}

/** What the first bytes say, of the formats that the server reads; null for any other. Names and types often lie. */
async function formatOf(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  if (head.startsWith("\xff\xd8\xff")) return "JPEG";
  if (head.startsWith("\x89PNG")) return "PNG";
  if (head.startsWith("GIF8")) return "GIF";
  if (head.startsWith("BM")) return "BMP";
  if (head.startsWith("RIFF") && head.endsWith("WEBP")) return "WEBP";
  if (head.startsWith("II*\0") || head.startsWith("MM\0*")) return "TIFF";
  return /^P[2356]\s/.test(head) ? "PPM" : null;
}

function whyUnreadable(file, format) {
  if (/\.hei[cf]$/i.test(file.name) || /hei[cf]/.test(file.type)) {
    return `${file.name} is a HEIC photo, which this browser cannot open. Save it as JPEG and add that.`;
  }
  if (!file.size) return `${file.name} is empty; expected an image.`;
  if (format) return `${file.name} is damaged: it begins as ${format} and cannot be read to its end.`;
  return `${file.name} is not an image that can be read; expected JPEG, PNG, WebP, GIF, BMP or TIFF.`;
}

function tooLarge(file, limits) {
  return `${file.name} has ${bytes(file.size)}; expected at most ${bytes(limits.image_bytes)}. Save it smaller.`;
}

// Tells the same file in two classes. crypto.subtle would do it too, but is there only over HTTPS and on localhost.
async function fingerprint(blob) {
  let [low, high] = [0x811c9dc5, blob.size];
  for (const byte of new Uint8Array(await blob.arrayBuffer())) {
    low = Math.imul(low ^ byte, 0x01000193);
    high = Math.imul(high ^ low, 0x85ebca6b);
  }
  return `${low},${high}`;
}
