/**
 * How much of a network's change is done, and of which kind: the twin of mirl/engine/tone.py, which gives the formula and its
 * reasons.
 *
 * The change r of a photograph x is split into haze, H = up(haze) + up(contrast) (x - up(mean)), and the rest, N = r - H;
 * haze, contrast and mean stand in blocks of 8x8 pixels, between whose middles up() interpolates. The result, clipped:
 *
 *     x + strength (denoise N + g H) = x + strength denoise r + strength (g - denoise) H,   g = dehaze * how much haze there is
 */

const BLOCK = 8; // pixels
const LOCAL = 0.6, REMOVED = 0.5, GLOBAL = 0.9, SHARE = [0.03, 0.07], CORRELATION = [0.1, 0.3];
const FLAT = 1e-6; // a quarter of a level, squared: less is no texture

/**
 * @typedef {object} ToneOptions
 * @property {number} [strength] 0 returns the input, 1 (default) the restored image; between them they are blended
 * @property {number} [denoise] share of the fine change: noise, rain, traces of coding; 0 to 1 (default)
 * @property {number} [dehaze] share of the change of tone and contrast where there is haze; 0 to 1 (default)
 * @property {"auto"|"keep"} [tone] "keep": none of that, whatever the haze; default: as much as there is haze
 * @typedef {{mean: Float32Array, haze: Float32Array, contrast: Float32Array}} Parts of each block; the last has one channel
 * @typedef {(y: number, x: Float32Array, r: Float32Array) => void} Read writes a row of the photograph, RGB in [0, 1], and of
 *   its change
 */

const TONES = ["auto", "keep"];

/** Throw unless the options are such as `ToneOptions` says. */
export function checkTone({ strength = 1, denoise = 1, dehaze = 1, tone = "auto" }) {
  for (const [name, value] of Object.entries({ strength, denoise, dehaze }))
    if (!(value >= 0 && value <= 1)) throw new Error(`${name} must lie between 0 and 1, found ${value}`);
  if (!TONES.includes(tone)) throw new Error(`tone must be ${TONES.join(" or ")}, found ${tone}`);
}

/**
 * How much of r and of H is added. `whole`: the network's own output is wanted, clipped before it is blended.
 * @param {ToneOptions} options
 * @param {number} haze how much haze the photograph holds, 0 to 1
 */
export function shares({ strength = 1, denoise = 1, dehaze = 1, tone = "auto" }, haze) {
  const dehazed = tone === "keep" ? 0 : dehaze * haze;
  return { strength, change: strength * denoise, haze: strength * (dehazed - denoise), whole: denoise === 1 && dehazed === 1 };
}

/**
 * What the blocks of a photograph say of its change.
 * @param {Read} read
 * @param {number} height
 * @param {number} width
 * @returns {Parts}
 */
export function split(read, height, width) {
  const rows = Math.ceil(height / BLOCK), columns = Math.ceil(width / BLOCK);
  const x = new Float32Array(3 * width), r = new Float32Array(3 * width);
  const tall = (row) => Math.min(BLOCK, height - BLOCK * row), wide = (column) => Math.min(BLOCK, width - BLOCK * column);
  const [mean, change, haze] = [0, 1, 2].map(() => new Float32Array(3 * rows * columns));
  for (let row = 0; row < rows; row++) {
    const sums = [x, r].map(() => new Float64Array(3 * columns));
    for (let y = BLOCK * row; y < BLOCK * row + tall(row); y++) {
      read(y, x, r);
      addUp(sums[0], x);
      addUp(sums[1], r);
    }
    for (let i = 0, to = 3 * columns * row; i < 3 * columns; i++, to++) {
      const area = tall(row) * wide(Math.floor(i / 3));
      mean[to] = sums[0][i] / area;
      change[to] = sums[1][i] / area;
    }
  }
  const upMean = new Enlarged(mean, height, width), upChange = new Enlarged(change, height, width);
  const [product, energy, power] = [0, 1, 2].map(() => new Float64Array(rows * columns)), of = new Float32Array(3 * width);
  for (let row = 0; row < rows; row++) {
    const sums = [product, energy, power].map((all) => all.subarray(columns * row, columns * (row + 1)));
    for (let y = BLOCK * row; y < BLOCK * row + tall(row); y++) {
      read(y, x, r);
      const means = upMean.row(y), changes = upChange.row(y);
      for (let i = 0; i < of.length; i++) {
        x[i] -= means[i];
        r[i] -= changes[i];
        of[i] = r[i] * x[i];
        x[i] *= x[i];
        r[i] *= r[i];
      }
      [of, x, r].forEach((values, i) => addAll(sums[i], values));
    }
    for (const each of sums) for (let column = 0; column < columns; column++) each[column] /= 3 * tall(row) * wide(column);
  }
  const everywhere = GLOBAL * cleared(product, energy, power), contrast = new Float32Array(rows * columns);
  for (let block = 0; block < contrast.length; block++) {
    const removed = Math.max(-product[block], 0), full = energy[block] + FLAT;
    const bound = Math.sqrt(removed) * Math.max(LOCAL * Math.min(removed / full / REMOVED, 1), everywhere);
    contrast[block] = Math.max(product[block], 0) / full;
    for (let i = 3 * block; i < 3 * block + 3; i++) haze[i] = change[i] - Math.min(Math.max(change[i], -bound), bound);
  }
  return { mean, haze, contrast };
}

/** How surely the whole photograph is cleared of something, 0 to 1. */
function cleared(product, energy, power) {
  const sum = (values) => values.reduce((all, value) => all + value, 0), [p, q, v] = [product, energy, power].map(sum);
  const removed = product.reduce((all, value) => all + Math.max(-value, 0), 0);
  return ramp(removed / Math.max(q, 1e-12), ...SHARE) * ramp(-p / Math.sqrt(Math.max(q * v, 1e-24)), ...CORRELATION);
}

function ramp(value, low, high) {
  return Math.min(Math.max((value - low) / (high - low), 0), 1);
}

/** Add the pixels of a row to the sums of their blocks, by channel. */
function addUp(sums, row) {
  for (let to = 0, i = 0; to < sums.length; to += 3)
    for (const end = Math.min(i + 3 * BLOCK, row.length); i < end; i += 3) {
      sums[to] += row[i];
      sums[to + 1] += row[i + 1];
      sums[to + 2] += row[i + 2];
    }
}

/** Add the values of a row to the sums of their blocks, all channels together. */
function addAll(sums, row) {
  for (let to = 0, i = 0; to < sums.length; to++) {
    let sum = 0;
    for (const end = Math.min(i + 3 * BLOCK, row.length); i < end; i++) sum += row[i];
    sums[to] += sum;
  }
}

/** Blocks as rows of pixels: bilinear between the middles of blocks (of whole ones, the last too), constant beyond. */
class Enlarged {
  /**
   * @param {Float32Array} blocks (rows, columns, channels)
   * @param {number} height of the image
   * @param {number} width
   */
  constructor(blocks, height, width) {
    const rows = Math.ceil(height / BLOCK), columns = Math.ceil(width / BLOCK), channels = blocks.length / rows / columns;
    Object.assign(this, { blocks, rows, channels });
    this.mixed = new Float32Array(channels * columns);
    this.out = new Float32Array(channels * width);
    const places = Array.from({ length: width }, (_, x) => between(x, columns));
    this.left = Int32Array.from(places, ([left]) => channels * left);
    this.right = Int32Array.from(places, ([, right]) => channels * right);
    this.weight = Float32Array.from(places, ([, , weight]) => weight);
  }

  /**
   * @param {number} y
   * @returns {Float32Array} (width, channels), written anew at the next call
   */
  row(y) {
    const { mixed, out, left, right, weight, blocks, channels } = this, [above, below, share] = between(y, this.rows);
    for (let i = 0, a = above * mixed.length, b = below * mixed.length; i < mixed.length; i++, a++, b++)
      mixed[i] = blocks[a] + (blocks[b] - blocks[a]) * share;
    for (let x = 0, to = 0; x < left.length; x++)
      for (let c = 0, a = left[x], b = right[x]; c < channels; c++, a++, b++)
        out[to++] = mixed[a] + (mixed[b] - mixed[a]) * weight[x];
    return out;
  }
}

/** The blocks whose middles lie on both sides of a pixel, and the share of the second one. */
function between(pixel, count) {
  const place = Math.min(Math.max((pixel + 0.5) / BLOCK - 0.5, 0), count - 1), first = Math.floor(place);
  return [first, Math.min(first + 1, count - 1), place - first];
}

/** H, row by row. */
export class Haze {
  /**
   * @param {Parts} parts
   * @param {number} height
   * @param {number} width
   */
  constructor({ mean, haze, contrast }, height, width) {
    [this.mean, this.haze, this.contrast] = [mean, haze, contrast].map((blocks) => new Enlarged(blocks, height, width));
  }

  /**
   * @param {number} y
   * @param {Float32Array} x the row of the photograph
   * @returns {Float32Array} (width, 3), written anew at the next call
   */
  row(y, x) {
    const means = this.mean.row(y), contrasts = this.contrast.row(y), out = this.haze.row(y);
    for (let k = 0, i = 0; k < contrasts.length; k++, i += 3) {
      const contrast = contrasts[k];
      out[i] += contrast * (x[i] - means[i]);
      out[i + 1] += contrast * (x[i + 1] - means[i + 1]);
      out[i + 2] += contrast * (x[i + 2] - means[i + 2]);
    }
    return out;
  }
}

/**
 * Write what is wanted of a change.
 * @param {Read} read
 * @param {number} height
 * @param {number} width
 * @param {() => Parts} parts asked for where they matter
 * @param {ToneOptions} options
 * @param {number} seen how much haze the photograph holds, 0 to 1
 * @param {(y: number, row: Float32Array) => void} write takes each row of the result in turn, RGB that may have to be clipped
 */
export function tone(read, height, width, parts, options, seen, write) {
  const share = shares(options, seen), x = new Float32Array(3 * width), r = new Float32Array(3 * width);
  const haze = share.haze ? new Haze(parts(), height, width) : null;
  for (let y = 0; y < height; y++) {
    read(y, x, r);
    const hazy = haze?.row(y, x);
    if (share.whole) for (let i = 0; i < x.length; i++) x[i] += share.strength * (Math.min(Math.max(x[i] + r[i], 0), 1) - x[i]);
    else if (!hazy) for (let i = 0; i < x.length; i++) x[i] += share.change * r[i];
    else for (let i = 0; i < x.length; i++) x[i] += share.change * r[i] + share.haze * hazy[i];
    write(y, x);
  }
}

/**
 * Write what is wanted of a change over the change itself, and return it: RGB in [0, 1].
 * @param {Float32Array} pixels (height, width, 3)
 * @param {Float32Array} change
 * @param {number} height
 * @param {number} width
 * @param {ToneOptions} options
 * @param {number} seen
 */
export function tonePixels(pixels, change, height, width, options, seen) {
  const line = 3 * width;
  const read = (y, x, r) => {
    x.set(pixels.subarray(line * y, line * (y + 1)));
    r.set(change.subarray(line * y, line * (y + 1)));
  };
  tone(read, height, width, () => split(read, height, width), options, seen, (y, row) => {
    for (let i = 0, to = line * y; i < line; i++, to++) change[to] = Math.min(Math.max(row[i], 0), 1);
  });
  return change;
}
