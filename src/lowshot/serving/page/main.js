// The page of `lowshot serve`: two places, Ask and Teach, chosen by the address (#ask, #ask/NAME, #teach).

import * as api from "./api.js";
import { createAsk } from "./ask.js";
import { createChange } from "./change.js";
import { byId, button, say } from "./dom.js";
import { droppedFiles, foundFile } from "./folders.js";
import { createTeach } from "./teach.js";

api.tokenComesFrom(askForToken);
// A file that misses its place must not replace the page, and what was put in with it.
for (const event of ["dragover", "drop"]) window.addEventListener(event, (missed) => missed.preventDefault());
start();

async function start() {
  say(byId("outage"), null);
  let server;
  try {
    server = await api.server();
  } catch (error) {
    say(byId("outage"), `${error.message} `);
    byId("outage").append(button("Try again", start));
    return;
  }
  const teach = createTeach(server, { taught: refresh, names: () => names });
  const chosen = (name) => go(`#ask/${encodeURIComponent(name)}`);
  const change = createChange(server, { names: () => names, changed: refresh });
  const ask = createAsk(server, { chosen, removed, reopened, correct: teach.correct, changing: change.open });
  let names = [];
  await refresh();
  window.addEventListener("hashchange", arrive);
  document.addEventListener("paste", pasted);
  window.addEventListener("drop", missed);
  if (!location.hash && !names.length && server.teach) history.replaceState(null, "", "#teach");
  arrive();
  teach.resume();

  async function refresh() {
    try {
      const { adapters, refused } = await api.adapters();
      names = adapters.map((each) => each.name);
      ask.show(adapters, refused);
      say(byId("outage"), null);
    } catch (error) {
      say(byId("outage"), error.message);
    }
  }

  /** Open the classes of a classifier in the form. */
  async function reopened(adapter) {
    if (await teach.open(adapter)) go("#teach");
  }

  async function removed() {
    await refresh();
    go("#ask");
  }

  function choose(name) {
    if (name) ask.select(name);
  }

  function go(hash) {
    if (location.hash === hash) arrive();
    else location.hash = hash;
  }

  /** Show the place that the address names. */
  function arrive(event) {
    const here = place();
    for (const each of ["ask", "teach"]) {
      byId(`${each}-place`).hidden = each !== here;
      const link = document.querySelector(`nav a[href="#${each}"]`);
      if (each === here) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = here === "teach" ? "Teach \u00b7 lowshot" : "Ask \u00b7 lowshot";
    if (here === "teach") ask.leave();
    else choose(chosenName() ?? ask.current() ?? names[0]);
    const from = event ? new URL(event.oldURL).hash : "";
    if (event && placeOf(from) !== here) byId(`${here}-title`).focus({ preventScroll: true });
  }

  function pasted(event) {
    const files = Array.from(event.clipboardData?.files ?? [], foundFile);
    if (!files.length || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    if (place() === "teach") teach.add(files);
    else ask.ask(files);
  }

  /** What is dropped beside the places for it is not lost without a word. */
  async function missed(event) {
    if (document.querySelector("dialog[open]")) return;
    const files = await droppedFiles(event.dataTransfer);
    if (place() === "teach") await teach.dropped(files);
    else await ask.ask(files);
  }
}

const placeOf = (hash) => (hash.startsWith("#teach") ? "teach" : "ask");
const place = () => placeOf(location.hash);
const chosenName = () => (location.hash.startsWith("#ask/") ? unescaped(location.hash.slice(5)) : null);

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody typed a lone percent sign
  }
}

/** Ask for the token until one is given; closing the question leaves the page without an answer. */
function askForToken(wasWrong) {
  const dialog = byId("token-dialog");
  const field = byId("token");
  byId("token-wrong").hidden = !wasWrong;
  field.value = dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.addEventListener(
      "close",
      () => {
        if (dialog.returnValue === "go" && field.value.trim()) resolve(field.value.trim());
        else reject(new api.ServerError("Without its token the server tells nothing.", 401));
        field.value = "";
      },
      { once: true },
    );
  });
}
