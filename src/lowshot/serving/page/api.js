// The server's HTTP interface. Paths are relative, so that the page also works behind a proxy under a prefix.

import { wait } from "./dom.js";

const STORED_TOKEN = "lowshot-token";
const PATIENCE = 5; // tries while the server says that it is busy

/** A refusal in the server's own words, or that it cannot be reached (status 0). */
export class ServerError extends Error {
  constructor(message, status, code = "", retryAfter = 1) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

let askForToken = () => Promise.reject(new ServerError("This server wants a token.", 401));
let asking = null; // one question for all requests that wait for the answer

/** Who asks the person for the token: a function from "was the last one wrong?" to a promise of it. */
export function tokenComesFrom(ask) {
  askForToken = ask;
}

export const server = () => json("v1/server");
export const adapters = () => json("v1/adapters");
export const adapter = (name) => json(adapterPath(name));
export const jobs = () => json("v1/jobs");
export const job = (id) => json(jobPath(id));
export const cancel = (id) => request(jobPath(id), { method: "DELETE" });
export const remove = (name) => request(adapterPath(name), { method: "DELETE" });

/** Which parts of an image spoke for a class of an adapter. */
export async function explain(name, image, className) {
  const path = `${adapterPath(name)}/explain?${new URLSearchParams({ class: className })}`;
  const { explanations } = await json(path, { method: "POST", body: imagesBody([image]) });
  return explanations[0];
}

/** Predictions of several images; `busy(seconds)` is called before each pause when the server has too much to do. */
export async function predict(name, images, { top, zeroShot, neighbours, signal, busy }) {
  const query = new URLSearchParams({ top, zero_shot: zeroShot, neighbours });
  const body = imagesBody(images);
  const path = `${adapterPath(name)}/predict?${query}`;
  for (let tries = 1; ; tries += 1) {
    try {
      return await json(path, { method: "POST", body, signal });
    } catch (error) {
      if (![429, 503].includes(error.status) || tries === PATIENCE) throw error;
      busy(error.retryAfter);
      await wait(error.retryAfter);
      signal.throwIfAborted();
    }
  }
}

/** Begin to teach; `classes` are `{name, images}`. Gives the job. */
export function teach(name, settings, classes) {
  const body = new FormData();
  body.append("name", name);
  body.append("settings", JSON.stringify(settings));
  for (const each of classes) {
    for (const image of each.images) {
      body.append("images", image.blob, image.name);
      body.append("labels", each.name);
    }
  }
  return json("v1/adapters", { method: "POST", body });
}

/** Begin to add images of a class to a classifier, as another of a name of its own. Gives the job, as the next two. */
export function addTo(name, newName, className, images) {
  const body = imagesBody(images);
  body.append("name", newName);
  for (const _ of images) body.append("labels", className);
  return json(`${adapterPath(name)}/add`, { method: "POST", body });
}

export const withoutClass = (name, newName, className) => posted(name, "remove", { name: newName, classes: [className] });
export const renamedClass = (name, newName, old, to) => posted(name, "rename", { name: newName, old, new: to });

function posted(name, verb, values) {
  return json(`${adapterPath(name)}/${verb}`, { method: "POST", body: JSON.stringify(values) });
}

/** Save an adapter's folder as a file. It is fetched, not linked, since a link cannot carry the token. */
export async function download(name) {
  const response = await request(`${adapterPath(name)}/download`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = `${name}.zip`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A training image's file. */
export async function example(name, id) {
  return (await request(`${adapterPath(name)}/examples/${encodeURIComponent(id)}`)).blob();
}

/** Put a training image into an img element. */
export async function showExample(image, name, id) {
  const url = URL.createObjectURL(await example(name, id));
  for (const event of ["load", "error"]) image.addEventListener(event, () => URL.revokeObjectURL(url), { once: true });
  image.src = url;
}

function imagesBody(images) {
  const body = new FormData();
  for (const image of images) body.append("images", image.blob, image.name);
  return body;
}

const adapterPath = (name) => `v1/adapters/${encodeURIComponent(name)}`;
const jobPath = (id) => `v1/jobs/${encodeURIComponent(id)}`;

async function json(path, options) {
  return (await request(path, options)).json();
}

async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(STORED_TOKEN);
    const response = await answered(
      path,
      token ? { ...options, headers: { Authorization: `Bearer ${token}` } } : options,
    );
    if (response.ok) return response;
    if (response.status !== 401) throw await refusal(response);
    await newToken(token);
  }
}

async function answered(path, options) {
  try {
    return await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. See whether lowshot serve still runs, then try again.", 0);
  }
}

async function refusal(response) {
  const retryAfter = Math.min(10, Number(response.headers.get("Retry-After")) || 1);
  const { error = {} } = await response.json().catch(() => ({}));
  const message = error.message ?? `The server answered with status ${response.status} and without a reason.`;
  return new ServerError(message, response.status, error.code, retryAfter);
}

/** Ask for a token, unless another request got one since this one was sent with `refused`. */
async function newToken(refused) {
  if (sessionStorage.getItem(STORED_TOKEN) !== refused) return;
  asking ??= askForToken(refused !== null).finally(() => (asking = null));
  sessionStorage.setItem(STORED_TOKEN, await asking);
}
