"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const by = (id) => document.getElementById(id);
const state = { layer: 0, head: 0, side: "row", place: 0, landmark: null, pair: null, held: false };
const SIDE = 280, SMALL = 112, MATRIX = 220;
const image = new Image();
let array;

const layer = () => content.layers[state.layer];
const countLandmarks = () => layer().landmarks.length;
const percent = (x) => `${(100 * x).toFixed(Math.abs(x) < 0.1 ? 1 : 0)} %`;
const onGrid = (values, of = layer()) => values.subarray(of.prefix);
const rounded = (x) => Number(x.toPrecision(3)).toString();

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function placeName(place, of = layer()) {
  if (place < of.prefix) return `prefix token ${place}`;
  const [row, column] = [Math.floor((place - of.prefix) / of.shown[1]), (place - of.prefix) % of.shown[1]];
  return `patch (${row}, ${column})`;
}

function factorsOf(head) {
  return [array(layer().query).item(head), array(layer().key).item(head)];
}

function mapOf(head) {
  const [query, key] = factorsOf(head);
  return (state.side === "row" ? mapRow : mapColumn)(query, key, countLandmarks(), state.place);
}

function listenedTo() {
  const count = countLandmarks();
  return factorsOf(state.head)[0].subarray(state.place * count, (state.place + 1) * count);
}

function draw(canvas, values, side, options = {}) {
  return drawMap(canvas, image, side, onGrid(values), layer().shown, options);
}

const patch = () => state.place - layer().prefix;

function showMaps() {
  const values = mapOf(state.head), best = strongest(values);
  draw(by("map"), values, SIDE, { framed: patch() });
  const looks = state.side === "row" ? "looks" : "is looked at";
  by("map-caption").textContent = `head ${state.head}: ${state.side === "row" ? "where the patch looks" : "who looks at the patch"}${state.held ? "; held, click to go on" : ""}`;
  const weights = listenedTo(), landmark = strongest(weights);
  const most = state.side === "row"
    ? `${placeName(state.place)} looks most at ${placeName(best)}: weight ${rounded(values[best])}, ${rounded(values[best] * values.length)} times an even share`
    : `${placeName(state.place)} is looked at most by ${placeName(best)}: weight ${rounded(values[best])}`;
  by("told").textContent = `${layer().name}, head ${state.head}: ${most}. Landmark ${landmark} carries most of what it gets, weight ${rounded(weights[landmark])}; it listens to ${effective(weights).toFixed(1)} of ${weights.length} landmarks.`;
  by("map").setAttribute("aria-label", `the image; ${by("told").textContent}`);
  const teacher = content.teacher[layer().name];
  by("teacher-figure").hidden = !teacher;
  if (teacher) {
    // A student may have several heads in place of one.
    const head = Math.floor((state.head * teacher.shape[0]) / layer().heads);
    by("teacher-caption").textContent = `the teacher: softmax attention of head ${head}, same layer and patch`;
    const whole = array(teacher).item(head), count = Math.sqrt(whole.length);
    const shown = Float32Array.from({ length: count }, (_, k) => whole[state.side === "row" ? state.place * count + k : k * count + state.place]);
    draw(by("teacher"), shown, SIDE, { framed: patch() });
    by("teacher").setAttribute("aria-label", `teacher: ${placeName(state.place)} ${looks} most at ${placeName(strongest(shown))}`);
  }
}

function landmarkGrid() {
  const boxes = layer().landmarks.filter(Boolean);
  const rows = new Set(boxes.map((box) => box[0])).size;
  return [rows, boxes.length / rows];
}

function showLandmarks() {
  const weights = listenedTo(), grid = landmarkGrid(), prefix = layer().prefix;
  const chosen = state.landmark === null ? strongest(weights) : state.landmark;
  drawMap(by("listened"), image, SIDE, weights.subarray(prefix), grid, { framed: chosen - prefix });
  by("listened").setAttribute("aria-label", `weights of ${weights.length} landmarks; chosen: landmark ${chosen}`);
  const before = prefix ? `; prefix tokens ${[...weights.subarray(0, prefix)].map(rounded).join(", ")}` : "";
  by("listened-caption").textContent = `landmarks that the patch listens to; landmark ${chosen}: weight ${rounded(weights[chosen])}${before}`;
  const key = factorsOf(state.head)[1], count = key.length / countLandmarks();
  const field = key.subarray(chosen * count, (chosen + 1) * count);
  draw(by("field"), field, SIDE, { box: layer().landmarks[chosen] });
  by("field-caption").textContent = `what landmark ${chosen} gathers from, most from ${placeName(strongest(field))}; its own cell is framed`;
  by("field").setAttribute("aria-label", by("field-caption").textContent);
}

function showHeads() {
  [...by("heads").children].forEach((button, head) => {
    draw(button.firstChild, mapOf(head), SMALL, { framed: patch() });
    button.setAttribute("aria-pressed", String(head === state.head));
  });
}

function showMixing() {
  const { mixing } = layer(), names = Object.keys(mixing);
  const most = Math.max(...names.flatMap((name) => mixing[name].flat()).map(Math.abs), 0);
  by("no-mixing").hidden = names.length > 0;
  [...by("mixing").children].forEach((figure, k) => {
    drawMatrix(figure.firstChild, MATRIX, mixing[names[k]], most, state.pair);
    figure.firstChild.setAttribute("aria-label", `how much of each head (columns) enters each head (rows), ${names[k].replace("_", " ")}; largest ${rounded(most)}`);
  });
  by("pair").replaceChildren();
  by("pair-told").textContent = names.length ? "Rows are heads that listen, columns those that are listened to; point at a cell." : "";
  if (!state.pair || !names.length) return;
  const [g, h] = state.pair;
  const entries = names.map((name) => `${name.replace("_", " ")} ${rounded(mixing[name][g][h])}`).join(", ");
  const { pairs } = layer();
  const gives = !pairs || g === h ? "" : ` Without it what head ${g} gives would change by ${percent(pairs[g][h])}; the other way round, head ${h} without head ${g}, by ${percent(pairs[h][g])}.`;
  by("pair-told").textContent = `Head ${g} takes of head ${h}: ${entries}.${gives}`;
  for (const [head, does] of [[g, "listens"], [h, "is listened to"]]) {
    const figure = element("figure", "", by("pair")), canvas = element("canvas", "", figure);
    draw(canvas, mapOf(head), MATRIX, { framed: patch() });
    element("figcaption", `head ${head}, which ${does}`, figure);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `map of head ${head}, which ${does}`);
  }
}

function update() {
  showMaps();
  showLandmarks();
  showHeads();
  showMixing();
}

function chooseLayer(number) {
  const [before, place] = [layer(), state.place];
  state.layer = Math.max(0, Math.min(content.layers.length - 1, number));
  state.head = Math.min(state.head, layer().heads - 1);
  state.landmark = state.pair = null;
  // The same part of the image, on another grid.
  if (place >= before.prefix) {
    const at = place - before.prefix;
    const moved = [Math.floor(at / before.shown[1]), at % before.shown[1]].map((where, axis) => Math.floor(((where + 0.5) / before.shown[axis]) * layer().shown[axis]));
    state.place = layer().prefix + moved[0] * layer().shown[1] + moved[1];
  }
  by("layer").value = state.layer;
  by("head").replaceChildren(...Array.from({ length: layer().heads }, (_, head) => new Option(head, head)));
  by("heads").replaceChildren(...Array.from({ length: layer().heads }, (_, head) => {
    const button = document.createElement("button");
    button.type = "button";
    element("canvas", "", button).setAttribute("aria-hidden", "true");
    element("span", `head ${head}`, button);
    button.addEventListener("click", () => chooseHead(head));
    return button;
  }));
  by("mixing").replaceChildren(...Object.keys(layer().mixing).map((name) => {
    const figure = document.createElement("figure"), canvas = element("canvas", "", figure);
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    element("figcaption", name.replace("_", " "), figure);
    choosable(canvas, () => [layer().heads, layer().heads], () => state.pair || [0, 0], (g, h) => { state.pair = [g, h]; showMixing(); });
    return figure;
  }));
  by("prefix").replaceChildren(...Array.from({ length: layer().prefix }, (_, place) => {
    const button = element("button", `prefix token ${place}`);
    button.type = "button";
    button.addEventListener("click", () => choosePlace(place));
    return button;
  }));
  chooseHead(state.head);
}

function chooseHead(number) {
  state.head = Math.max(0, Math.min(layer().heads - 1, number));
  state.landmark = null;
  by("head").value = state.head;
  update();
}

function choosePlace(place) {
  state.place = place;
  state.landmark = null;
  update();
}

function chooseSide(side) {
  state.side = side;
  document.querySelector(`input[value=${side}]`).checked = true;
  update();
}

function showScores() {
  by("scores-section").hidden = !content.scores.length;
  for (const { name, values, shown } of content.scores) {
    const figure = element("figure", "", by("scores")), canvas = element("canvas", "", figure);
    drawMap(canvas, image, MATRIX, array(values).item(0), shown);
    element("figcaption", name, figure);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `which parts of the image count for: ${name}`);
  }
}

function showLayers() {
  const table = element("table", "", by("by-layer")), head = element("tr", "", element("thead", "", table));
  for (const title of ["layer", "grid", "heads", "channels", "landmarks", "diversity", "had they not talked", "share owed to other heads"]) element("th", title, head);
  const body = element("tbody", "", table);
  for (const each of content.layers) {
    const row = element("tr", "", body);
    element("th", each.name, row);
    const mean = each.share.reduce((sum, x) => sum + x, 0) / each.heads;
    for (const text of [each.grid.join(" × "), each.heads, each.channels, each.landmarks.length]) element("td", text, row);
    for (const [value, kind] of [[each.diversity?.[1], ""], [each.diversity?.[0], "quiet"], [mean, ""]]) {
      const cell = element("td", "", row);
      if (value === undefined) continue;
      const bar = element("i", "", cell);
      bar.className = kind;
      bar.style.width = `${4 * Math.min(1, value)}em`;
      cell.append(kind === "" && value === mean ? percent(value) : value.toFixed(3));
    }
  }
}

function listen() {
  by("layer").addEventListener("change", (event) => chooseLayer(Number(event.target.value)));
  by("head").addEventListener("change", (event) => chooseHead(Number(event.target.value)));
  by("choices").addEventListener("submit", (event) => event.preventDefault());
  document.querySelectorAll("input[name=side]").forEach((input) => input.addEventListener("change", () => chooseSide(input.value)));
  const onMap = () => [Math.max(0, Math.floor(patch() / layer().shown[1])), Math.max(0, patch() % layer().shown[1])];
  choosable(by("map"), () => layer().shown, onMap, (row, column) => {
    const place = layer().prefix + row * layer().shown[1] + column;
    if (!state.held && place !== state.place) choosePlace(place);
  });
  const hold = () => { state.held = !state.held; showMaps(); };
  by("map").addEventListener("click", hold);
  by("map").addEventListener("keydown", (event) => { if (event.key === "Enter") hold(); });
  const onLandmarks = () => {
    const at = (state.landmark === null ? strongest(listenedTo()) : state.landmark) - layer().prefix;
    return [Math.floor(at / landmarkGrid()[1]), at % landmarkGrid()[1]].map((where) => Math.max(0, where));
  };
  choosable(by("listened"), landmarkGrid, onLandmarks, (row, column) => {
    state.landmark = layer().prefix + row * landmarkGrid()[1] + column;
    showLandmarks();
  });
  const keys = { "[": () => chooseHead(state.head - 1), "]": () => chooseHead(state.head + 1), ",": () => chooseLayer(state.layer - 1), ".": () => chooseLayer(state.layer + 1), d: () => chooseSide(state.side === "row" ? "column" : "row") };
  document.addEventListener("keydown", (event) => {
    if (keys[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) keys[event.key]();
  });
}

async function begin() {
  [array] = [reader(await unpacked(by("numbers").textContent))];
  image.src = content.image;
  await image.decode();
  by("title").textContent = content.title;
  by("summary").textContent = content.summary;
  by("result").src = content.result;
  by("result").alt = `what the net made of it: ${content.summary}`;
  by("result-caption").textContent = content.summary;
  by("footer").textContent = content.footer;
  by("layer").replaceChildren(...content.layers.map((each, number) => new Option(each.name, number)));
  const middle = content.layers[0].shown.map((length) => Math.floor(length / 2));
  state.place = content.layers[0].prefix + middle[0] * content.layers[0].shown[1] + middle[1];
  listen();
  showScores();
  showLayers();
  chooseLayer(0);
  document.body.dataset.ready = "true";
}

begin();
