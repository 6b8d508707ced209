/** What the 8x8 blocks of a photograph say of a network's change of it: the twin of Split in mirl/engine/tone.py. */

const BLOCK = 8; // pixels
const LOCAL = 0.6, REMOVED = [0.3, 0.6], AMOUNT = [0.016, 0.028], CORRELATION = [0.1, 0.3], RAISED = [0.3, 0.5];
const FLAT = 1e-6; // a quarter of a level, squared: less is no texture
const GUIDED = 1e-3; // of a guide's variance: less is no structure, as in a sky
const STEPS = 4;

/**
 * @typedef {(y: number, x: Float32Array, r: Float32Array) => void} Read writes a row of the photograph, RGB in [0, 1], and of
 *   its change
 * @typedef {{shift: Float32Array, contrast: Float32Array}} Change of each block: (rows, columns, 3) and (rows, columns)
 * @typedef {{mean: Float32Array, own: Change, common: Change}} Parts the photograph's means; the haze that each window found,
 *   and that all found together; to interpolate between
 */

/**
 * What the blocks of a photograph say of its change.
 * @param {Read} read
 * @param {number} height
 * @param {number} width
 * @param {number} window the side of the windows it was restored in, 0 for one
 * @returns {Parts}
 */
export function split(read, height, width, window) {
  const rows = Math.ceil(height / BLOCK), columns = Math.ceil(width / BLOCK);
  const x = new Float32Array(3 * width), r = new Float32Array(3 * width);
  const tall = (row) => Math.min(BLOCK, height - BLOCK * row), wide = (column) => Math.min(BLOCK, width - BLOCK * column);
  const [mean, change, shift] = [0, 1, 2].map(() => new Float32Array(3 * rows * columns));
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
  const sharp = (values) => sharpened(values, rows, columns);
  const sharpMean = sharp(mean), [upMean, upChange] = [sharpMean, sharp(change)].map((each) => new Enlarged(each, height, width));
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
  const along = correlation(product, energy, power), contrast = new Float32Array(rows * columns);
  const everywhere = ramp(Math.sqrt(removedMean(product)), AMOUNT) * ramp(-along, CORRELATION);
  const raised = product.map((value) => Math.max(value, 0));
  for (let block = 0; block < contrast.length; block++) {
    const removed = Math.max(-product[block], 0), full = energy[block] + FLAT;
    const bound = Math.sqrt(removed) * Math.max(LOCAL * ramp(removed / full, REMOVED), everywhere);
    contrast[block] = raised[block] / full;
    for (let i = 3 * block; i < 3 * block + 3; i++) shift[i] = change[i] - Math.min(Math.max(change[i], -bound), bound);
  }
  const own = { shift: sharp(shift), contrast };
  if (!window) return { mean: sharpMean, own, common: own };
  const mixed = around(energy, rows, columns, window / BLOCK);
  const witness = ramp(along, RAISED), smooth = sharp(guided(mean, shift, rows, columns, window / BLOCK));
  const ratio = around(raised, rows, columns, window / BLOCK).map((value, i) => witness * value / (mixed[i] + FLAT));
  const common = { shift: smooth.map((value) => witness * value), contrast: Float32Array.from(ratio) };
  return { mean: sharpMean, own, common };
}

/** How the fine change of a photograph goes with what is fine in it: -1, all removed, to 1, all raised. */
function correlation(product, energy, power) {
  const [p, q, v] = [product, energy, power].map((values) => values.reduce((all, value) => all + value, 0));
  return p / Math.sqrt(Math.max(q * v, 1e-24));
}

/** The mean of the fine energy that blocks lose. */
function removedMean(product) {
  return product.reduce((all, value) => all + Math.max(-value, 0), 0) / product.length;
}

function ramp(value, [low, high]) {
  return Math.min(Math.max((value - low) / (high - low), 0), 1);
}

/** Smoothed by channel as linear functions of the guide, of which the neighbourhoods' means are taken (He et al. 2013). */
function guided(guide, values, rows, columns, radius) {
  const mean = (of) => around(Float64Array.from(guide, (_, i) => of(i)), rows, columns, radius);
  const s = mean((i) => guide[i]), t = mean((i) => values[i]);
  const st = mean((i) => guide[i] * values[i]), ss = mean((i) => guide[i] * guide[i]);
  const slope = st.map((both, i) => (both - s[i] * t[i]) / (ss[i] - s[i] * s[i] + GUIDED));
  const slopes = mean((i) => slope[i]), rests = mean((i) => t[i] - slope[i] * s[i]);
  return Float32Array.from(slopes, (value, i) => value * guide[i] + rests[i]);
}

/** Means over the blocks at most `radius` rows and columns away that the photograph has. */
function around(values, rows, columns, radius) {
  const channels = values.length / rows / columns;
  const along = (from, count, step, lines) => {
    const out = new Float64Array(from.length), sums = new Float64Array(count + 1);
    for (const line of lines) {
      for (let i = 0; i < count; i++) sums[i + 1] = sums[i] + from[line + step * i];
      for (let i = 0; i < count; i++) {
        const first = Math.max(i - radius, 0), last = Math.min(i + radius + 1, count);
        out[line + step * i] = (sums[last] - sums[first]) / (last - first);
      }
    }
    return out;
  };
  const across = channels * columns, heads = Array.from({ length: rows * channels }, (_, i) =>
    across * Math.floor(i / channels) + (i % channels));
  return along(along(values, rows, across, Array.from({ length: across }, (_, i) => i)), columns, channels, heads);
}

/** Values to interpolate between, so that the blocks of what `Enlarged` makes of them have these means, nearly. */
function sharpened(means, rows, columns) {
  const blurred = (values, count, step) => values.map((value, i) => {
    const place = Math.floor(i / step) % count;
    return 0.125 * (values[place ? i - step : i] + values[place < count - 1 ? i + step : i]) + 0.75 * value;
  });
  let values = means;
  for (let step = 0; step < STEPS; step++) {
    const smooth = blurred(blurred(values, rows, 3 * columns), columns, 3);
    values = values.map((value, i) => value + (means[i] - smooth[i]));
  }
  return values;
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
export class Enlarged {
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
    this.left = Int32Array.from(places, ([left]) => left);
    this.right = Int32Array.from(places, ([, right]) => right);
    this.weight = Float32Array.from(places, ([, , weight]) => weight);
  }

  /**
   * Blocks at the height of a row: (columns, channels), written anew at the next call. Pixel x of the row lies between columns
   * `left[x]` and `right[x]`; `weight[x]` is the share of the latter.
   * @param {number} y
   */
  line(y) {
    const { mixed, blocks } = this, [above, below, share] = between(y, this.rows);
    for (let i = 0, a = above * mixed.length, b = below * mixed.length; i < mixed.length; i++, a++, b++)
      mixed[i] = blocks[a] + (blocks[b] - blocks[a]) * share;
    return mixed;
  }

  /**
   * @param {number} y
   * @returns {Float32Array} (width, channels), written anew at the next call
   */
  row(y) {
    const mixed = this.line(y), { out, left, right, weight, channels } = this;
    for (let x = 0, to = 0; x < left.length; x++)
      for (let a = channels * left[x], b = channels * right[x], end = a + channels, share = weight[x]; a < end; a++, b++)
        out[to++] = mixed[a] + (mixed[b] - mixed[a]) * share;
    return out;
  }
}

/** The blocks whose middles lie on both sides of a pixel, and the share of the second one. */
function between(pixel, count) {
  const place = Math.min(Math.max((pixel + 0.5) / BLOCK - 0.5, 0), count - 1), first = Math.floor(place);
  return [first, Math.min(first + 1, count - 1), place - first];
}
