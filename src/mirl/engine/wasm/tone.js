/**
 * Brightness and tone: the twin of mirl/engine/tone.py.
 *
 * The network's change r of a photograph is split into what lies below a 16-pixel block, which is `denoise`'s, and the change
 * of block means m. Haze changes means; so do rain and noise, but never by more than they change what is fine (c below). Of
 * the rest, m - c, as much is done as the photograph holds haze:
 *
 *     out = clip(x + strength * (denoise * (r - up(m)) + up(denoise * c + g * (m - c)))),   g = dehaze * haze
 *         = clip(x + strength * denoise * r + strength * (g - denoise) * up(m - c))
 */

const BLOCK = 16;
const BELIEVED = 1; // a change of the mean is believed up to so many times the mean fine change

/**
 * @typedef {object} ToneOptions
 * @property {number} [strength] 0 returns the input, 1 (default) the restored image; between them they are blended
 * @property {number} [denoise] share of the fine change, 0 to 1 (default)
 * @property {number} [dehaze] share of the change of tone where there is haze, 0 to 1 (default)
 * @property {"auto"|"keep"} [tone] "keep": no change of tone whatever the haze; default: as much as there is haze
 * @typedef {{rows: number, columns: number, values: Float32Array}} Blocks (rows, columns, 3), one for each 16x16 pixels
 */

export const TONES = ["auto", "keep"];

/** Throw unless the options are such as `ToneOptions` says. */
export function checkTone({ strength = 1, denoise = 1, dehaze = 1, tone = "auto" }) {
  for (const [name, value] of Object.entries({ strength, denoise, dehaze }))
    if (!(value >= 0 && value <= 1)) throw new Error(`${name} must lie between 0 and 1, found ${value}`);
  if (!TONES.includes(tone)) throw new Error(`tone must be ${TONES.join(" or ")}, found ${tone}`);
}

/**
 * How much of the change r, and how much of up(m - c), is added.
 * @param {ToneOptions} options
 * @param {number} haze how much haze the photograph holds, 0 to 1
 */
export function shares({ strength = 1, denoise = 1, dehaze = 1, tone = "auto" }, haze) {
  const toned = tone === "keep" ? 0 : dehaze * haze;
  return { change: strength * denoise, surplus: strength * (toned - denoise) };
}

/**
 * Of the change of each block's mean, what its fine change does not explain: m - c, in the units of `change`.
 * @param {Float32Array|Int16Array} change (height, width, 3)
 * @param {number} height
 * @param {number} width
 * @returns {Blocks}
 */
export function surplus(change, height, width) {
  const rows = Math.ceil(height / BLOCK), columns = Math.ceil(width / BLOCK), line = 3 * width;
  const values = new Float32Array(3 * rows * columns), fine = new Float64Array(rows * columns);
  const area = (block) =>
    Math.min(BLOCK, height - BLOCK * Math.floor(block / columns)) * Math.min(BLOCK, width - BLOCK * (block % columns));
  for (let row = 0, at = 0; row < rows; row++) {
    const sums = new Float64Array(3 * columns);
    for (const end = Math.min((row + 1) * BLOCK, height) * line; at < end; )
      for (let column = 0, x = 0; column < columns; column++)
        for (const edge = Math.min((column + 1) * BLOCK, width); x < edge; x++, at += 3) {
          sums[3 * column] += change[at];
          sums[3 * column + 1] += change[at + 1];
          sums[3 * column + 2] += change[at + 2];
        }
    sums.forEach((sum, i) => (values[3 * columns * row + i] = sum / area(columns * row + Math.floor(i / 3))));
  }
  const up = new Interpolation({ rows, columns, values }, width);
  for (let y = 0, at = 0; y < height; y++) {
    const mean = up.row(y), first = Math.floor(y / BLOCK) * columns;
    for (let column = 0, i = 0; column < columns; column++) {
      let sum = 0;
      for (const end = 3 * Math.min((column + 1) * BLOCK, width); i < end; i++) sum += Math.abs(change[at++] - mean[i]);
      fine[first + column] += sum;
    }
  }
  fine.forEach((sum, block) => {
    const most = (BELIEVED * sum) / (3 * area(block));
    for (let i = 3 * block; i < 3 * block + 3; i++) values[i] -= Math.min(Math.max(values[i], -most), most);
  });
  return { rows, columns, values };
}

/** Blocks as rows of pixels: between the blocks' middles bilinear, beyond the outer ones constant. */
export class Interpolation {
  /**
   * @param {Blocks} blocks
   * @param {number} width of the image
   */
  constructor({ rows, columns, values }, width) {
    Object.assign(this, { rows, columns, values });
    this.mixed = new Float32Array(3 * columns);
    this.out = new Float32Array(3 * width);
    const places = Array.from({ length: width }, (_, x) => between(x, columns));
    this.left = Int32Array.from(places, ([left]) => 3 * left);
    this.right = Int32Array.from(places, ([, right]) => 3 * right);
    this.weight = Float32Array.from(places, ([, , weight]) => weight);
  }

  /**
   * @param {number} y
   * @returns {Float32Array} (width, 3), written anew at the next call
   */
  row(y) {
    const { mixed, out, left, right, weight, values } = this, [above, below, share] = between(y, this.rows);
    for (let i = 0, a = above * mixed.length, b = below * mixed.length; i < mixed.length; i++, a++, b++)
      mixed[i] = values[a] + (values[b] - values[a]) * share;
    for (let x = 0, to = 0; x < left.length; x++, to += 3) {
      const a = left[x], b = right[x], there = weight[x], here = 1 - there;
      out[to] = here * mixed[a] + there * mixed[b];
      out[to + 1] = here * mixed[a + 1] + there * mixed[b + 1];
      out[to + 2] = here * mixed[a + 2] + there * mixed[b + 2];
    }
    return out;
  }
}

/** The blocks whose middles lie on both sides of a pixel, and the share of the second one. */
function between(pixel, count) {
  const place = Math.min(Math.max((pixel + 0.5) / BLOCK - 0.5, 0), count - 1), first = Math.floor(place);
  return [first, Math.min(first + 1, count - 1), place - first];
}

/**
 * Add the network's change to a photograph, by the options.
 * @param {Float32Array} pixels (height, width, 3) in [0, 1]
 * @param {Float32Array} change of the same shape; the result is written there, in [0, 1]
 * @param {number} height
 * @param {number} width
 * @param {ToneOptions} options
 * @param {number} haze
 * @returns {Float32Array}
 */
export function applyTone(pixels, change, height, width, options, haze) {
  const share = shares(options, haze), line = 3 * width, none = new Float32Array(line);
  const up = share.surplus ? new Interpolation(surplus(change, height, width), width) : null;
  for (let y = 0, at = 0; y < height; y++) {
    const tone = up ? up.row(y) : none;
    for (let i = 0; i < line; i++, at++)
      change[at] = Math.min(Math.max(pixels[at] + share.change * change[at] + share.surplus * tone[i], 0), 1);
  }
  return change;
}
