/** The pixels of photographs and their changes: those used last are kept, older ones packed away and decoded once more. */
import { decode } from "./photo.js";

const MOST_PIXELS = 40e6; // 10 bytes each

/**
 * @typedef {{before: ImageData|null, change: import("./change.js").Change|null}} Picture `before` is null for what this
 *   browser cannot show, `change` before there is one
 * @typedef {{file: Blob}} Source an item: its file
 */

export class Pictures {
  /** @param {number} [most] pixels that are kept */
  constructor(most = MOST_PIXELS) {
    this.most = most;
    this.kept = new Map(); // the last one is the one used last
    this.packed = new Map();
  }

  /** @param {Source} item */
  put(item, before, change) {
    this.drop(item);
    this.kept.set(item, { before, change });
    this.makeRoom();
  }

  /**
   * @param {Source} item
   * @returns {Promise<Picture|undefined>}
   */
  async get(item) {
    let picture = this.kept.get(item);
    if (!picture && this.packed.has(item)) {
      const { file, change } = this.packed.get(item);
      const [before, bytes] = await Promise.all([file && decode(file, Infinity), change?.steps.arrayBuffer()]);
      if (!this.packed.has(item)) return this.get(item); // put, got or dropped meanwhile
      picture = { before, change: change && { ...change, steps: new Int16Array(bytes) } };
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
      const { before, change } = picture;
      const packed = change && { ...change, steps: new Blob([change.steps]) }; // a browser moves large ones to its disk
      this.packed.set(item, { file: before && item.file, change: packed });
    }
  }
}
