/** The pixels of photographs before and after: those used last are kept, older ones packed away and decoded once more. */
import { decode } from "./photo.js";

const MOST_PIXELS = 48e6; // 8 bytes each

/**
 * @typedef {{before: ImageData|null, after: ImageData|null}} Picture `before` is null for what this browser cannot show
 * @typedef {{file: Blob, result?: Blob}} Source an item: its file, and its result where that is a file too
 */

export class Pictures {
  /** @param {number} [most] pixels that are kept */
  constructor(most = MOST_PIXELS) {
    this.most = most;
    this.kept = new Map(); // the last one is the one used last
    this.packed = new Map();
  }

  /** @param {Source} item */
  put(item, before, after) {
    this.drop(item);
    this.kept.set(item, { before, after });
    this.makeRoom();
  }

  /**
   * @param {Source} item
   * @returns {Promise<Picture|undefined>}
   */
  async get(item) {
    let picture = this.kept.get(item);
    if (!picture && this.packed.has(item)) {
      const files = await Promise.all(this.packed.get(item));
      const [before, after] = await Promise.all(files.map((file) => file && decode(file, Infinity)));
      if (!this.packed.has(item)) return this.get(item); // put, got or dropped meanwhile
      picture = { before, after };
    }
    if (!picture) return undefined;
    this.kept.delete(item);
    this.kept.set(item, picture);
    this.packed.delete(item);
    this.makeRoom();
    return picture;
  }

  drop(item) {
    this.kept.delete(item);
    this.packed.delete(item);
  }

  makeRoom() {
    const size = ({ before }) => (before ? before.width * before.height : 0);
    let pixels = [...this.kept.values()].reduce((sum, picture) => sum + size(picture), 0);
    for (const [item, picture] of [...this.kept].slice(0, -1)) {
      if (pixels <= this.most) break;
      pixels -= size(picture);
      this.kept.delete(item);
      const packed = picture.after && pack(picture.after);
      packed?.catch(() => {}); // whoever asks for it is told
      this.packed.set(item, [picture.before && item.file, packed]);
    }
  }
}

/** As a PNG, without loss. */
async function pack(pixels) {
  const canvas = new OffscreenCanvas(pixels.width, pixels.height);
  canvas.getContext("2d", { colorSpace: "srgb" }).putImageData(pixels, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
