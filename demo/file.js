// What an ONNX file that `crosshead export` wrote says of itself.

const KEY = "crosshead";
const FORMAT = 1;
// Of a model in ONNX's Protocol Buffers: the field of its metadata, whose entries are a key and a value.
const METADATA = 14;

/** The fields of a message of Protocol Buffers, without those in it: [number, bytes] for texts and messages. */
function* fields(bytes) {
  let at = 0;
  const number = () => {
    let value = 0;
    for (let shift = 1; at < bytes.length; shift *= 128) {
      const byte = bytes[at++];
      value += (byte % 128) * shift;
      if (byte < 128) return value;
    }
    throw new Error("the file is damaged, or no ONNX file");
  };
  while (at < bytes.length) {
    const tag = number();
    const kind = tag % 8;
    if (kind === 0) number();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = number();
      if (at + length > bytes.length) throw new Error("the file is damaged, or no ONNX file");
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error("the file is damaged, or no ONNX file");
  }
}

/** The metadata of a classifier; an error that says what else the file is. */
export function describe(bytes) {
  const text = new TextDecoder();
  for (const [number, entry] of fields(bytes)) {
    if (number !== METADATA) continue;
    const pair = Object.fromEntries(fields(entry));
    if (!pair[1] || text.decode(pair[1]) !== KEY) continue;
    const found = JSON.parse(text.decode(pair[2]));
    if (found.format > FORMAT) throw new Error(`the file is of format ${found.format}; this page reads ${FORMAT}`);
    if (found.net.output !== "logits") throw new Error(`the file is of the task ${found.task}; choose a classifier`);
    return found;
  }
  throw new Error("the file was not written by crosshead export");
}
