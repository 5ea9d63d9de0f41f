// Ranks the classes of a picture. Names come from a file that anybody may have written: they are shown as text.

import { describe } from "./file.js";
import { prepare } from "./pixels.js";

const TOP = 5;
const element = (id) => document.getElementById(id);
let classifier = null;
let picture = null;
const problems = {};
const LOAD = { model: loadClassifier, picture: loadPicture };

ort.env.wasm.numThreads = 1; // more need headers that a static server does not send
ort.env.wasm.wasmPaths = new URL("vendor/", location.href).href;

function say(text, wrong = false) {
  element("state").textContent = text;
  element("state").classList.toggle("wrong", wrong);
}

async function loadClassifier(blob) {
  classifier = null;
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const about = describe(bytes);
  classifier = { about, session: await ort.InferenceSession.create(bytes) };
}

async function loadPicture(blob) {
  picture = null;
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  canvas.drawImage(bitmap, 0, 0);
  picture = canvas.getImageData(0, 0, bitmap.width, bitmap.height);
  URL.revokeObjectURL(element("shown").src);
  element("shown").src = URL.createObjectURL(blob);
  element("shown").hidden = false;
}

async function rank() {
  if (!classifier || !picture) return;
  const { about, session } = classifier;
  const { data, dims } = prepare(picture.data, picture.width, picture.height, about.net);
  const started = performance.now();
  const input = { [about.net.inputs[0].name]: new ort.Tensor("float32", data, dims) };
  const logits = Array.from((await session.run(input))[about.net.output].data);
  const took = performance.now() - started;
  const largest = Math.max(...logits);
  const odds = logits.map((value) => Math.exp(value - largest));
  const total = odds.reduce((sum, value) => sum + value, 0);
  const best = odds.map((value, place) => [value / total, about.classes[place]]).sort(([a], [b]) => b - a);
  element("ranked").replaceChildren(...best.slice(0, TOP).map(([probability, name]) => row(name, probability)));
  say(`${took.toFixed(1)} ms`);
}

function row(name, probability) {
  const [item, label, bar, number] = ["li", "span", "meter", "b"].map((tag) => document.createElement(tag));
  label.textContent = name;
  bar.value = probability;
  number.textContent = `${(100 * probability).toFixed(1)}%`;
  item.append(label, bar, number);
  return item;
}

/** Takes the file of one part, "model" or "picture"; what is wrong with either stays in sight. */
async function take(part, fetched) {
  element("ranked").replaceChildren();
  say("working");
  delete problems[part];
  try {
    await LOAD[part](await fetched());
  } catch (error) {
    problems[part] = error instanceof Error ? error.message : String(error);
  }
  try {
    if (!Object.keys(problems).length) await rank();
  } catch (error) {
    problems.model = error instanceof Error ? error.message : String(error);
  }
  const wrong = Object.values(problems).join("; ");
  if (wrong) say(wrong, true);
  else if (!classifier || !picture) say("Choose the other one.");
}

async function beside(place) {
  const answer = await fetch(new URL(place, location.href)).catch(() => null);
  if (!answer?.ok) throw new Error(`${place} cannot be fetched`);
  return answer.blob();
}

for (const part of Object.keys(LOAD)) {
  element(part).addEventListener("change", ({ target }) => target.files[0] && take(part, async () => target.files[0]));
  // `?model=digits.onnx&picture=seven.png` shows files that lie beside this page.
  const place = new URLSearchParams(location.search).get(part);
  if (place) await take(part, () => beside(place));
}
document.body.dataset.ready = "true";
