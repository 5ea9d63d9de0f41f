// Waits for the page, plays the user, and writes what was seen into the page.
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
const $ = (id) => document.getElementById(id);
function point(id, [row, column], [rows, columns]) {
  const place = $(id).getBoundingClientRect();
  const clientX = place.left + ((column + 0.5) / columns) * place.width;
  const clientY = place.top + ((row + 0.5) / rows) * place.height;
  $(id).dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX, clientY }));
}

function press(target, key) {
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
}

// The cell of a canvas whose middle has most colour: red and blue apart.
function coloured(canvas, [rows, columns]) {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, canvas.width, canvas.height);
  let best = [-1, 0];
  for (let cell = 0; cell < rows * columns; cell++) {
    const x = Math.floor((((cell % columns) + 0.5) / columns) * canvas.width);
    const y = Math.floor(((Math.floor(cell / columns) + 0.5) / rows) * canvas.height);
    const [red, , blue] = pixels.data.slice(4 * (y * canvas.width + x));
    if (Math.abs(red - blue) > best[0]) best = [Math.abs(red - blue), cell];
  }
  return best[1];
}
const shown = {};
const timer = setInterval(() => {
  if (!document.body.dataset.ready && !errors.length) return;
  clearInterval(timer);
  try { if (!errors.length) play(); } catch (error) { errors.push(error.stack); }
  $("seen").textContent = JSON.stringify({ ...shown, errors });
}, 20);
