/**
 * How much haze does a photograph hold? One answer from a thumbnail, by a ticket's haze head: the twin of mirl/haze_head.py
 * and mirl/engine/haze.py.
 */

const SIDE = 96; // of the thumbnail's long side
const DARK = 2; // the dark channel looks as many pixels to each side
const FLOOR = Math.fround(1e-3); // keeps the saturation of black finite
const FEATURES = 5; // red, green, blue, dark channel, saturation
const KERNEL = 3;
const MOST_LAYERS = 6, MOST_CHANNELS = 64;

/** @typedef {{pixels: Float32Array, height: number, width: number}} Thumbnail (height, width, 3), RGB in [0, 1] */

/** The network: strided 3x3 convolutions over features of a thumbnail, their mean, one output. */
export class HazeHead {
  /**
   * @param {number[]} widths output channels of each convolution
   * @param {number} low output at which there is no haze yet
   * @param {number} high output from which on there surely is
   * @param {Float32Array} values all tensors back to back, as `headShapes` lists them
   */
  constructor(widths, low, high, values) {
    Object.assign(this, { widths, low, high, values });
  }

  /**
   * @param {Thumbnail} small
   * @returns {number} from 0, no haze, to 1, surely some
   */
  amount(small) {
    return Math.min(Math.max((this.probability(small) - this.low) / (this.high - this.low), 0), 1);
  }

  /** The logistic output for a thumbnail. */
  probability(small) {
    let x = features(small), { height, width } = small, at = 0;
    const take = (count) => this.values.subarray(at, (at += count));
    this.widths.forEach((outputs, layer) => {
      const inputs = layer ? this.widths[layer - 1] : FEATURES;
      const weight = take(outputs * inputs * KERNEL * KERNEL), bias = take(outputs);
      x = convolve(x, height, width, inputs, weight, bias);
      [height, width] = [Math.ceil(height / 2), Math.ceil(width / 2)];
    });
    const weight = take(this.widths.at(-1)), [bias] = take(1), area = height * width;
    let score = bias;
    weight.forEach((factor, channel) => {
      let sum = 0;
      for (let i = 0; i < area; i++) sum += x[channel * area + i];
      score += (factor * sum) / area;
    });
    return 1 / (1 + Math.exp(-score));
  }
}

/**
 * How many values a head of these widths has, or 0 for widths that none can have.
 * @param {unknown} widths
 */
export function headSize(widths) {
  const fits = (n) => Number.isInteger(n) && n >= 1 && n <= MOST_CHANNELS;
  if (!(Array.isArray(widths) && widths.length >= 1 && widths.length <= MOST_LAYERS && widths.every(fits))) return 0;
  const layers = widths.map((outputs, layer) => outputs * ((layer ? widths[layer - 1] : FEATURES) * KERNEL * KERNEL + 1));
  return layers.reduce((sum, size) => sum + size, widths.at(-1) + 1);
}

/**
 * Reduce a photograph so that its long side is 96, never enlarged; the short side is rounded, at least 1. Every pixel is the
 * exact mean over the rectangle of the source that it covers, fractions of border pixels included.
 * @param {Float32Array|Uint8ClampedArray} data RGB in [0, 1], or RGBA bytes
 * @param {number} height
 * @param {number} width
 * @returns {Thumbnail}
 */
export function thumbnail(data, height, width) {
  const [step, unit] = data instanceof Float32Array ? [3, 1] : [4, 255];
  const long = Math.max(height, width), short = (size) => Math.max(1, Math.floor((size * SIDE) / long + 0.5));
  const [rows, columns] = long <= SIDE ? [height, width] : [short(height), short(width)];
  const down = areas(height, rows), across = areas(width, columns), line = new Float64Array(step * width);
  const pixels = new Float32Array(3 * rows * columns);
  let to = 0;
  for (const vertical of down) {
    line.fill(0);
    vertical.weights.forEach((weight, i) => {
      const from = (vertical.first + i) * line.length;
      for (let k = 0; k < line.length; k++) line[k] += weight * data[from + k];
    });
    for (const { first, weights } of across)
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * line[(first + i) * step + c];
        pixels[to++] = sum / unit;
      }
  }
  return { pixels, height: rows, width: columns };
}

/** For each of `count` equal parts of a line of `size` pixels: the first pixel it touches, and the weights of all. */
function areas(size, count) {
  return Array.from({ length: count }, (_, i) => {
    const begin = (i * size) / count, end = ((i + 1) * size) / count, first = Math.floor(begin);
    const last = Math.min(Math.ceil(end), size);
    const weights = Array.from({ length: last - first }, (_, k) =>
      (Math.min(first + k + 1, end) - Math.max(first + k, begin)) / (end - begin));
    return { first, weights };
  });
}

/** What the head sees of a thumbnail: planes of R, G, B, dark channel (He et al. 2009) and saturation. */
function features({ pixels, height, width }) {
  const area = height * width, out = new Float32Array(FEATURES * area), least = new Float32Array(area);
  for (let i = 0; i < area; i++) {
    const rgb = pixels.subarray(3 * i, 3 * i + 3), most = Math.max(...rgb);
    least[i] = Math.min(...rgb);
    rgb.forEach((value, c) => (out[c * area + i] = value));
    out[4 * area + i] = (most - least[i]) / (most + FLOOR);
  }
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      let dark = Infinity;
      for (let v = Math.max(y - DARK, 0); v <= Math.min(y + DARK, height - 1); v++)
        for (let u = Math.max(x - DARK, 0); u <= Math.min(x + DARK, width - 1); u++)
          dark = Math.min(dark, least[v * width + u]);
      out[3 * area + y * width + x] = dark;
    }
  return out;
}

/** Convolve planes by (outputs, inputs, 3, 3) with a step of 2 and zeros around, then drop what is negative. */
function convolve(x, height, width, inputs, weight, bias) {
  const rows = Math.ceil(height / 2), columns = Math.ceil(width / 2), out = new Float32Array(bias.length * rows * columns);
  let to = 0;
  for (let o = 0; o < bias.length; o++)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        let sum = bias[o];
        for (let c = 0; c < inputs; c++)
          for (let i = 0; i < KERNEL; i++)
            for (let j = 0; j < KERNEL; j++) {
              const v = 2 * row + i - 1, u = 2 * column + j - 1;
              if (v < 0 || v >= height || u < 0 || u >= width) continue;
              sum += weight[((o * inputs + c) * KERNEL + i) * KERNEL + j] * x[(c * height + v) * width + u];
            }
        out[to++] = Math.max(sum, 0);
      }
  return out;
}
