// Time the engine for browsers and onnxruntime-web on the same tickets, in turns, one thread. Called by bench/wasm.py:
//     node compare.mjs jobs.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { loadEngine, wasmFile } from "../../src/mirl/engine/wasm/mirl.js";

const { folder, ort, side, image, warmUp, runs, tickets } = JSON.parse(readFileSync(process.argv[2]));
const { InferenceSession, Tensor, env } = await import(pathToFileURL(ort));
env.wasm.numThreads = 1;
const files = [...new Set(["mirl.wasm", wasmFile()])]; // the second one where node has relaxed SIMD
const engines = await Promise.all(files.map((file) => loadEngine(readFileSync(`${folder}/${file}`))));
const pixels = new Float32Array(new Uint8Array(readFileSync(image)).buffer);
const planes = Float32Array.from(pixels, (_, i) => pixels[3 * (i % (side * side)) + Math.floor(i / (side * side))]);

const results = [];
for (const { name, ticket, model } of tickets) {
  const restorers = await Promise.all(engines.map((engine) => engine.open(readFileSync(ticket))));
  const session = await InferenceSession.create(readFileSync(model), { executionProviders: ["wasm"] });
  const input = { [session.inputNames[0]]: new Tensor("float32", planes, [1, 3, side, side]) };
  const contestants = { "onnxruntime-web": async () => (await session.run(input))[session.outputNames[0]].data };
  restorers.forEach((restorer, index) => {
    contestants[files[index]] = async () => restorer.restoreFloat(pixels, side, side, { window: 0, tile: 0 });
  });
  const seconds = Object.fromEntries(Object.keys(contestants).map((who) => [who, []])), last = {};
  for (let turn = -warmUp; turn < runs; turn++)
    for (const [who, run] of Object.entries(contestants)) {
      const begin = performance.now();
      last[who] = await run();
      if (turn >= 0) seconds[who].push((performance.now() - begin) / 1000);
    }
  const difference = {};
  for (const file of files) {
    difference[file] = 0;
    for (let i = 0; i < planes.length; i++) {
      const other = Math.min(Math.max(last["onnxruntime-web"][i], 0), 1); // the engine's result is clipped
      const ours = last[file][3 * (i % (side * side)) + Math.floor(i / (side * side))];
      difference[file] = Math.max(difference[file], Math.abs(ours - other));
    }
  }
  results.push({ name, seconds, difference, facts: restorers[0].facts });
  await session.release();
  restorers.forEach((restorer) => restorer.close());
}
console.log(JSON.stringify({ node: process.version, v8: process.versions.v8, onnxruntime_web: env.versions.web, results }));
