// The camera: asked for only when a person presses the button, and off again when it is left.

import { button, element, say } from "./dom.js";

const WHY = {
  NotAllowedError: "The browser may not use the camera. Allow it in the address bar, then try again.",
  NotFoundError: "There is no camera. Choose an image instead.",
  NotReadableError: "The camera is in use by another program. Close that, then try again.",
};

/** A camera: `{element, stop()}`. `taken` gets each picture as a file. */
export function createCamera(taken) {
  let stream = null;
  let opened = 0; // so that a camera which opens after `stop` is closed again
  const video = element("video", {
    autoplay: true,
    playsinline: true,
    hidden: true,
    "aria-label": "What the camera sees",
  });
  video.muted = true;
  const invitation = element("p", { class: "invitation" }, "The camera is off");
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const startButton = button("Turn the camera on", start, { class: "primary" });
  const takeButton = button("Take the picture", take, { class: "primary", hidden: true });
  const stopButton = button("Turn it off", stop, { hidden: true });
  const camera = element(
    "div",
    { class: "camera" },
    element("div", { class: "stage dark" }, video, invitation),
    element("div", { class: "row" }, startButton, takeButton, stopButton),
    problem,
  );
  return { element: camera, stop };

  async function start() {
    say(problem, null);
    if (!navigator.mediaDevices?.getUserMedia) {
      say(problem, "The browser gives the camera only to pages over HTTPS or on this very machine.");
      return;
    }
    const number = (opened += 1);
    try {
      const live = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (number !== opened) return close(live);
      stream = video.srcObject = live;
      await video.play();
    } catch (error) {
      if (number === opened) say(problem, WHY[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    if (number === opened) show(stream !== null);
  }

  function stop() {
    opened += 1;
    if (stream) close(stream);
    stream = video.srcObject = null;
    show(false);
  }

  async function take() {
    const sheet = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    sheet.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => sheet.toBlob(resolve, "image/jpeg", 0.95));
    taken(new File([blob], "camera.jpg", { type: "image/jpeg" }));
  }

  function show(on) {
    const hadFocus = camera.contains(document.activeElement);
    video.hidden = takeButton.hidden = stopButton.hidden = !on;
    startButton.hidden = invitation.hidden = on;
    if (hadFocus) (on ? takeButton : startButton).focus();
  }
}

function close(stream) {
  for (const track of stream.getTracks()) track.stop();
}
