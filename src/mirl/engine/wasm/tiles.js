/**
 * A photograph in overlapping tiles of one size: the twin of mirl/engine/tiles.py.
 *
 * Tiles do not depend on each other, so they may be run anywhere, such as in several Workers; results added in the order of
 * the tiles are the same bits then. A ticket's windows are tiles, each restored by itself. Where a ticket looks at the whole
 * image (window 0) and that does not fit in memory, the network is run over every tile twice: first to sum what it looks at,
 * then, with those sums, to restore.
 */

const BLOCK = 8; // windows begin at multiples of it
export const OVERLAP = 64; // of tiles for want of memory, as in tiles.py
const f = Math.fround;

/**
 * @typedef {object} Cut
 * @property {number} side of the square tiles; 0: the whole image is one
 * @property {number} overlap that neighbours share at least
 * @property {boolean} whole whether each tile is to look at the whole image, through statistics that all share
 * @typedef {{top: number, left: number, down: Float32Array, across: Float32Array}} Tile a place, and the weights there, one for
 *   each row and each column
 */

export class Tiling {
  /**
   * @param {number} height
   * @param {number} width
   * @param {Cut} cut
   */
  constructor(height, width, { side, overlap, whole }) {
    const line = (size) => (whole ? tilesOf(size, side || size, overlap) : windowsOf(size, side, overlap));
    const rows = line(height), columns = line(width);
    this.height = height;
    this.width = width;
    /** @type {Tile[]} */
    this.tiles = rows.flatMap(([top, down]) => columns.map(([left, across]) => ({ top, left, down, across })));
    /** Whether the network is run over all tiles once more before, for their statistics. */
    this.sharing = whole && this.tiles.length > 1;
    /** The side of windows where there are several, 0 for one. */
    this.window = !whole && Math.max(height, width) > side ? side : 0;
  }

  /**
   * Copy a tile's values out of the image's, `channels` for each pixel.
   * @template {Float32Array|Uint8ClampedArray} T
   * @param {T} pixels
   * @param {Tile} tile
   * @param {number} channels
   * @returns {T}
   */
  take(pixels, { top, left, down, across }, channels) {
    const line = channels * across.length, out = new pixels.constructor(line * down.length);
    for (let y = 0; y < down.length; y++) {
      const from = channels * ((top + y) * this.width + left);
      out.set(pixels.subarray(from, from + line), line * y);
    }
    return out;
  }

  /**
   * Add a restored tile to the image by its weights; over all tiles they sum to one.
   * @param {Float32Array} result (height, width, 3)
   * @param {Tile} tile
   * @param {Float32Array} restored
   */
  add(result, { top, left, down, across }, restored) {
    for (let y = 0, from = 0; y < down.length; y++)
      for (let x = 0, to = 3 * ((top + y) * this.width + left); x < across.length; x++) {
        const weight = f(down[y] * across[x]);
        for (let c = 0; c < 3; c++, to++) result[to] += f(restored[from++] * weight);
      }
  }
}

/**
 * Add one tile's sums to those of the whole image.
 * @param {Float32Array} total
 * @param {Float32Array} part
 */
export function addSums(total, part) {
  for (let i = 0; i < total.length; i++) total[i] += part[i];
}

/**
 * RGB in [0, 1] of RGBA bytes.
 * @param {Uint8ClampedArray} data
 * @returns {Float32Array}
 */
export function toFloats(data) {
  const pixels = new Float32Array((data.length / 4) * 3);
  for (let i = 0, o = 0; o < pixels.length; i += 4) for (let c = 0; c < 3; c++) pixels[o++] = data[i + c] / 255;
  return pixels;
}

/**
 * Write RGB in [0, 1] into RGBA bytes, whose alpha stays, rounded half to even as by numpy.
 * @param {Float32Array} pixels
 * @param {Uint8ClampedArray} data
 */
export function toBytes(pixels, data) {
  for (let i = 0, o = 0; o < pixels.length; i += 4) for (let c = 0; c < 3; c++) data[i + c] = f(pixels[o++] * 255);
}

/** Throw unless every value is a number. */
export function checkFinite(values) {
  for (let i = 0; i < values.length; i++)
    if (!Number.isFinite(values[i])) throw new Error("the network gave NaN or infinite pixels; check the ticket");
}

/** Where tiles begin on a line of `size` units, spread evenly, sharing at least `overlap`. */
function startsOf(size, tile, overlap) {
  const gaps = tile >= size ? 0 : Math.ceil((size - tile) / (tile - overlap));
  return Array.from({ length: gaps + 1 }, (_, i) => Math.floor(((size - tile) * i) / Math.max(gaps, 1)));
}

/** Weights of tiles that begin at `starts`: what two share is faded by `ramp(place, count)`; over all they sum to one. */
function fade(size, tile, starts, ramp) {
  const raw = starts.map(() => new Float64Array(tile).fill(1)), total = new Float64Array(size);
  for (let i = 0; i < starts.length - 1; i++) {
    const shared = starts[i] + tile - starts[i + 1];
    for (let k = 0; k < shared; k++) {
      const share = Math.sin(ramp(k, shared) * (Math.PI / 2)) ** 2;
      raw[i][tile - 1 - k] *= share;
      raw[i + 1][k] *= share;
    }
  }
  starts.forEach((start, i) => raw[i].forEach((weight, k) => (total[start + k] += weight)));
  return starts.map((start, i) => raw[i].map((weight, k) => weight / total[start + k]));
}

/** Begin and weights of the tiles of a line: `starts` and `windows` of tiles.py. */
function tilesOf(size, wanted, most) {
  const tile = Math.min(wanted, size), starts = startsOf(size, tile, Math.min(most, tile >> 1));
  const weights = fade(size, tile, starts, (k, count) => (k + 0.5) / count);
  return starts.map((start, i) => [start, Float32Array.from(weights[i])]);
}

/**
 * Begin and weights of the windows of a line: `window_weights` of tiles.py. They begin at multiples of 8, and weights are
 * straight between the middles of blocks, as tone is.
 */
function windowsOf(size, window, overlap) {
  const blocks = Math.ceil(size / BLOCK), wide = Math.min(window / BLOCK, blocks);
  const starts = startsOf(blocks, wide, Math.max(2, Math.ceil(overlap / BLOCK)));
  const nodes = fade(blocks, wide, starts, (k, count) => k / (count - 1));
  return starts.map((start, i) => {
    const length = Math.min(BLOCK * wide, size - BLOCK * start);
    const weights = Float32Array.from({ length }, (_, pixel) => {
      const place = Math.min(Math.max((pixel + 0.5) / BLOCK - 0.5, 0), wide - 1), first = Math.floor(place);
      const next = nodes[i][Math.min(first + 1, wide - 1)];
      return nodes[i][first] + (next - nodes[i][first]) * (place - first);
    });
    return [BLOCK * start, weights];
  });
}
