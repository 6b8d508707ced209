/** What is changed in a photograph, kept so that strength, denoise, dehaze and tone need no other run of the network. */
import { checkFinite } from "./tiles.js";
import { split } from "./blocks.js";
import { tone } from "./tone.js";

const STEPS = 64; // of a level of 255: rounding then moves one pixel in a hundred by one level
const MOST = 32767; // twice black to white

/**
 * @typedef {object} Change
 * @property {Int16Array} steps (height, width, 3), what is added at full strength, in sixty-fourths of a level
 * @property {import("./blocks.js").Parts} parts of which it consists
 * @property {boolean} several whether it was made in several windows
 * @property {number|null} haze how much haze was seen, 0 to 1; null where that was not judged
 * @property {number} seen as much of the haze in `parts` is to be taken away
 */

/**
 * The change of a photograph, gathered from its restored windows in their order. Memory: the steps, and one row of windows as
 * floats; what lies above the next row of windows is settled.
 */
export class Gathering {
  /**
   * @param {Uint8ClampedArray} data RGBA of the photograph
   * @param {import("./tiles.js").Tiling} tiling
   */
  constructor(data, tiling) {
    Object.assign(this, { data, tiling, top: 0 });
    this.band = new Float32Array(3 * tiling.width * tiling.tiles[0].down.length); // none is higher than the first
    this.steps = new Int16Array((data.length / 4) * 3);
  }

  /**
   * @param {import("./tiles.js").Tile} tile
   * @param {Float32Array} restored the network's output there, not clipped
   */
  add(tile, restored) {
    if (tile.top > this.top) this.settle(tile.top);
    this.tiling.add(this.band, { ...tile, top: 0 }, restored);
  }

  /** All steps. */
  finish() {
    this.settle(this.tiling.height);
    return this.steps;
  }

  settle(end) {
    const { band, data, steps, tiling, top } = this, done = 3 * tiling.width * (end - top), scale = 255 * STEPS;
    checkFinite(band.subarray(0, done));
    for (let k = 0, o = 3 * tiling.width * top, i = 4 * tiling.width * top; k < done; i += 4)
      for (let c = 0; c < 3; c++, k++, o++) {
        const value = Math.min(Math.max(band[k] * scale - data[i + c] * STEPS, -MOST), MOST);
        steps[o] = value < 0 ? value - 0.5 : value + 0.5; // what stands behind the point is cut off
      }
    band.copyWithin(0, done).fill(0, band.length - done);
    this.top = end;
  }
}

/**
 * What the blocks of a photograph say of a change.
 * @param {Uint8ClampedArray} data RGBA of the photograph
 * @param {Int16Array} steps
 * @param {number} height
 * @param {number} width
 * @param {number} window the side of the windows it was restored in, 0 for one
 */
export function partsOf(data, steps, height, width, window) {
  return split(reader(data, steps, width), height, width, window);
}

/**
 * The change between two pictures. The server has toned `after` already, so its haze is that share of what the network found;
 * what was clipped or rounded there is lost.
 * @param {ImageData} before
 * @param {ImageData} after
 * @param {number|null} haze
 * @returns {Change}
 */
export function changeBetween({ data, height, width }, after, haze) {
  const steps = new Int16Array((data.length / 4) * 3);
  for (let i = 0, o = 0; o < steps.length; i += 4)
    for (let c = 0; c < 3; c++) steps[o++] = STEPS * (after.data[i + c] - data[i + c]);
  return { steps, parts: partsOf(data, steps, height, width, 0), several: false, haze, seen: 1 };
}

/**
 * The photograph as `mirl restore` with these options gives it; alpha stays.
 * @param {ImageData} before
 * @param {Change} change
 * @param {import("./tone.js").ToneOptions} options
 * @returns {ImageData}
 */
export function render({ data, height, width }, { steps, parts, several, seen }, options) {
  const out = new ImageData(new Uint8ClampedArray(data), width, height), to = out.data;
  tone(reader(data, steps, width), height, width, () => parts, several, options, seen, (y, row) => {
    for (let x = 0, i = 4 * width * y; x < row.length; i += 4) // the array rounds and clips
      for (let c = 0; c < 3; c++) to[i + c] = 255 * row[x++];
  });
  return out;
}

/** @returns {import("./tone.js").Read} */
function reader(data, steps, width) {
  return (y, x, r) => {
    for (let k = 0, o = 3 * width * y, i = 4 * width * y; k < x.length; i += 4)
      for (let c = 0; c < 3; c++, k++, o++) {
        x[k] = data[i + c] / 255;
        r[k] = steps[o] / (255 * STEPS);
      }
  };
}
