/** Files into pixels and back, as far as a canvas allows: docs/page.md says what it cannot keep. */
import { readHeader } from "./header.js";
import { savedType } from "./names.js";

export const MAX_MEGAPIXELS = 40; // in this browser: about 0.9 GB with all copies; some phones allow a canvas even less
export const MAX_MEGABYTES = 100;
const QUALITY = 95; // as mirl restore

/** A photograph that is refused; its message is for people. */
export class Refused extends Error {}

/**
 * Look at a file before anything is decoded. Throws Refused for what can be told to fail.
 * @param {Blob} file
 * @param {number} megapixels the limit
 * @returns {Promise<import("./header.js").Header>}
 */
export async function inspect(file, megapixels = MAX_MEGAPIXELS) {
  if (file.size === 0) throw new Refused("The file is empty.");
  if (file.size > MAX_MEGABYTES * 1e6)
    throw new Refused(`Too large: ${Math.round(file.size / 1e6)} MB, the limit is ${MAX_MEGABYTES} MB.`);
  let buffer;
  try {
    buffer = await file.slice(0, 1 << 20).arrayBuffer(); // beyond long EXIF and ICC blocks
  } catch {
    throw new Refused("The file cannot be read; it may have been moved or changed.");
  }
  const header = readHeader(buffer);
  if (!header) throw new Refused("This is not a photograph that can be read: use JPEG, PNG or WebP.");
  if (header.type === "image/gif") throw new Refused("This is a GIF: save it as a PNG by itself first.");
  if (header.animated) throw new Refused("This is an animation: save one picture of it by itself first.");
  checkSize(header.width, header.height, megapixels);
  return header;
}

function checkSize(width, height, megapixels) {
  const found = (width * height) / 1e6;
  if (found > megapixels)
    throw new Refused(`Too large: ${width} × ${height} is ${found.toFixed(0)} megapixels, the limit is ${megapixels}.`);
}

/**
 * Decode to sRGB pixels; browsers turn them upright unasked.
 * @param {Blob} file
 * @param {number} megapixels the limit
 * @returns {Promise<ImageData>}
 */
export async function decode(file, megapixels = MAX_MEGAPIXELS) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { premultiplyAlpha: "none" });
  } catch {
    throw new Refused("The photograph cannot be read: it is damaged, or of a format this browser does not know.");
  }
  try {
    checkSize(bitmap.width, bitmap.height, megapixels);
    const context = contextOf(bitmap.width, bitmap.height);
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height, { colorSpace: "srgb" });
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused("There is not enough memory for this photograph.");
  } finally {
    bitmap.close();
  }
}

function contextOf(width, height, alpha = true) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { alpha, colorSpace: "srgb", willReadFrequently: true });
  if (!context) throw new Error("no canvas");
  return context;
}

/** Whether any pixel lets something shine through. */
export function isClear({ data }) {
  for (let i = 3; i < data.length; i += 4) if (data[i] < 255) return true;
  return false;
}

let webp; // whether this browser encodes it, asked once

/**
 * Encode as asked for. "keep" is the photograph's own format where a browser can write it, else PNG. Throws Refused.
 * @param {ImageData} pixels
 * @param {string} type media type of the original
 * @param {{format?: string, quality?: number}} [wish] keep, png, jpeg or webp; 1 to 100
 * @returns {Promise<Blob>}
 */
export async function encode(pixels, type, { format = "keep", quality } = {}) {
  webp ??= (await toBlob(contextOf(1, 1).canvas, "image/webp")).type === "image/webp";
  const clear = isClear(pixels), context = contextOf(pixels.width, pixels.height, clear); // opaque: a file without alpha
  if (format === "jpeg" && clear) throw new Refused("JPEG cannot keep its transparency: save it as PNG or WebP.");
  if (format === "webp" && !webp) throw new Refused("This browser cannot write WebP: save it as PNG or JPEG.");
  context.putImageData(pixels, 0, 0);
  return toBlob(context.canvas, format === "keep" ? savedType(type, clear, webp) : `image/${format}`, quality);
}

function toBlob(canvas, type, quality = QUALITY) {
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Refused("The result cannot be saved: not enough memory."))),
      type, quality / 100));
}
