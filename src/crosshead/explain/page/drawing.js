// Red is taken and blue is subtracted; the strongest has the full colour, and nothing is transparent.
const RED = "178, 24, 43", BLUE = "33, 102, 172";

function colour(value, most) {
  return `rgba(${value < 0 ? BLUE : RED}, ${most ? Math.min(1, Math.abs(value) / most) * 0.9 : 0})`;
}

function prepared(canvas, width, height) {
  const density = window.devicePixelRatio || 1;
  canvas.width = width * density;
  canvas.height = height * density;
  canvas.style.width = `${width}px`;
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  return context;
}

// Values of cells over the image; `framed` is a cell, `box` a part of the image in fractions.
function drawMap(canvas, image, side, values, shown, { framed = null, box = null } = {}) {
  const [rows, columns] = shown;
  const scale = side / Math.max(image.width, image.height);
  const width = image.width * scale, height = image.height * scale;
  const context = prepared(canvas, width, height);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.filter = "grayscale(1) opacity(0.5)";
  context.imageSmoothingEnabled = scale < 2;
  context.drawImage(image, 0, 0, width, height);
  context.filter = "none";
  const most = values.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
  drawCells(canvas, rows, columns, (y, x) => colour(values[y * columns + x], most));
  if (framed !== null && framed >= 0) {
    frame(context, ((framed % columns) * width) / columns, (Math.floor(framed / columns) * height) / rows, width / columns, height / rows);
  }
  if (box) frame(context, box[1] * width, box[0] * height, (box[3] - box[1]) * width, (box[2] - box[0]) * height);
  return most;
}

// Cells that end where the next one begins, on whole pixels: transparent colours show every overlap.
function drawCells(canvas, rows, columns, ink) {
  const context = canvas.getContext("2d");
  context.save();
  context.resetTransform();
  const edge = (at, count, length) => Math.round((at * length) / count);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const [left, top] = [edge(x, columns, canvas.width), edge(y, rows, canvas.height)];
      context.fillStyle = ink(y, x);
      context.fillRect(left, top, edge(x + 1, columns, canvas.width) - left, edge(y + 1, rows, canvas.height) - top);
    }
  }
  context.restore();
}

function frame(context, left, top, width, height) {
  for (const [ink, line] of [["#fff", 4], ["#111", 2]]) {
    context.strokeStyle = ink;
    context.lineWidth = line;
    context.strokeRect(left, top, width, height);
  }
}

// A matrix of numbers as squares, on a scale that is given.
function drawMatrix(canvas, side, rows, most, chosen) {
  const context = prepared(canvas, side, (side * rows.length) / rows[0].length);
  const size = side / rows[0].length;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, side, side);
  drawCells(canvas, rows.length, rows[0].length, (y, x) => colour(rows[y][x], most));
  if (chosen) frame(context, chosen[1] * size, chosen[0] * size, size, size);
}

// The cell of a canvas below a pointer.
function cellAt(canvas, event, rows, columns) {
  const place = canvas.getBoundingClientRect();
  const at = (part, length) => Math.max(0, Math.min(length - 1, Math.floor(part * length)));
  return [at((event.clientY - place.top) / place.height, rows), at((event.clientX - place.left) / place.width, columns)];
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// Calls `choose` with a row and a column: below a pointer, and beside the present one by arrow keys.
function choosable(canvas, size, present, choose) {
  const point = (event) => choose(...cellAt(canvas, event, ...size()));
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const next = present().map((at, axis) => Math.max(0, Math.min(size()[axis] - 1, at + step[axis])));
    choose(...next);
  });
}
