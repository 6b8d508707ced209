/**
 * How much of a network's change is done, and of which kind: the twin of mirl/engine/tone.py, which gives the formula and its
 * reasons; what blocks say of a change is found by blocks.js.
 *
 * The change r of a photograph x holds haze, H = up(shift) + up(contrast) (x - up(mean)), and the rest, N = r - H. Where it was
 * restored in several windows, H is what all say together, H'. The result, clipped:
 *
 *     x + strength (denoise N + g H') = x + strength (denoise r - denoise H + g H'),   g = dehaze * how much haze there is
 */
import { Enlarged, split } from "./blocks.js";

/**
 * @typedef {object} ToneOptions
 * @property {number} [strength] 0 returns the input, 1 (default) the restored image; between them they are blended
 * @property {number} [denoise] share of the fine change: noise, rain, traces of coding; 0 to 1 (default)
 * @property {number} [dehaze] share of the change of tone and contrast where there is haze; 0 to 1 (default)
 * @property {"auto"|"keep"} [tone] "keep": none of that, whatever the haze; default: as much as there is haze
 * @typedef {import("./blocks.js").Read} Read
 * @typedef {import("./blocks.js").Parts} Parts
 */

const TONES = ["auto", "keep"];

/** Throw unless the options are such as `ToneOptions` says. */
export function checkTone({ strength = 1, denoise = 1, dehaze = 1, tone = "auto" }) {
  for (const [name, value] of Object.entries({ strength, denoise, dehaze }))
    if (!(value >= 0 && value <= 1)) throw new Error(`${name} must lie between 0 and 1, found ${value}`);
  if (!TONES.includes(tone)) throw new Error(`tone must be ${TONES.join(" or ")}, found ${tone}`);
}

/** So much of the haze that each window found, and of that which all found together, row by row. */
class Haze {
  /**
   * @param {Parts} parts
   * @param {number} ofOwn
   * @param {number} ofCommon
   * @param {number} height
   * @param {number} width
   */
  constructor({ mean, own, common }, ofOwn, ofCommon, height, width) {
    const mixed = (name) => own[name].map((value, i) => ofOwn * value + ofCommon * common[name][i]);
    const blocks = [mean, mixed("shift"), mixed("contrast")];
    [this.mean, this.shift, this.contrast] = blocks.map((each) => new Enlarged(each, height, width));
  }

  /** Add row `y` to `out`; `x` is that row of the photograph. */
  add(out, y, x) {
    const means = this.mean.line(y), shifts = this.shift.line(y), contrasts = this.contrast.line(y);
    const { left, right, weight } = this.contrast;
    for (let k = 0, i = 0; k < left.length; k++) {
      const a = left[k], b = right[k], there = weight[k], here = 1 - there, contrast = here * contrasts[a] + there * contrasts[b];
      for (let l = 3 * a, r = 3 * b, end = l + 3; l < end; l++, r++, i++)
        out[i] += here * shifts[l] + there * shifts[r] + contrast * (x[i] - here * means[l] - there * means[r]);
    }
  }
}

/**
 * Write what is wanted of a change.
 * @param {Read} read
 * @param {number} height
 * @param {number} width
 * @param {() => Parts} partsOf asked for where they matter
 * @param {boolean} several whether the photograph was restored in several windows
 * @param {ToneOptions} options
 * @param {number} seen how much haze the photograph holds, 0 to 1
 * @param {(y: number, row: Float32Array) => void} write takes each row of the result in turn, RGB that may have to be clipped
 */
export function tone(read, height, width, partsOf, several, options, seen, write) {
  const { strength = 1, denoise = 1, dehaze = 1 } = options, dehazed = options.tone === "keep" ? 0 : dehaze * seen;
  const own = several ? -denoise : dehazed - denoise, common = several ? dehazed : 0;
  const whole = !several && denoise === 1 && dehazed === 1; // the network's own output, clipped before it is blended
  const haze = own || common ? new Haze(partsOf(), strength * own, strength * common, height, width) : null;
  const x = new Float32Array(3 * width), r = new Float32Array(3 * width), out = new Float32Array(3 * width);
  const share = strength * denoise;
  for (let y = 0; y < height; y++) {
    read(y, x, r);
    for (let i = 0; i < x.length; i++)
      out[i] = x[i] + (whole ? strength * (Math.min(Math.max(x[i] + r[i], 0), 1) - x[i]) : share * r[i]);
    haze?.add(out, y, x);
    write(y, out);
  }
}

/**
 * Write what is wanted of a change over the change itself, and return it: RGB in [0, 1].
 * @param {Float32Array} pixels (height, width, 3)
 * @param {Float32Array} change
 * @param {number} height
 * @param {number} width
 * @param {number} window the side of the windows it was restored in, 0 for one
 * @param {ToneOptions} options
 * @param {number} seen how much haze the photograph holds, 0 to 1
 */
export function tonePixels(pixels, change, height, width, window, options, seen) {
  const line = 3 * width;
  const read = (y, x, r) => {
    x.set(pixels.subarray(line * y, line * (y + 1)));
    r.set(change.subarray(line * y, line * (y + 1)));
  };
  tone(read, height, width, () => split(read, height, width, window), window > 0, options, seen, (y, row) => {
    for (let i = 0, to = line * y; i < line; i++, to++) change[to] = Math.min(Math.max(row[i], 0), 1);
  });
  return change;
}
