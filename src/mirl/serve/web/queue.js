/** Photographs one after the other: one that fails or is cancelled never stops the others. Knows nothing of the page. */

/**
 * @typedef {"waiting"|"working"|"done"|"failed"|"cancelled"} State
 * @typedef {object} Item
 * @property {number} number
 * @property {Blob} file
 * @property {string} name
 * @property {State} state
 * @property {number|null} progress 0 to 1, null where it cannot be told
 * @property {string} message why it failed
 * @property {number} seconds the work took
 */

export class Queue {
  /**
   * @param {(item: Item, signal: AbortSignal, onProgress: (share: number) => void) => Promise<void>} work
   * @param {(item: Item) => void} onChange told after each change of an item
   */
  constructor(work, onChange) {
    Object.assign(this, { work, onChange });
    /** @type {Item[]} */
    this.items = [];
    this.count = 0;
    this.running = false;
  }

  /**
   * @param {Blob} file
   * @param {string} name
   * @returns {Item}
   */
  add(file, name) {
    const item = { number: ++this.count, file, name, state: "waiting", progress: null, message: "", seconds: 0 };
    this.items.push(item);
    this.onChange(item);
    this.start();
    return item;
  }

  /** Give up an item that waits or is worked on. */
  cancel(item) {
    if (item.state === "waiting") this.set(item, { state: "cancelled" });
    else if (item.state === "working") this.controller.abort();
  }

  /** Let an item wait once more. */
  again(item) {
    if (item.state === "waiting" || item.state === "working") return;
    this.set(item, { state: "waiting", progress: null, message: "" });
    this.start();
  }

  /** Forget an item, whatever it does. */
  remove(item) {
    this.cancel(item);
    this.items = this.items.filter((other) => other !== item);
  }

  set(item, changes) {
    Object.assign(item, changes);
    if (this.items.includes(item)) this.onChange(item);
  }

  async start() {
    if (this.running) return;
    this.running = true;
    await null; // items added in one go are seen together
    for (let item; (item = this.items.find(({ state }) => state === "waiting")); ) await this.run(item);
    this.running = false;
  }

  async run(item) {
    const controller = (this.controller = new AbortController()), began = performance.now();
    this.set(item, { state: "working", progress: null });
    try {
      await this.work(item, controller.signal, (progress) => {
        if (item.state === "working") this.set(item, { progress });
      });
      controller.signal.throwIfAborted();
      this.set(item, { state: "done", seconds: (performance.now() - began) / 1000 });
    } catch (error) {
      if (controller.signal.aborted) this.set(item, { state: "cancelled" });
      else this.set(item, { state: "failed", message: error.message });
    }
  }
}
