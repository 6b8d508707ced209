/** One core at work: a ticket is opened here once, then single windows are run. The page (engine.js) says which. */
import { partsOf } from "./change.js";
import { loadEngine } from "./mirl.js";
import { toFloats } from "./tiles.js";

let restorer;

const actions = {
  async open({ module, ticket }) {
    restorer?.close();
    restorer = await (await loadEngine(module)).open(ticket);
    return { statisticsSize: restorer.statisticsSize };
  },
  // How an image is cut, and the memory that one piece takes.
  cut({ height, width, options }) {
    const cut = restorer.cut(height, width, options), side = (size) => Math.min(cut.side || size, size);
    return { cut, bytes: restorer.scratchBytes(side(height), side(width)) };
  },
  haze: ({ small }) => restorer.haze(small),
  parts: ({ data, steps, height, width, window }) => ({ steps, parts: partsOf(data, steps, height, width, window) }),
  sum: ({ data, height, width }) => restorer.sum(toFloats(data), height, width),
  forward: ({ data, height, width, shared }) => restorer.forward(toFloats(data), height, width, shared),
};

addEventListener("message", async ({ data: { number, action, ...given } }) => {
  try {
    const value = await actions[action](given);
    const moved = value instanceof Float32Array ? value : value?.steps;
    postMessage({ number, value }, moved ? [moved.buffer] : []);
  } catch (error) {
    postMessage({ number, error: error.message });
  }
});
