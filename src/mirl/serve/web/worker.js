/** One core at work: a ticket is opened here once, then single tiles are run. The page (engine.js) says which. */
import { loadEngine } from "./mirl.js";
import { toFloats } from "./tiles.js";

let restorer;

const actions = {
  async open({ module, ticket }) {
    restorer?.close();
    restorer = await (await loadEngine(module)).open(ticket);
    return { statisticsSize: restorer.statisticsSize };
  },
  choose: ({ height, width }) => restorer.chooseTile(height, width),
  sum: ({ data, height, width }) => restorer.sum(toFloats(data), height, width),
  forward: ({ data, height, width, shared }) => restorer.forward(toFloats(data), height, width, shared),
};

addEventListener("message", async ({ data: { number, action, ...given } }) => {
  try {
    const value = await actions[action](given);
    postMessage({ number, value }, value instanceof Float32Array ? [value.buffer] : []);
  } catch (error) {
    postMessage({ number, error: error.message });
  }
});
