// The arrays of the page: deflated, in base 64; each item of a first axis has a scale.
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// `array(place)` gives an array as floats; item(k) is the k-th part of its first axis.
function reader(buffer) {
  const found = new Map();
  return (place) => {
    if (!found.has(place.at)) {
      const [items, ...shape] = place.shape;
      const size = shape.reduce((product, length) => product * length, 1);
      const raw = place.bits === 16 ? new Int16Array(buffer, place.at, items * size) : new Int8Array(buffer, place.at, items * size);
      found.set(place.at, { shape, item: (k) => Float32Array.from(raw.subarray(k * size, (k + 1) * size), (x) => x * place.scale[k]) });
    }
    return found.get(place.at);
  };
}

// Row i, or column j, of the product of (T, L) and (L, T).
function mapRow(query, key, landmarks, i) {
  const count = key.length / landmarks, row = new Float32Array(count);
  for (let l = 0; l < landmarks; l++) {
    const weight = query[i * landmarks + l];
    for (let j = 0; j < count; j++) row[j] += weight * key[l * count + j];
  }
  return row;
}

function mapColumn(query, key, landmarks, j) {
  const count = key.length / landmarks, column = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    for (let l = 0; l < landmarks; l++) column[i] += query[i * landmarks + l] * key[l * count + j];
  }
  return column;
}

function strongest(values, from = 0) {
  let best = from;
  for (let k = from; k < values.length; k++) if (Math.abs(values[k]) > Math.abs(values[best])) best = k;
  return best;
}

// How many are listened to: the exponential of the entropy of the absolute weights.
function effective(values) {
  const total = values.reduce((sum, x) => sum + Math.abs(x), 0);
  let entropy = 0;
  for (const x of values) if (x) entropy -= (Math.abs(x) / total) * Math.log(Math.abs(x) / total);
  return total ? Math.exp(entropy) : 0;
}
