const about = JSON.parse(element("about").textContent);
const { steps, classes } = about;

function element(id) {
  return document.getElementById(id);
}

/** Bytes of base64, a few million letters at a time: a model has hundreds. */
function bytesOf(parts) {
  const padding = (parts.at(-1).match(/=*$/) ?? [""])[0].length;
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0) * 0.75 - padding);
  let place = 0;
  for (const part of parts) {
    if (Uint8Array.fromBase64) {
      const decoded = Uint8Array.fromBase64(part);
      bytes.set(decoded, place);
      place += decoded.length;
      continue;
    }
    for (let start = 0; start < part.length; start += 1 << 22) {
      const binary = atob(part.slice(start, start + (1 << 22)));
      for (let i = 0; i < binary.length; i++) bytes[place++] = binary.charCodeAt(i);
    }
  }
  return bytes;
}

async function unzipped(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const inPage = (id) => [element(id).textContent.trim()];

async function loaded() {
  const source = await unzipped(bytesOf(inPage("runtime")));
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.wasmBinary = (await unzipped(bytesOf(inPage("wasm")))).buffer;
  ort.env.wasm.numThreads = 1; // several need a server that sends certain headers
  ort.env.logLevel = "error";
  const parts = self.lowshotModel ?? inPage("model");
  if (parts.length !== about.parts) throw new Error(`${parts.length} of ${about.parts} files of the model were found beside this page`);
  const session = await ort.InferenceSession.create(bytesOf(parts), { executionProviders: ["wasm"] });
  delete self.lowshotModel;
  return { ort, session };
}

/** The weights with which pixels of one row or column make those of another, antialiased. */
function weightsOf(before, after) {
  const [reach, kernel] = steps.filter === "bilinear" ? [1, linear] : [2, cubic];
  const scale = before / after, wide = Math.max(scale, 1), support = reach * wide, all = [];
  for (let i = 0; i < after; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(before, Math.trunc(centre + support + 0.5));
    const weights = Float64Array.from({ length: last - first }, (_, k) => kernel((k + first - centre + 0.5) / wide));
    const sum = weights.reduce((a, b) => a + b, 0);
    all.push({ first, weights: weights.map((weight) => weight / sum) });
  }
  return all;
}

function linear(distance) {
  return Math.max(0, 1 - Math.abs(distance));
}

/** With a = -0.5. */
function cubic(distance) {
  const x = Math.abs(distance), a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** The pixels of an image file, laid on the background, a large one made smaller: red, green and blue as numbers. */
async function decoded(file) {
  const options = { colorSpaceConversion: "none", imageOrientation: "from-image" };
  const image = await createImageBitmap(file, options);
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = `rgb(${steps.background.join(" ")})`;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  image.close();
  const shorter = Math.min(width, height);
  const factor = [8, 4, 2].find((each) => shorter >= each * steps.reduce.keep_at_least) ?? 1;
  return factor === 1 ? { data, width, height } : reduced(data, width, height, factor);
}

/** Means of squares of pixels, rounded to whole levels; those at the edge may be of fewer. */
function reduced(data, width, height, factor) {
  const wide = Math.ceil(width / factor), high = Math.ceil(height / factor);
  const small = new Uint8ClampedArray(4 * wide * high);
  for (let y = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      const right = Math.min(width, (x + 1) * factor), below = Math.min(height, (y + 1) * factor);
      const count = (right - x * factor) * (below - y * factor);
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let row = y * factor; row < below; row++)
          for (let column = x * factor; column < right; column++) sum += data[4 * (row * width + column) + channel];
        small[4 * (y * wide + x) + channel] = Math.round(sum / count);
      }
    }
  }
  return { data: small, width: wide, height: high };
}

/** A crop as the model takes it: three planes of size x size numbers from 0 to 1. */
function cropped({ data, width, height }) {
  const size = steps.size, shorter = Math.min(width, height), squashed = steps.mode === "squash";
  const [wide, high] = [width, height].map((side) => (squashed ? size : Math.floor((size * side) / shorter)));
  const left = Math.floor((wide - size) / 2), top = Math.floor((high - size) / 2);
  const columns = weightsOf(width, wide).slice(left, left + size), rows = weightsOf(height, high).slice(top, top + size);
  const from = rows[0].first, to = Math.max(...rows.map(({ first, weights }) => first + weights.length));
  const crop = new Float32Array(3 * size * size), narrow = new Float32Array((to - from) * size);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = from; y < to; y++) {
      columns.forEach(({ first, weights }, x) => {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * data[4 * (y * width + first + k) + channel];
        narrow[(y - from) * size + x] = sum;
      });
    }
    rows.forEach(({ first, weights }, y) => {
      for (let x = 0; x < size; x++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * narrow[(first - from + k) * size + x];
        crop[(channel * size + y) * size + x] = Math.min(1, Math.max(0, sum / 255));
      }
    });
  }
  return crop;
}

const model = loaded();

/** The probability of each class, in the order of the classes; and whether the image is of none, if the model tells.
 *  Where images have several labels, also whether it has each. */
async function judged(file) {
  const { ort, session } = await model;
  const images = new ort.Tensor("float32", cropped(await decoded(file)), [1, 3, steps.size, steps.size]);
  const { probabilities, none_of_these: none, has_label: labels } = await session.run({ images });
  return { shares: probabilities.data, none: Boolean(none?.data[0]), labels: labels?.data };
}

async function classify(file) {
  return (await judged(file)).shares;
}

function answer(file, { shares, none, labels }) {
  const item = document.createElement("li"), picture = document.createElement("img"), words = document.createElement("div");
  const name = document.createElement("p"), list = document.createElement("ol");
  picture.src = URL.createObjectURL(file);
  picture.alt = "";
  name.className = "file";
  name.textContent = file.name ?? "";
  const order = Array.from(shares.keys()).sort((one, other) => shares[other] - shares[one]);
  const isSaid = (label) => (labels ? labels[label] : label === order[0]);
  for (const label of order.filter((each, place) => place < 5 || labels?.[each])) {
    const line = document.createElement("li"), percent = `${(100 * shares[label]).toFixed(1)} %`;
    line.className = isSaid(label) ? "share said" : "share";
    line.style.setProperty("--share", percent.replace(" ", ""));
    line.append(...[classes[label], percent].map((text) => Object.assign(document.createElement("span"), { textContent: text })));
    list.append(line);
  }
  const nothing = none ? "none of these; nearest:" : labels && !order.some(isSaid) ? "no label; nearest:" : "";
  if (nothing) words.append(Object.assign(document.createElement("p"), { textContent: nothing }));
  words.append(list, name);
  item.append(picture, words);
  return item;
}

function complain(message) {
  element("problem").textContent = message;
  element("problem").hidden = message === "";
}

const ready = "Drop images here, paste them, or choose files";

async function answerAll(files) {
  complain("");
  const problems = [];
  for (const [number, file] of [...files].entries()) {
    element("status").textContent = `Classifying ${number + 1} of ${files.length} …`;
    await new Promise((resolve) => setTimeout(resolve)); // so that it is seen
    try {
      element("answers").prepend(answer(file, await judged(file)));
    } catch (error) {
      problems.push(`${file.name || "an image"} cannot be read as an image`);
      console.info(error);
    }
  }
  complain(problems.join("; "));
  element("status").textContent = ready;
}

self.classify = classify; // for the console, and for tests
const drop = element("drop"), chooser = element("files");
chooser.addEventListener("change", async () => {
  await answerAll(chooser.files);
  chooser.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && !chooser.disabled && event.dataTransfer.files.length) answerAll(event.dataTransfer.files);
  });
}
addEventListener("paste", (event) => {
  if (!chooser.disabled && event.clipboardData.files.length) answerAll(event.clipboardData.files);
});
try {
  await model;
  element("status").textContent = ready;
  chooser.disabled = false;
} catch (error) {
  element("status").textContent = "The model cannot be loaded";
  complain(`${error.message ?? error}. A browser of 2023 or later is needed.`);
}
