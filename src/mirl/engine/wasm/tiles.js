/**
 * A photograph in overlapping tiles of one size: the twin of mirl/engine/tiles.py.
 *
 * Tiles do not depend on each other, so they may be run anywhere, such as in several Workers; results added in the order of
 * the tiles are the same bits then. A ticket's windows are tiles, each restored by itself. Where a ticket looks at the whole
 * image (window 0) and that does not fit in memory, the network is run over every tile twice: first to sum what it looks at,
 * then, with those sums, to restore.
 */

export const OVERLAP = 64; // of tiles for want of memory, as in tiles.py
const f = Math.fround;

/**
 * @typedef {object} Cut
 * @property {number} side of the square tiles; 0: the whole image is one
 * @property {number} overlap that neighbours share at least, half a tile at most
 * @property {boolean} whole whether each tile is to look at the whole image, through statistics that all share
 * @typedef {{top: number, left: number, down: Float32Array, across: Float32Array}} Tile a place and the weights there
 */

export class Tiling {
  /**
   * @param {number} height
   * @param {number} width
   * @param {Cut} cut
   */
  constructor(height, width, { side, overlap, whole }) {
    const rows = cut(height, side || height, overlap), columns = cut(width, side || width, overlap);
    this.height = height;
    this.width = width;
    this.tileHeight = rows.tile;
    this.tileWidth = columns.tile;
    /** @type {Tile[]} */
    this.tiles = rows.starts.flatMap((top, i) =>
      columns.starts.map((left, k) => ({ top, left, down: rows.windows[i], across: columns.windows[k] })));
    this.sharing = whole && this.tiles.length > 1;
  }

  /**
   * Copy a tile's values out of the image's, `channels` for each pixel.
   * @template {Float32Array|Uint8ClampedArray} T
   * @param {T} pixels
   * @param {Tile} tile
   * @param {number} channels
   * @returns {T}
   */
  take(pixels, tile, channels) {
    const line = channels * this.tileWidth, out = new pixels.constructor(line * this.tileHeight);
    for (let y = 0; y < this.tileHeight; y++) {
      const from = channels * ((tile.top + y) * this.width + tile.left);
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
    for (let y = 0, from = 0; y < this.tileHeight; y++)
      for (let x = 0, to = 3 * ((top + y) * this.width + left); x < this.tileWidth; x++) {
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

/** Where tiles begin on a line of `size` pixels, and their weights there: `starts` and `windows` of tiles.py. */
function cut(size, wanted, most) {
  const tile = Math.min(wanted, size), overlap = Math.min(most, tile >> 1);
  const gaps = tile === size ? 0 : Math.ceil((size - tile) / (tile - overlap));
  const starts = Array.from({ length: gaps + 1 }, (_, i) => Math.floor(((size - tile) * i) / Math.max(gaps, 1)));
  const raw = starts.map(() => new Float64Array(tile).fill(1)), total = new Float64Array(size);
  for (let i = 0; i < gaps; i++) {
    const shared = starts[i] + tile - starts[i + 1];
    for (let k = 0; k < shared; k++) {
      const ramp = Math.sin(((k + 0.5) / shared) * (Math.PI / 2)) ** 2;
      raw[i][tile - 1 - k] *= ramp;
      raw[i + 1][k] *= ramp;
    }
  }
  starts.forEach((start, i) => raw[i].forEach((weight, k) => (total[start + k] += weight)));
  const windows = starts.map((start, i) => Float32Array.from(raw[i], (weight, k) => weight / total[start + k]));
  return { tile, starts, windows };
}
