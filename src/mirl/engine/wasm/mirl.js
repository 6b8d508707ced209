/**
 * Restore photographs with a ticket in a browser or node, without dependencies: the sparse engine of ../native as
 * WebAssembly.
 *
 *     const engine = await loadEngine(await (await fetch(wasmFile())).arrayBuffer());
 *     const restorer = await engine.open(await (await fetch("ticket.mirl")).arrayBuffer());
 *     context.putImageData(restorer.restore(context.getImageData(0, 0, width, height)), 0, 0);
 *
 * Results are those of `mirl restore`. `restore` works until it is done: call it in a Worker. To spread the windows of a
 * photograph over several, call `forward` there, as `mapTiles` does here, and `tonePixels` when all are back.
 */
import { thumbnail } from "./haze.js";
import { readTicket, Ticket } from "./ticket.js";
import { addSums, checkFinite, OVERLAP, Tiling, toBytes, toFloats } from "./tiles.js";
import { checkTone, tonePixels } from "./tone.js";

export { readTicket, Ticket };

const KINDS = ["conv", "pointwise", "depthwise", "linear", "prompt", "norm", "bias", "temperature"]; // enum mirl_kind
const PRUNABLE = 5; // of them, the first ones
const OWN = 0, SUM = 1, USE = 2; // enum mirl_statistics
const NAME_BYTES = 64, NETWORK_BYTES = 80, FACTS_BYTES = 48;
const PAGE = 65536, MOST_BYTES = 2 ** 32 - PAGE;
const SMALLEST_TILE = 32, LARGEST_TILE = 65536, WINDOW_STEP = 8; // as in windows.py
const SCRATCH_BYTES = 768 * 2 ** 20; // for one tile, where the caller leaves its size to us
const SIDES = [1024, 512, 256, 128];
const RELAXED = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0,
  65, 1, 253, 15, 65, 1, 253, 15, 65, 1, 253, 15, 253, 133, 2, 11]; // a module whose one function is f32x4.relaxed_madd
const MOST_TENSORS = 20000; // the published network has 600; finding one by its index takes longer the more there are

/**
 * @typedef {import("./ticket.js").Network} Network
 * @typedef {import("./ticket.js").Tensor} Tensor
 * @typedef {object} TileOptions
 * @property {number} [window] side of the square windows in pixels, each restored by itself, an eighth of it shared with the
 *   next one; 0: the network looks at the whole image; default: the ticket's own
 * @property {number} [tile] with window 0, side of the square tiles in pixels, 0 the whole image at once; default: what
 *   memory allows
 * @property {(done: number, all: number) => void} [onTile] told after each window or tile; what it throws ends the work
 * @typedef {import("./tone.js").ToneOptions & TileOptions} Options
 * @typedef {{width: number, height: number, data: Uint8ClampedArray}} Picture RGBA, such as an ImageData
 */

/** Name of the file that is fastest here: with fused multiply-add where there is relaxed SIMD, else with plain SIMD. */
export function wasmFile() {
  return WebAssembly.validate(new Uint8Array(RELAXED)) ? "mirl-relaxed.wasm" : "mirl.wasm";
}

/**
 * Compile the engine.
 * @param {BufferSource|WebAssembly.Module} source bytes of the file, or what `WebAssembly.compileStreaming` made of them
 * @returns {Promise<Engine>}
 */
export async function loadEngine(source) {
  const module = source instanceof WebAssembly.Module ? source : await WebAssembly.compile(source);
  return new Engine(module, await Memory.create(module));
}

/** The memory of one WebAssembly instance; nothing in it is allocated but by the caller, from `base` on. */
class Memory {
  /** @param {WebAssembly.Module} module */
  static async create(module) {
    return new Memory((await WebAssembly.instantiate(module)).exports);
  }

  constructor(exports) {
    this.call = exports;
    this.base = exports.memory.buffer.byteLength; // above the stack and constants of the C code
  }

  /** Make sure that bytes up to `end` can be used; views made before are void. */
  reserve(end) {
    const missing = Math.ceil((end - this.call.memory.buffer.byteLength) / PAGE);
    if (missing <= 0) return;
    try {
      if (end > MOST_BYTES) throw new RangeError();
      this.call.memory.grow(missing);
    } catch {
      throw new Error(`not enough memory: ${Math.ceil(end / 2 ** 20)} MiB are needed at once; use a smaller tile`);
    }
  }

  /** Lay out areas of the given bytes one after the other from `begin`, 64-byte aligned, and return where they begin. */
  layOut(begin, ...sizes) {
    const places = [];
    for (const size of sizes) {
      places.push(begin);
      begin += Math.ceil(size / 64) * 64;
    }
    this.reserve(begin);
    return places;
  }

  floats(begin, count) {
    return new Float32Array(this.call.memory.buffer, begin, count);
  }

  view(begin, bytes) {
    return new DataView(this.call.memory.buffer, begin, bytes);
  }

  /** Write a mirl_network (a double and 18 int32). */
  putNetwork(begin, network) {
    const view = this.view(begin, NETWORK_BYTES), n = network;
    view.setFloat64(0, n.expansion, true);
    [n.width, ...n.blocks, n.refinement_blocks, ...n.heads, n.prompts, ...n.prompt_widths, ...n.prompt_sizes, 0]
      .forEach((value, index) => view.setInt32(8 + 4 * index, value, true));
  }
}

/** The compiled engine. Every ticket opened gets memory of its own, which goes with it. */
class Engine {
  constructor(module, memory) {
    this.module = module;
    this.memory = memory; // for questions about networks
  }

  /**
   * List every tensor of a network in the order of a ticket, or null when it cannot be built or has more than 20,000.
   * @param {Network} network
   * @returns {Tensor[]|null}
   */
  tensors(network) {
    const memory = this.memory, [about, name] = memory.layOut(memory.base, NETWORK_BYTES, NAME_BYTES + 16);
    memory.putNetwork(about, network);
    const count = memory.call.mirl_tensor_count(about);
    if (count < 0 || count > MOST_TENSORS) return null;
    return Array.from({ length: count }, (_, index) => {
      const kind = memory.call.mirl_tensor(about, index, name, name + NAME_BYTES);
      const text = new Uint8Array(memory.call.memory.buffer, name, NAME_BYTES);
      const shape = [...new Int32Array(memory.call.memory.buffer, name + NAME_BYTES, 4)].filter((side) => side > 0);
      return {
        name: String.fromCharCode(...text.subarray(0, text.indexOf(0))),
        kind: KINDS[kind],
        shape,
        size: shape.reduce((product, side) => product * side, 1),
        prunable: kind < PRUNABLE,
      };
    });
  }

  /**
   * Read a ticket and get it ready to restore.
   * @param {Ticket|Uint8Array|ArrayBuffer} ticket
   * @returns {Promise<Restorer>} rejected with an Error for what is no ticket
   */
  async open(ticket) {
    const read = ticket instanceof Ticket ? ticket : await readTicket(ticket, this);
    return new Restorer(read, await Memory.create(this.module));
  }
}

/** A ticket that is ready to restore. Its memory: the plan, then what one forward needs, reused from image to image. */
class Restorer {
  constructor(ticket, memory) {
    const { call, base } = memory;
    const count = ticket.networkSize;
    const [network, pointers, weights] = memory.layOut(base, NETWORK_BYTES, 4 * ticket.tensors.length, 4 * count);
    memory.putNetwork(network, ticket.network);
    ticket.unfold(memory.floats(weights, count));
    const point = (to) => {
      const list = new Uint32Array(call.memory.buffer, pointers, ticket.tensors.length);
      ticket.tensors.forEach((tensor, index) => {
        list[index] = to;
        to += 4 * tensor.size;
      });
    };
    point(weights);
    const bytes = call.mirl_plan_bytes(network, pointers) >>> 0; // known once the weights are there, which then make room
    const [plan, moved] = memory.layOut(weights, bytes, 4 * count);
    new Uint8Array(call.memory.buffer).copyWithin(moved, weights, weights + 4 * count);
    point(moved);
    const failed = bytes ? call.mirl_pack(network, pointers, plan, bytes) : -1;
    if (failed) throw new Error(`the engine cannot use this ticket (error ${failed})`);
    this.ticket = ticket;
    this.memory = memory;
    this.plan = plan;
    this.statisticsSize = call.mirl_statistics_size(plan) >>> 0;
    const [facts] = memory.layOut(moved, FACTS_BYTES);
    call.mirl_describe(plan, facts);
    const view = memory.view(facts, FACTS_BYTES);
    const planBytes = Number(view.getBigInt64(16, true));
    /** As mirl_facts: what the plan holds. */
    this.facts = {
      nonzero: Number(view.getBigInt64(0, true)),
      removed: Number(view.getBigInt64(8, true)),
      planBytes,
      macsPerPixel: view.getFloat64(24, true),
      attentionMacsPerPixel: view.getFloat64(32, true),
      denseMacsPerPixel: view.getFloat64(40, true),
    };
    this.free = plan + Math.ceil(planBytes / 64) * 64; // the dense weights above are needed no more
  }

  /**
   * Restore a picture; its alpha stays.
   * @param {Picture} image
   * @param {Options} [options]
   * @returns {Picture} an ImageData where there is such a thing
   */
  restore(image, options = {}) {
    const { width, height, data } = image;
    if (!(data?.length === 4 * width * height && data.length > 0))
      throw new Error(`expected 4 x width x height values, found ${data?.length} for ${width}x${height} pixels`);
    const out = new Uint8ClampedArray(data);
    toBytes(this.restoreFloat(toFloats(data), height, width, options), out);
    return typeof ImageData === "undefined" ? { width, height, data: out } : new ImageData(out, width, height);
  }

  /**
   * Restore (height, width, 3) RGB in [0, 1] to the same shape and range; the twin of engine.restore_pixels.
   * @param {Float32Array} pixels
   * @param {number} height
   * @param {number} width
   * @param {Options} [options]
   * @returns {Float32Array}
   */
  restoreFloat(pixels, height, width, options = {}) {
    if (!this.memory) throw new Error("this restorer was closed");
    if (!(Math.min(height, width) >= 1 && pixels.length === 3 * height * width))
      throw new Error(`expected 3 x height x width values, found ${pixels.length} for ${width}x${height} pixels`);
    checkTone(options);
    const tiling = new Tiling(height, width, this.cut(height, width, options));
    if (options.strength === 0) return pixels.slice();
    const change = this.mapTiles(pixels, tiling, options.onTile ?? (() => {}));
    checkFinite(change);
    for (let i = 0; i < change.length; i++) change[i] -= pixels[i];
    return tonePixels(pixels, change, height, width, tiling.window, options, this.haze(thumbnail(pixels, height, width)) ?? 1);
  }

  /**
   * How a photograph is cut: in windows, or, with window 0, in tiles that share their statistics.
   * @param {number} height
   * @param {number} width
   * @param {TileOptions} [options]
   * @returns {import("./tiles.js").Cut}
   */
  cut(height, width, { window, tile } = {}) {
    for (const [name, side] of Object.entries({ window: window ?? 0, tile: tile ?? 0 }))
      if (side !== 0 && !(Number.isInteger(side) && side >= SMALLEST_TILE && side <= LARGEST_TILE))
        throw new Error(`${name} must be 0 (the whole image) or ${SMALLEST_TILE} to ${LARGEST_TILE} pixels, found ${side}`);
    if (window % WINDOW_STEP) throw new Error(`window must be a multiple of ${WINDOW_STEP} pixels, found ${window}`);
    const own = this.ticket.windows, named = window !== undefined && window !== own.size;
    const { size, overlap } = named ? { size: window, overlap: window >> 3 } : own;
    if (size) return { side: size, overlap, whole: false };
    return { side: tile ?? this.chooseTile(height, width), overlap: OVERLAP, whole: true };
  }

  /**
   * How much haze a photograph holds, 0 to 1, or null where the ticket does not judge it.
   * @param {import("./haze.js").Thumbnail} small
   */
  haze(small) {
    return this.ticket.hazeHead ? this.ticket.hazeHead.amount(small) : null;
  }

  /** Let go of all memory. */
  close() {
    this.memory = null;
  }

  /** Side of the tiles for an image: 0, the whole image, when its scratch memory is small enough. */
  chooseTile(height, width) {
    const fits = (h, w) => {
      const bytes = this.scratchBytes(h, w);
      return bytes > 0 && bytes <= SCRATCH_BYTES;
    };
    return fits(height, width) ? 0 : (SIDES.find((side) => fits(side, side)) ?? SIDES.at(-1));
  }

  /**
   * Bytes of scratch memory for an image, or 0 for too many: the C code counts them in 32 bits, but four times those of an
   * image with half the sides are never fewer.
   */
  scratchBytes(height, width) {
    if (height * width > 4096) {
      const quarter = this.scratchBytes(Math.ceil(height / 2), Math.ceil(width / 2));
      if (!quarter || quarter > 2 ** 30) return 0;
    }
    return this.memory.call.mirl_scratch_bytes(this.plan, height, width, 1) >>> 0;
  }

  /** Run all tiles and blend them. Where they share statistics, a first pass sums them. */
  mapTiles(pixels, tiling, onTile) {
    const { tiles, sharing } = tiling, images = tiles.length, all = sharing ? 2 * images : images;
    const shared = sharing && { statistics: new Float32Array(this.statisticsSize), images };
    const result = new Float32Array(pixels.length);
    let done = 0;
    if (shared)
      for (const tile of tiles) {
        addSums(shared.statistics, this.sum(tiling.take(pixels, tile, 3), tile.down.length, tile.across.length));
        onTile(++done, all);
      }
    for (const tile of tiles) {
      const restored = this.forward(tiling.take(pixels, tile, 3), tile.down.length, tile.across.length, shared);
      tiling.add(result, tile, restored);
      onTile(++done, all);
    }
    return result;
  }

  /**
   * Run the network once on (height, width, 3) RGB in [0, 1]; the result is not clipped.
   * @param {Float32Array} pixels
   * @param {number} height
   * @param {number} width
   * @param {{statistics: Float32Array, images: number}|false} [shared] the sums over so many tiles of this size; default:
   *   its own
   * @returns {Float32Array}
   */
  forward(pixels, height, width, shared) {
    return this.run(pixels, height, width, shared ? USE : OWN, shared).output.slice();
  }

  /**
   * Sum what the network looks at in a whole image over one tile of it.
   * @param {Float32Array} pixels
   * @param {number} height
   * @param {number} width
   * @returns {Float32Array}
   */
  sum(pixels, height, width) {
    return this.run(pixels, height, width, SUM).sums.slice();
  }

  run(pixels, height, width, mode, shared) {
    const { memory } = this, bytes = this.scratchBytes(height, width);
    if (!bytes) throw new Error(`${width}x${height} pixels are too many at once; use a smaller tile`);
    const sizes = [4 * pixels.length, 4 * pixels.length, 4 * this.statisticsSize, bytes];
    const [image, out, statistics, scratch] = memory.layOut(this.free, ...sizes);
    const sums = memory.floats(statistics, this.statisticsSize);
    if (shared) sums.set(shared.statistics);
    else sums.fill(0);
    memory.floats(image, pixels.length).set(pixels);
    const failed = memory.call.mirl_forward(
      this.plan, image, out, height, width, 1, scratch, bytes, statistics, mode, shared ? shared.images : 1);
    if (failed) throw new Error(`the engine cannot restore ${width}x${height} pixels (error ${failed})`);
    return { output: memory.floats(out, pixels.length), sums };
  }
}
