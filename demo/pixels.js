// From a picture to what the net is given: the same steps as in Python, in the same order.

/** Weights that bring `length` places to `count`: a triangle as wide as a new place, as Pillow's BILINEAR. */
function weights(length, count) {
  const scale = length / count;
  const reach = Math.max(scale, 1);
  return Array.from({ length: count }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), length);
    const found = [];
    for (let at = first; at < end; at++) {
      found.push(Math.max(1 - Math.abs((at - centre + 0.5) / reach), 0));
    }
    const total = found.reduce((sum, value) => sum + value, 0);
    return { first, shares: found.map((value) => value / total) };
  });
}

/** A plane of `width` x `height` bytes at another size. */
function resize(plane, width, height, newWidth, newHeight) {
  const wide = new Uint8ClampedArray(newWidth * height);
  weights(width, newWidth).forEach(({ first, shares }, x) => {
    for (let y = 0; y < height; y++) {
      wide[y * newWidth + x] = shares.reduce((sum, share, i) => sum + share * plane[y * width + first + i], 0);
    }
  });
  const made = new Uint8ClampedArray(newWidth * newHeight);
  weights(height, newHeight).forEach(({ first, shares }, y) => {
    for (let x = 0; x < newWidth; x++) {
      made[y * newWidth + x] = shares.reduce((sum, share, i) => sum + share * wide[(first + i) * newWidth + x], 0);
    }
  });
  return made;
}

/** Half to even, as Python rounds. */
const rounded = (value) => (value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

/** The net's input, (1, channels, height, width), of the RGBA pixels of a picture. */
export function prepare(rgba, width, height, net) {
  const [given] = net.inputs;
  const planes = Array.from({ length: given.channels }, () => new Uint8ClampedArray(width * height));
  for (let i = 0; i < width * height; i++) {
    const [red, green, blue] = rgba.subarray(4 * i, 4 * i + 3);
    if (given.channels === 1) planes[0][i] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
    else [red, green, blue].forEach((value, channel) => { planes[channel][i] = value; });
  }
  const shorter = Math.min(width, height);
  const newWidth = Math.floor((net.shorter_side * width) / shorter);
  const newHeight = Math.floor((net.shorter_side * height) / shorter);
  const [rows, columns] = net.trained;
  const left = rounded((newWidth - columns) / 2);
  const top = rounded((newHeight - rows) / 2);
  const data = new Float32Array(given.channels * rows * columns);
  planes.forEach((plane, channel) => {
    const small = resize(plane, width, height, newWidth, newHeight);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const pixel = small[(top + y) * newWidth + left + x] ?? 0;
        data[(channel * rows + y) * columns + x] = (pixel / given.scale - given.mean[channel]) / given.std[channel];
      }
    }
  });
  return { data, dims: [1, given.channels, rows, columns] };
}
