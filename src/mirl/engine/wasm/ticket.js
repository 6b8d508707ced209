/**
 * Read a `.mirl` ticket (docs/format.md) in a browser or node: the twin of mirl/ticket.py.
 *
 * What tensors a network has is asked of the engine (`mirl_tensor`), so the architecture is written down once less.
 * Everything is checked before memory is taken for it; a truncated, altered or foreign file gives one Error that says what
 * is wrong.
 */

import { headSize, HazeHead } from "./haze.js";

const PREFIX = 20;
const VERSIONS = [1, 2];
const MAX_HEADER = 2 ** 20;
const MAX_DEPTH = 32; // of lists and objects in the header
const MAX_BLOCKS = 1024;
const MAX_PARAMETERS = 2 ** 28;
const SMALL = 2 ** 24, PER_BYTE = 256; // so many parameters fit any file, and so many more for each byte of it
const SMALLEST_WINDOW = 32, MAX_WINDOW = 65536, WINDOW_STEP = 8;
const PIECE = 16384; // bytes inflated at a time: browsers unfold a whole piece before they hand out any of it
const FIELDS = { network: "object", masked: "list", values: "string", mask_block: "integer", kept_half: "integer",
  kept_full: "integer", provenance: "object" };
const FIELDS_2 = { ...FIELDS, window: "integer", overlap: "integer", haze_head: "object or null", head_block: "integer" };
const HEAD_FIELDS = { widths: "list", low: "number", high: "number" };
const LENGTHS = { width: 0, blocks: 4, refinement_blocks: 0, heads: 4, expansion: 0, prompts: 0, prompt_widths: 3,
  prompt_sizes: 3 }; // fields of NetworkConfig; 0: one number

/**
 * @typedef {{width: number, blocks: number[], refinement_blocks: number, heads: number[], expansion: number,
 *   prompts: number, prompt_widths: number[], prompt_sizes: number[]}} Network
 * @typedef {{name: string, kind: string, shape: number[], size: number, prunable: boolean}} Tensor
 */

/** A subnetwork and where it comes from. */
export class Ticket {
  /**
   * @param {Network} network
   * @param {object} provenance recipe, tasks, scores, density: plain JSON, not checked
   * @param {Tensor[]} tensors all tensors of the network, in order
   * @param {(Uint8Array|null)[]} masks of each tensor, one bit a weight, the lowest first; null: dense
   * @param {Float32Array[]} streams kept values, those stored as float16 and those stored as float32
   * @param {boolean} half whether prunable tensors are in the first stream
   * @param {{size: number, overlap: number}} windows in which photographs are restored; size 0: statistics of the whole image
   * @param {HazeHead|null} hazeHead
   */
  constructor(network, provenance, tensors, masks, streams, half, windows, hazeHead) {
    Object.assign(this, { network, provenance, tensors, masks, streams, half, windows, hazeHead });
  }

  /** Number of all parameters of the dense network. */
  get networkSize() {
    return this.tensors.reduce((sum, tensor) => sum + tensor.size, 0);
  }

  /** Number of all parameters, those of the haze head included. */
  get total() {
    return this.networkSize + (this.hazeHead?.values.length ?? 0);
  }

  /** Parameters that are kept: all but those that the masks prune. */
  get kept() {
    return this.streams[0].length + this.streams[1].length + (this.hazeHead?.values.length ?? 0);
  }

  /**
   * Write all tensors of the network as float32, back to back, pruned weights as 0.
   * @param {Float32Array} [out] of `networkSize` values
   */
  unfold(out = new Float32Array(this.networkSize)) {
    const taken = [0, 0];
    let begin = 0;
    this.tensors.forEach((tensor, index) => {
      const from = this.half && tensor.prunable ? 0 : 1;
      const mask = this.masks[index], stream = this.streams[from];
      let next = taken[from];
      if (!mask) {
        out.set(stream.subarray(next, next + tensor.size), begin);
        next += tensor.size;
      } else {
        for (let i = 0; i < tensor.size; i++) out[begin + i] = (mask[i >> 3] >> (i & 7)) & 1 ? stream[next++] : 0;
      }
      taken[from] = next;
      begin += tensor.size;
    });
    return out;
  }
}

/**
 * @param {Uint8Array|ArrayBuffer} bytes of a `.mirl` file
 * @param {{tensors(network: Network): Tensor[]|null}} engine from `loadEngine`
 * @returns {Promise<Ticket>} rejected with an Error for anything that is no ticket
 */
export async function readTicket(bytes, engine) {
  const data = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
  if (data.length < PREFIX || String.fromCharCode(...data.subarray(0, 4)) !== "MIRL")
    throw new Error(`not a ticket: expected a .mirl file of at least ${PREFIX} bytes that starts with MIRL`);
  const prefix = new DataView(data.buffer, data.byteOffset);
  const [version, headSize, blockSize, crc] = [4, 8, 12, 16].map((at) => prefix.getUint32(at, true));
  if (!VERSIONS.includes(version))
    throw new Error(`ticket version ${version}, expected ${VERSIONS.join(" or ")}; get a newer reader`);
  const body = data.subarray(PREFIX);
  if (body.length !== headSize + blockSize)
    throw new Error(`truncated or overlong: ${body.length} bytes follow the prefix, expected ${headSize + blockSize}; ` +
      "fetch the file again");
  if (crc32(body) !== crc) throw new Error("altered: the checksum does not match; fetch the file again");
  const header = parseHeader(await inflate(body.subarray(0, headSize), MAX_HEADER, false), version);
  const { blocks, refinement_blocks: refining } = header.network;
  const deep = 2 * blocks.reduce((sum, count) => sum + count, 0) + refining;
  if (deep > MAX_BLOCKS) throw new Error(`ticket asks for a network of ${deep} blocks, at most ${MAX_BLOCKS} are allowed`);
  const tensors = engine.tensors(header.network);
  if (!tensors) throw new Error("the ticket's network cannot be built: its sizes do not fit each other or are too many");
  const total = tensors.reduce((sum, tensor) => sum + tensor.size, 0);
  const most = Math.min(SMALL + PER_BYTE * body.length, MAX_PARAMETERS);
  if (total > most)
    throw new Error(`ticket asks for ${total} parameters in ${body.length} bytes, at most ${most} are allowed`);

  const masked = new Set(header.masked), half = header.values === "float16";
  for (const tensor of tensors) if (tensor.prunable || tensor.name.endsWith("weight")) masked.delete(tensor.name);
  if (masked.size)
    throw new Error(`ticket: a mask for ${[...masked][0].slice(0, 80)}, which is no prunable tensor of its network`);
  header.masked.forEach((name) => masked.add(name));
  const maskBytes = (tensor) => (masked.has(tensor.name) ? Math.ceil(tensor.size / 8) : 0);
  const maskEnd = headSize + header.mask_block;
  const bits = await inflate(body.subarray(headSize, maskEnd), tensors.reduce((sum, tensor) => sum + maskBytes(tensor), 0));
  const masks = [], counts = [0, 0];
  let position = 0;
  for (const tensor of tensors) {
    const mask = masked.has(tensor.name) ? bits.subarray(position, position + maskBytes(tensor)) : null;
    position += maskBytes(tensor);
    masks.push(mask);
    counts[half && tensor.prunable ? 0 : 1] += mask ? countBits(mask, tensor.size) : tensor.size;
  }
  if (counts[0] !== header.kept_half || counts[1] !== header.kept_full)
    throw new Error(`ticket: its masks keep ${counts.join(" + ")} values, its header says ` +
      `${header.kept_half} + ${header.kept_full}`);
  const valueEnd = body.length - header.head_block;
  if (valueEnd < maskEnd) throw new Error("ticket: its blocks are longer than the file");
  const planes = await inflate(body.subarray(maskEnd, valueEnd), 2 * counts[0] + 4 * counts[1]);
  const streams = [halves(planes.subarray(0, 2 * counts[0])), floats(planes.subarray(2 * counts[0]))];
  if (!streams.every((stream) => stream.every(Number.isFinite))) throw new Error("ticket: a weight is not finite");
  const windows = { size: header.window, overlap: header.overlap };
  const hazeHead = header.haze_head && (await readHead(body.subarray(valueEnd), header.haze_head));
  return new Ticket(header.network, header.provenance, tensors, masks, streams, half, windows, hazeHead);
}

async function readHead(block, { widths, low, high }) {
  const values = halves(await inflate(block, 2 * headSize(widths)));
  if (!values.every(Number.isFinite)) throw new Error("ticket: a weight of its haze head is not finite");
  return new HazeHead(widths, low, high, values);
}

/** Parse the header and check the type of every field, those of the network and of the haze head too. */
function parseHeader(bytes, version) {
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new Error(`the ticket's header is not JSON: ${error.message}`);
  }
  checkPlain(header);
  const names = (value) => JSON.stringify(Object.keys(value).sort());
  const exactly = (value, fields) => kindOf(value) === "object" && names(value) === names(fields);
  const fields = version === 1 ? FIELDS : FIELDS_2;
  if (!exactly(header, fields)) throw new Error(`the ticket's header must hold exactly ${Object.keys(fields).join(", ")}`);
  for (const [name, kind] of Object.entries(fields))
    if (!kind.includes(kindOf(header[name]))) throw new Error(`the ticket's header field ${name} must be ${kind}`);
  if (version === 1) Object.assign(header, { window: 0, overlap: 0, haze_head: null, head_block: 0 });
  if (!["float16", "float32"].includes(header.values) || header.mask_block < 0)
    throw new Error("the ticket's values must be float16 or float32 and its mask block not negative");
  if (!header.masked.every((name) => typeof name === "string"))
    throw new Error("the ticket's list of masked tensors must hold names");
  if (!exactly(header.network, LENGTHS))
    throw new Error(`the ticket's network must hold exactly ${Object.keys(LENGTHS).join(", ")}`);
  for (const [name, length] of Object.entries(LENGTHS)) {
    const value = header.network[name], list = length ? value : [value];
    const fits = (x) => typeof x === "number" && (name === "expansion" || (Number.isInteger(x) && x >= 1 && x <= 4096));
    if (!Array.isArray(list) || (length && list.length !== length) || !list.every(fits))
      throw new Error(`the ticket's network field ${name} must be ${length || "one"} of the sizes 1 to 4096`);
  }
  checkWindows(header);
  if (header.haze_head) checkHead(header.haze_head, exactly(header.haze_head, HEAD_FIELDS));
  if (header.head_block < 0 || (header.haze_head === null && header.head_block > 0))
    throw new Error("the ticket's head_block must be 0 without a haze head, and never negative");
  return header;
}

function checkWindows({ window, overlap }) {
  const fits = window === 0 || (window >= SMALLEST_WINDOW && window <= MAX_WINDOW && window % WINDOW_STEP === 0);
  if (!fits || overlap < 0 || 2 * overlap > window)
    throw new Error(`the ticket's window must be 0 or a multiple of ${WINDOW_STEP} from ${SMALLEST_WINDOW} to ${MAX_WINDOW} ` +
      "pixels, its overlap at most half of it");
}

function checkHead({ widths, low, high }, exact) {
  if (!exact || !headSize(widths)) throw new Error("the ticket's haze head must hold possible widths, low and high");
  if (!(typeof low === "number" && typeof high === "number" && 0 <= low && low < high && high <= 1))
    throw new Error("the ticket's haze head must say 0 <= low < high <= 1");
}

/** Refuse what python's reader refuses: deep nesting, numbers beyond all bounds, halves of characters. */
function checkPlain(value, depth = 0) {
  if (depth > MAX_DEPTH) throw new Error(`the ticket's header is nested more than ${MAX_DEPTH} deep`);
  if (typeof value === "number" && !Number.isFinite(value)) throw new Error("the ticket's header holds a number too large");
  if (typeof value === "string" && /\p{Surrogate}/u.test(value)) throw new Error("the ticket's header holds half a character");
  if (value === null || typeof value !== "object") return;
  if (!Array.isArray(value)) Object.keys(value).forEach((key) => checkPlain(key, depth + 1));
  Object.values(value).forEach((inner) => checkPlain(inner, depth + 1));
}

function kindOf(value) {
  if (Array.isArray(value)) return "list";
  return Number.isInteger(value) ? "integer" : value === null ? "null" : typeof value;
}

/** Inflate to at most `size` bytes (exactly `size` unless told otherwise), never taking much more memory than that. */
async function inflate(data, size, exact = true) {
  let at = 0, length = 0;
  const pieces = new ReadableStream({
    pull(controller) {
      if (at < data.length) controller.enqueue(data.subarray(at, (at += PIECE)));
      else controller.close();
    },
  }, { highWaterMark: 0 });
  const reader = pieces.pipeThrough(new DecompressionStream("deflate")).getReader(), chunks = [];
  try {
    for (let next = await reader.read(); !next.done && length <= size; next = await reader.read()) {
      chunks.push(next.value);
      length += next.value.length;
    }
  } catch {
    throw new Error("a block of the ticket cannot be inflated");
  }
  if (length > size) await reader.cancel().catch(() => {});
  if (length > size || (exact && length !== size))
    throw new Error(`a block of the ticket does not hold the ${size} bytes its network asks for`);
  const content = new Uint8Array(length);
  chunks.reduce((begin, chunk) => (content.set(chunk, begin), begin + chunk.length), 0);
  const last = new DataView(data.buffer, data.byteOffset + data.length - 4, 4);
  if (last.getUint32(0) !== adler32(content)) throw new Error("a block of the ticket is followed by other bytes");
  return content;
}

/** What a zlib stream ends with; node before 22 accepts bytes after that end. */
function adler32(data) {
  let a = 1, b = 0;
  for (let i = 0; i < data.length; ) {
    for (const end = Math.min(i + 3800, data.length); i < end; i++) b += a += data[i];
    a %= 65521;
    b %= 65521;
  }
  return ((b << 16) | a) >>> 0;
}

function crc32(data) {
  const table = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  let crc = 0xffffffff;
  for (let i = 0; i < data.length; i++) crc = table[(crc ^ data[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Count the ones among the first `size` bits. */
function countBits(bytes, size) {
  let count = 0;
  for (let i = 0; i < bytes.length; i++) {
    let byte = i === size >> 3 ? bytes[i] & ((1 << (size & 7)) - 1) : bytes[i];
    for (; byte; byte &= byte - 1) count++;
  }
  return count;
}

/** Byte planes of float16 values as float32. */
function halves(planes) {
  const count = planes.length / 2, out = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const bits = planes[i] | (planes[count + i] << 8), exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    out[i] = exponent === 31 ? NaN : bits >> 15 ? -size : size;
  }
  return out;
}

/** Byte planes of float32 values. */
function floats(planes) {
  const count = planes.length / 4, bytes = new Uint8Array(planes.length);
  for (let k = 0; k < 4; k++) for (let i = 0; i < count; i++) bytes[4 * i + k] = planes[k * count + i];
  return new Float32Array(bytes.buffer);
}
