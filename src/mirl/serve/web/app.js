/** The page: what its controls do, and how a photograph goes from a file to the stage and back to a file. */
import { BrowserEngine } from "./engine.js";
import { changeBetween, render } from "./change.js";
import { describe, describeHaze, List } from "./list.js";
import { freeName, savedName } from "./names.js";
import { decode, encode, inspect, Refused } from "./photo.js";
import { Pictures } from "./pictures.js";
import { Queue } from "./queue.js";
import { addresses, listTickets, restoreOnServer } from "./server.js";
import { Viewer } from "./viewer.js";

const one = (name) => document.getElementById(name);
const { tickets: listing, restore: restoring } = addresses();
const engine = new BrowserEngine(), pictures = new Pictures(), viewer = new Viewer();
const queue = new Queue(work, onChange);
const list = new List({ show, cancel: (item) => queue.cancel(item), again: (item) => queue.again(item), remove, download });
const FULL = { strength: 1, denoise: 1, dehaze: 1, tone: "auto" };
const SLIDERS = ["strength", "denoise", "dehaze"]; // in per cent
const names = new Set();
let tickets = [], shown = null, drawn = 0;
const offered = listTickets(listing).then(offer, noTickets);

/** @returns {import("./tone.js").ToneOptions} */
function toning() {
  const [strength, denoise, dehaze] = SLIDERS.map((name) => Number(one(name).value) / 100);
  return { strength, denoise, dehaze, tone: marked("tone") };
}
const marked = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const saving = () => ({ format: one("format").value, quality: one("qualities").hidden ? undefined : Number(one("quality").value) });
const place = () => marked("place");
const chosen = () => tickets.find(({ name }) => name === one("ticket").value);

/** @param {{default: string, tickets: import("./server.js").TicketFacts[]}} listed */
function offer(listed) {
  tickets = listed.tickets;
  one("ticket").replaceChildren(...tickets.map((ticket) =>
    new Option(titleOf(ticket), ticket.name, false, ticket.name === listed.default)));
  one("ticket").disabled = false;
  one("places").hidden = !restoring;
  onSettings();
}

/** Such as "small: rain, haze, noise". */
function titleOf({ name, tasks }) {
  const words = { derain: "rain", dehaze: "haze", web: "compression" };
  const known = new Set(tasks.map((task) => (task.startsWith("denoise") ? "noise" : (words[task] ?? task))));
  return known.size ? `${name}: ${[...known].join(", ")}` : name;
}

function noTickets(error) {
  one("ticket").replaceChildren(new Option("none"));
  one("places-help").textContent = `No ticket can be loaded, so nothing can be restored: ${error.message}.`;
  say(one("places-help").textContent);
  throw new Refused("No ticket can be loaded: reload the page to try again.");
}

function onSettings() {
  const { bytes, density, url } = chosen(), away = place() === "server";
  one("ticket-size").textContent = `${(bytes / 1e6).toFixed(2)} MB, ${(100 * density).toPrecision(3)} % of the weights`;
  one("privacy").textContent = away ? "Photographs are sent to the server" : "Nothing leaves this device";
  one("privacy").classList.toggle("away", away);
  one("places-help").textContent = away ? "Metadata is kept in the results. The server stores nothing." : "The processor of this device does the work.";
  if (!away) engine.prepare(url).catch(() => {}); // the first photograph will say it
}

/** What stands beside the sliders, for eyes and for screen readers. */
function onTone() {
  for (const name of SLIDERS) {
    const text = `${one(name).value} %`;
    one(`${name}-now`).textContent = text;
    one(name).setAttribute("aria-valuetext", text);
  }
  one("dehaze").disabled = marked("tone") === "keep";
}

function onFormat() {
  one("qualities").hidden = !["jpeg", "webp"].includes(one("format").value);
  one("quality-now").textContent = one("quality").value;
}

function say(text) {
  one("live").textContent = text;
}

/** @param {Iterable<File>} files */
function add(files) {
  const given = [...files].map((file) => queue.add(file, freeName(file.name || "photograph.png", names)));
  if (!given.length) return;
  say(given.length === 1 ? `${given[0].name} added` : `${given.length} photographs added`);
  if (!shown || shown.state !== "working") show(given[0]);
}

/** Restore one item of the queue. */
async function work(item, signal, onProgress) {
  await offered;
  const ticket = chosen(), server = place() === "server";
  Object.assign(item, { where: server ? "on the server" : "in this browser", ticket: ticket.name, result: null, haze: null });
  item.header = await inspect(item.file);
  const before = await decode(item.file).catch((error) => {
    if (server && item.header.type === "image/tiff") return null; // the server can do what this browser cannot
    throw error;
  });
  signal.throwIfAborted();
  if (before) {
    list.picture(item, before).catch(() => {});
    pictures.put(item, before, null);
    if (item === shown) await draw();
  }
  let change;
  if (server) {
    const { file, haze } = await restoreOnServer(restoring, item.file, { ticket: ticket.name, ...FULL }, signal);
    Object.assign(item, { result: file, haze });
    change = before && changeBetween(before, await decode(file, Infinity), haze);
  } else {
    change = await engine.restore(before, ticket.url, { signal, onProgress });
    item.haze = change.haze;
  }
  signal.throwIfAborted();
  item.seen = Boolean(before);
  pictures.put(item, before, change);
}

function onChange(item) {
  list.update(item);
  onCount();
  if (["done", "failed", "cancelled"].includes(item.state)) say(`${item.name}: ${describe(item)}`);
  if (item === shown) item.state === "working" && item.progress !== null ? tell(item) : draw();
}

function onCount() {
  one("none").hidden = queue.items.length > 0;
  one("download-all").disabled = !queue.items.some(({ state }) => state === "done");
  one("save").disabled = shown?.state !== "done";
}

function show(item) {
  shown = item;
  onCount();
  list.mark(item);
  one("stage").classList.toggle("empty", !item);
  one("empty").hidden = Boolean(item);
  one("stage").setAttribute("aria-label", item ? `Photograph ${item.name}` : "The photograph");
  return draw();
}

/** What the stage and the settings say of an item. */
function tell(item) {
  one("haze-seen").textContent = describeHaze(item);
  if (!item || (item.state === "done" && item.seen)) viewer.say("");
  else if (item.state === "done") viewer.say("Restored. This browser cannot show it, but save it.");
  else viewer.say(describe(item), item.state === "failed");
}

/** Show the chosen item as it now is. */
async function draw() {
  const item = shown, turn = ++drawn;
  let picture;
  try {
    picture = item && (await pictures.get(item));
  } catch (error) {
    if (turn !== drawn) return;
    viewer.say(error.message, true);
    say(`${item.name}: ${error.message}`);
    return;
  }
  if (turn !== drawn) return; // something newer is drawn
  tell(item);
  if (!picture?.before) viewer.show(null, null);
  else viewer.show(picture.before, picture.change && render(picture.before, picture.change, toning()));
}

/** The file to save: the server's own where it has made it with these settings and in this format. */
async function saved(item) {
  const wish = saving(), tone = toning();
  if (item.where === "on the server") {
    const same = wish.format === "keep" && Object.entries(FULL).every(([name, value]) => tone[name] === value);
    return same ? item.result : (await restoreOnServer(restoring, item.file, { ticket: item.ticket, ...tone, ...wish })).file;
  }
  const { before, change } = await pictures.get(item);
  return encode(render(before, change, tone), item.header.type, wish);
}

async function download(item) {
  try {
    const blob = await saved(item), link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = savedName(item.name, blob.type);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(`${link.download} saved`);
  } catch (error) {
    say(`${item.name}: ${error.message}`);
    viewer.say(`${item.name} cannot be saved. ${error.message}`, true);
  }
}

async function downloadAll() {
  for (const item of queue.items.filter(({ state }) => state === "done")) await download(item);
}

function remove(item) {
  const near = queue.items[queue.items.indexOf(item) + 1] ?? queue.items[queue.items.indexOf(item) - 1] ?? null;
  queue.remove(item);
  list.remove(item);
  pictures.drop(item);
  names.delete(item.name);
  onCount();
  say(`${item.name} removed`);
  if (item === shown) show(near);
}

function listen() {
  for (const name of ["choose", "add"]) one(name).addEventListener("click", () => one("files").click());
  one("files").addEventListener("change", () => {
    add(one("files").files);
    one("files").value = "";
  });
  one("save").addEventListener("click", () => download(shown));
  one("download-all").addEventListener("click", downloadAll);
  one("ticket").addEventListener("change", onSettings);
  one("places").addEventListener("change", onSettings);
  one("format").addEventListener("change", onFormat);
  one("quality").addEventListener("input", onFormat);
  let asked = 0;
  for (const name of [...SLIDERS, "tones"])
    one(name).addEventListener("input", () => {
      onTone();
      cancelAnimationFrame(asked);
      asked = requestAnimationFrame(draw);
    });
  document.addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));
  let inside = 0; // elements that a dragged file is over
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  const landing = (change) => {
    inside = change ? inside + change : 0;
    one("landing").hidden = inside <= 0;
  };
  addEventListener("dragenter", (event) => carries(event) && landing(1));
  addEventListener("dragleave", (event) => carries(event) && landing(-1));
  addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    landing(0);
    add(event.dataTransfer.files);
  });
}

offered.catch(() => {}); // it is written in the page
onFormat(); // a page that was reloaded keeps what was chosen
onTone();
listen();
