// The page's logic that needs no browser: node --test logic.test.mjs
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { readHeader } from "../../src/mirl/serve/web/header.js";
import { freeName, savedName, savedType } from "../../src/mirl/serve/web/names.js";
import { Queue } from "../../src/mirl/serve/web/queue.js";
import { spread } from "../../src/mirl/serve/web/spread.js";

const later = () => new Promise((resolve) => setTimeout(resolve, 1));

async function settled(queue) {
  while (queue.running) await later();
}

test("a result keeps the name and the ending of its format", () => {
  assert.equal(savedName("beach.jpg", "image/jpeg"), "beach-restored.jpg");
  assert.equal(savedName("BEACH.JPEG", "image/jpeg"), "BEACH-restored.JPEG");
  assert.equal(savedName("a.b.webp", "image/webp"), "a.b-restored.webp");
  assert.equal(savedName("old.tif", "image/png"), "old-restored.png");
  assert.equal(savedName("old.tif", "image/tiff"), "old-restored.tif");
  assert.equal(savedName("photo.avif", "image/png"), "photo-restored.png");
  assert.equal(savedName("noending", "image/jpeg"), "noending-restored.jpg");
  assert.equal(savedName(".hidden", "image/png"), ".hidden-restored.png");
  assert.equal(savedName("C:\\photos\\x/y.png", "image/png"), "y-restored.png");
  assert.equal(savedName("", "image/png"), "photograph-restored.png");
});

test("a format is kept where it can hold the result", () => {
  assert.equal(savedType("image/jpeg", false), "image/jpeg");
  assert.equal(savedType("image/jpeg", true), "image/png");
  assert.equal(savedType("image/webp", true), "image/webp");
  assert.equal(savedType("image/webp", false, false), "image/png");
  for (const type of ["image/png", "image/bmp", "image/avif", ""]) assert.equal(savedType(type, false), "image/png");
});

test("equal names are told apart", () => {
  const taken = new Set();
  const names = ["a.jpg", "a.jpg", "a.jpg", "a-2.jpg", "b", "b"].map((name) => freeName(name, taken));
  assert.deepEqual(names, ["a.jpg", "a-2.jpg", "a-3.jpg", "a-2-2.jpg", "b", "b-2"]);
});

test("photographs are worked on in order, one at a time, and one that fails stops none", async () => {
  const began = [];
  let working = 0;
  const queue = new Queue(async (item, signal, onProgress) => {
    assert.equal(++working, 1);
    began.push(item.name);
    onProgress(0.5);
    await later();
    working--;
    if (item.name === "bad") throw new Error("unreadable");
  }, () => {});
  const items = ["one", "bad", "two"].map((name) => queue.add(null, name));
  await settled(queue);
  assert.deepEqual(began, ["one", "bad", "two"]);
  assert.deepEqual(items.map(({ state }) => state), ["done", "failed", "done"]);
  assert.equal(items[1].message, "unreadable");
  assert.ok(items[0].seconds > 0);
  queue.again(items[1]);
  assert.equal(items[1].message, "");
  await settled(queue);
  assert.deepEqual([began.at(-1), items[1].state], ["bad", "failed"]);
});

test("what is cancelled or removed is not worked on, and the rest goes on", async () => {
  const began = [], told = [];
  const queue = new Queue((item, signal) => {
    began.push(item.name);
    if (item.name !== "long") return later();
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  }, (item) => told.push([item.name, item.state]));
  const [long, never, gone, last] = ["long", "never", "gone", "last"].map((name) => queue.add(null, name));
  await later();
  queue.cancel(never);
  queue.remove(gone);
  queue.cancel(long);
  queue.cancel(long);
  await settled(queue);
  assert.deepEqual(began, ["long", "last"]);
  assert.deepEqual([long.state, never.state, last.state], ["cancelled", "cancelled", "done"]);
  assert.deepEqual(queue.items, [long, never, last]);
  queue.again(last);
  await later();
  queue.remove(last); // whatever it does
  const before = told.length;
  await settled(queue);
  assert.equal(told.length, before, "nobody is told of what was removed");
});

test("work that ends although it was cancelled is not called done", async () => {
  const queue = new Queue(() => later(), () => {});
  const item = queue.add(null, "a");
  await null;
  await null;
  queue.cancel(item);
  await settled(queue);
  assert.equal(item.state, "cancelled");
});

test("headers tell format, size and animation, however short they are cut", () => {
  const cases = JSON.parse(readFileSync(process.env.CASES));
  assert.ok(cases.length > 10);
  for (const { name, base64, expected } of cases) {
    const bytes = new Uint8Array(Buffer.from(base64, "base64"));
    assert.deepEqual(readHeader(bytes.buffer), expected, name);
    for (let cut = 0; cut < Math.min(bytes.length, 400); cut++) readHeader(bytes.slice(0, cut).buffer);
  }
});

test("answers are used in order, whichever hand is first", async () => {
  const used = [], hands = [0, 1, 2], items = [...Array(20).keys()];
  let ahead = 0, most = 0;
  await spread(hands, items, async (hand, item) => {
    most = Math.max(most, ++ahead);
    for (let i = 0; i <= (item * 7) % 5; i++) await later();
    return 10 * item;
  }, (answer, item) => {
    ahead--;
    used.push([answer, item]);
  });
  assert.deepEqual(used, items.map((item) => [10 * item, item]));
  assert.ok(most <= 3 * hands.length);
});

test("once an item fails no other begins, and the failure is thrown when all hands rest", async () => {
  const begun = [], ended = [], used = [];
  const work = async (hand, item) => {
    begun.push(item);
    for (let i = 0; i < (item === 3 ? 1 : 4); i++) await later();
    if (item === 3) throw new Error("tile 3");
    ended.push(item);
  };
  await assert.rejects(spread([0, 1, 2, 3], [...Array(50).keys()], work, (answer, item) => used.push(item)), /tile 3/);
  assert.deepEqual(begun, [0, 1, 2, 3]);
  assert.deepEqual(ended, [0, 1, 2], "none runs on behind the caller's back");
});

test("progress told after the end changes nothing", async () => {
  let late;
  const queue = new Queue(async (item, signal, onProgress) => (late = onProgress), () => {});
  const item = queue.add(new Blob([]), "a");
  await settled(queue);
  late(0.5);
  assert.equal(item.state, "done");
  assert.equal(item.progress, null);
});
