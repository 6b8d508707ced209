/** The engine in this browser: one Worker a core, each with the ticket; the windows of a photograph are spread over them. */
import { Gathering } from "./change.js";
import { thumbnail } from "./haze.js";
import { wasmFile } from "./mirl.js";
import { spread } from "./spread.js";
import { addSums, Tiling } from "./tiles.js";

const MOST_WORKERS = 8, WORKER_BYTES = 2 ** 25; // what each takes beside the memory for its window

/**
 * How many workers pay on this machine: half of its memory may be taken. Where a browser does not tell it (iPhone, Firefox),
 * 4 GB are assumed.
 * @param {number} bytes of memory for one window
 */
export function workerCount(bytes, { hardwareConcurrency = 1, deviceMemory = 4 } = navigator) {
  const fit = Math.floor((deviceMemory * 2 ** 29) / (bytes + WORKER_BYTES));
  return Math.max(1, Math.min(hardwareConcurrency, MOST_WORKERS, fit));
}

/** A Worker whose answers are promises. */
class Hand {
  constructor() {
    this.waiting = new Map();
    this.count = 0;
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.worker.addEventListener("message", ({ data: { number, value, error } }) => {
      const { resolve, reject } = this.waiting.get(number);
      this.waiting.delete(number);
      if (error === undefined) resolve(value);
      else reject(new Error(error));
    });
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.fail(new Error("The engine stopped: this browser may be too old, or out of memory."));
    });
  }

  /** @returns {Promise<any>} */
  ask(action, given, transfer = []) {
    return new Promise((resolve, reject) => {
      this.waiting.set(++this.count, { resolve, reject });
      this.worker.postMessage({ number: this.count, action, ...given }, transfer);
    });
  }

  fail(error) {
    this.worker.terminate();
    this.waiting.forEach(({ reject }) => reject(error));
    this.waiting.clear();
    this.broken = true;
  }
}

/** Restores one photograph at a time; a photograph that is cancelled costs its workers, and the next one new ones. */
export class BrowserEngine {
  /** @param {number} [most] workers; default: as many as pay */
  constructor(most) {
    this.most = most;
    this.tickets = new Map();
    /** @type {Hand[]} */
    this.hands = [];
    this.opened = "";
    this.busy = 0;
  }

  /** Fetch what is needed ahead of the first photograph, and open the ticket; not while a photograph is restored. */
  async prepare(ticketUrl) {
    if (!this.busy) await this.open(ticketUrl, 1);
  }

  /**
   * Find what the ticket changes in a picture.
   * @param {ImageData} image
   * @param {string} ticketUrl
   * @param {{signal?: AbortSignal, onProgress?: (share: number) => void} & import("./mirl.js").TileOptions} [options]
   * @returns {Promise<import("./change.js").Change>}
   */
  async restore(image, ticketUrl, { signal, onProgress = () => {}, ...options } = {}) {
    const stop = () => this.close(signal.reason);
    signal?.throwIfAborted();
    signal?.addEventListener("abort", stop);
    this.busy++;
    try {
      const { height, width } = image;
      const [first] = await this.open(ticketUrl, 1);
      signal?.throwIfAborted();
      const small = thumbnail(image.data, height, width), haze = await first.ask("haze", { small });
      const { cut, bytes } = await first.ask("cut", { height, width, options }), tiling = new Tiling(height, width, cut);
      const hands = await this.open(ticketUrl, Math.min(this.most ?? workerCount(bytes), tiling.tiles.length));
      signal?.throwIfAborted();
      const steps = await runTiles(hands, image.data, tiling, this.statisticsSize, onProgress);
      const { window } = tiling;
      const change = await first.ask("parts", { data: image.data, steps, height, width, window }, [steps.buffer]);
      signal?.throwIfAborted();
      return { ...change, several: window > 0, haze, seen: haze ?? 1 };
    } finally {
      this.busy--;
      signal?.removeEventListener("abort", stop);
    }
  }

  /** Have `count` workers with the ticket opened, and return them. */
  async open(ticketUrl, count) {
    if (this.opened !== ticketUrl || this.hands.some((hand) => hand.broken)) this.close(new Error("another ticket was opened"));
    this.opened = ticketUrl;
    const [module, ticket] = await Promise.all([this.load(), this.fetchTicket(ticketUrl)]);
    if (this.opened !== ticketUrl) throw new Error("another ticket was opened");
    while (this.hands.length < count) {
      const hand = new Hand();
      hand.ready = hand.ask("open", { module, ticket });
      this.hands.push(hand);
    }
    const hands = this.hands.slice(0, count);
    const [{ statisticsSize }] = await Promise.all(hands.map((hand) => hand.ready));
    this.statisticsSize = statisticsSize;
    return hands;
  }

  /** Stop all work. */
  close(reason = new Error("stopped")) {
    this.hands.forEach((hand) => hand.fail(reason));
    this.hands = [];
  }

  load() {
    this.module ??= fetchBytes(new URL(wasmFile(), import.meta.url)).then((bytes) => WebAssembly.compile(bytes));
    this.module.catch(() => (this.module = undefined)); // the next photograph tries again
    return this.module;
  }

  fetchTicket(url) {
    if (!this.tickets.has(url)) this.tickets.set(url, fetchBytes(url));
    this.tickets.get(url).catch(() => this.tickets.delete(url));
    return this.tickets.get(url);
  }
}

async function fetchBytes(url) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Error("The engine cannot be loaded: check the connection, then try again.");
  }
  if (!response.ok) throw new Error(`The engine cannot be loaded: the server answers ${response.status}.`);
  return response.arrayBuffer();
}

/** As Restorer.mapTiles of mirl.js, but over several workers, whose number changes no bit; returns the steps of a change. */
async function runTiles(hands, data, tiling, statisticsSize, onProgress) {
  const { tiles, sharing } = tiling, images = tiles.length;
  let done = 0;
  const each = (action, shared, use) => spread(hands, tiles, async (hand, tile) => {
    const part = tiling.take(data, tile, 4), height = tile.down.length, width = tile.across.length;
    const answer = await hand.ask(action, { data: part, height, width, shared }, [part.buffer]);
    onProgress(++done / (sharing ? 2 * images : images));
    return answer;
  }, use);
  const shared = sharing && { statistics: new Float32Array(statisticsSize), images };
  if (shared) await each("sum", undefined, (answer) => addSums(shared.statistics, answer));
  const gathering = new Gathering(data, tiling);
  await each("forward", shared, (answer, tile) => gathering.add(tile, answer));
  return gathering.finish();
}
