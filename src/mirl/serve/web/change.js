/** What is changed in a photograph, kept so that strength, denoise, dehaze and tone need no other run of the network. */
import { Interpolation, shares, surplus } from "./tone.js";

const STEPS = 64; // of a level of 255: rounding then moves one pixel in a hundred by one level
const MOST = 32767; // twice black to white

/**
 * @typedef {object} Change
 * @property {Int16Array} steps (height, width, 3), what is added at full strength, in sixty-fourths of a level
 * @property {import("./tone.js").Blocks} surplus of the steps, see tone.js
 * @property {number|null} haze how much haze was seen, 0 to 1; null where that was not judged
 * @property {number} toned the share of the surplus that `dehaze` is of
 */

/**
 * @param {{data: Uint8ClampedArray, height: number, width: number}} before
 * @param {Float32Array} restored (height, width, 3), the network's output, not clipped
 * @param {number|null} haze
 * @returns {Change}
 */
export function keepChange({ data, height, width }, restored, haze) {
  const steps = new Int16Array(restored.length), scale = 255 * STEPS;
  for (let i = 0, o = 0; o < steps.length; i += 4)
    for (let c = 0; c < 3; c++, o++) {
      const value = Math.min(Math.max(restored[o] * scale - data[i + c] * STEPS, -MOST), MOST);
      steps[o] = value < 0 ? value - 0.5 : value + 0.5; // what stands behind the point is cut off
    }
  return { steps, surplus: surplus(steps, height, width), haze, toned: haze ?? 1 };
}

/**
 * The change between two pictures. The server has toned `after` already, so its surplus holds that share of what the
 * network's would; what was clipped or rounded there is lost.
 * @param {ImageData} before
 * @param {ImageData} after
 * @param {number|null} haze
 * @returns {Change}
 */
export function changeBetween({ data, height, width }, after, haze) {
  const steps = new Int16Array((data.length / 4) * 3);
  for (let i = 0, o = 0; o < steps.length; i += 4)
    for (let c = 0; c < 3; c++) steps[o++] = STEPS * (after.data[i + c] - data[i + c]);
  return { steps, surplus: surplus(steps, height, width), haze, toned: 1 };
}

/**
 * The photograph as `mirl restore` with these options gives it; alpha stays.
 * @param {ImageData} before
 * @param {Change} change
 * @param {import("./tone.js").ToneOptions} options
 * @returns {ImageData}
 */
export function render(before, { steps, surplus: blocks, toned }, options) {
  const { data, height, width } = before, out = new ImageData(new Uint8ClampedArray(data), width, height), to = out.data;
  const share = shares(options, toned), fine = share.change / STEPS, broad = share.surplus / STEPS;
  const up = broad ? new Interpolation(blocks, width) : null, line = 3 * width, none = new Float32Array(line);
  for (let y = 0, o = 0, i = 0; y < height; y++) {
    const tone = up ? up.row(y) : none;
    for (let x = 0; x < line; x += 3, o += 3, i += 4) { // the array rounds and clips
      to[i] = data[i] + fine * steps[o] + broad * tone[x];
      to[i + 1] = data[i + 1] + fine * steps[o + 1] + broad * tone[x + 1];
      to[i + 2] = data[i + 2] + fine * steps[o + 2] + broad * tone[x + 2];
    }
  }
  return out;
}
