// Carry out the jobs of tests/wasm_jobs.py with the engine for browsers; prints one JSON answer for each.
//     node run.mjs FILE.wasm jobs.json
import { readFileSync, writeFileSync } from "node:fs";
import { thumbnail } from "../../src/mirl/engine/wasm/haze.js";
import { tonePixels } from "../../src/mirl/engine/wasm/tone.js";
import { loadEngine, readTicket, wasmFile } from "../../src/mirl/engine/wasm/mirl.js";

const module = await WebAssembly.compile(readFileSync(process.argv[2]));
const engine = await loadEngine(module);
const jobs = JSON.parse(readFileSync(process.argv[3]));
const floats = (path) => new Float32Array(new Uint8Array(readFileSync(path)).buffer);
const restorers = new Map();

async function open(path) {
  if (!restorers.has(path)) restorers.set(path, await engine.open(readFileSync(path)));
  return restorers.get(path);
}

const actions = {
  imports: () => WebAssembly.Module.imports(module).length,
  wasmFile,
  // Read a ticket and write its dense weights.
  async unfold({ ticket, out }) {
    const read = await readTicket(readFileSync(ticket), engine);
    writeFileSync(out, new Uint8Array(read.unfold().buffer));
    const { windows, hazeHead } = read, { widths, low, high, values } = hazeHead ?? { values: [] };
    return { windows, head: hazeHead && [widths, low, high, [...values]], names: read.tensors.map((tensor) => tensor.name), kinds: read.tensors.map((tensor) => tensor.kind),
      shapes: read.tensors.map((tensor) => tensor.shape), kept: read.kept, total: read.total, provenance: read.provenance };
  },
  async float({ ticket, image, height, width, out, options }) {
    const told = [];
    const restorer = await open(ticket);
    const restored = restorer.restoreFloat(floats(image), height, width, { ...options, onTile: (...now) => told.push(now) });
    writeFileSync(out, new Uint8Array(restored.buffer));
    return { told, facts: restorer.facts };
  },
  async picture({ ticket, image, height, width, out, options }) {
    const data = new Uint8ClampedArray(readFileSync(image));
    const restored = (await open(ticket)).restore({ width, height, data }, options);
    writeFileSync(out, restored.data);
    return [restored.width, restored.height, restored.data.constructor.name];
  },
  // What the haze head sees: the thumbnail, the probability, the amount.
  async haze({ ticket, image, height, width, out }) {
    const small = thumbnail(floats(image), height, width), { hazeHead } = (await open(ticket)).ticket;
    writeFileSync(out, new Uint8Array(small.pixels.buffer));
    return [small.height, small.width, hazeHead.probability(small), (await open(ticket)).haze(small)];
  },
  // Do what is wanted of a change that is given.
  tone({ image, restored, height, width, window, out, options, seen }) {
    const pixels = floats(image), change = floats(restored).map((value, i) => value - pixels[i]);
    writeFileSync(out, new Uint8Array(tonePixels(pixels, change, height, width, window, options, seen).buffer));
  },
  // The side of tiles that it would take, and the scratch memory of the whole image.
  async large({ ticket, sizes }) {
    const restorer = await open(ticket);
    return sizes.map(([height, width]) => [restorer.chooseTile(height, width), restorer.scratchBytes(height, width)]);
  },
  async closed({ ticket }) {
    const restorer = await engine.open(readFileSync(ticket));
    restorer.close();
    restorer.restoreFloat(new Float32Array(3), 1, 1);
  },
};

const answers = [];
for (const job of jobs)
  try {
    answers.push({ value: (await actions[job.action](job)) ?? null });
  } catch (error) {
    answers.push({ error: error.message, kind: error.constructor.name });
  }
console.log(JSON.stringify(answers));
