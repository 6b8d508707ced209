/** The page: what its controls do, and how a photograph goes from a file to the stage and back to a file. */
import { BrowserEngine } from "./engine.js";
import { describe, List } from "./list.js";
import { freeName, savedName } from "./names.js";
import { blend, decode, encode, inspect, Refused } from "./photo.js";
import { Pictures } from "./pictures.js";
import { Queue } from "./queue.js";
import { addresses, listTickets, restoreOnServer } from "./server.js";
import { Viewer } from "./viewer.js";

const one = (name) => document.getElementById(name);
const { tickets: listing, restore: restoring } = addresses();
const engine = new BrowserEngine(), pictures = new Pictures(), viewer = new Viewer();
const queue = new Queue(work, onChange);
const list = new List({ show, cancel: (item) => queue.cancel(item), again: (item) => queue.again(item), remove, download });
const names = new Set();
let tickets = [], shown = null, drawn = 0;
const offered = listTickets(listing).then(offer, noTickets);

const strength = () => Number(one("strength").value) / 100;
const saving = () => ({ format: one("format").value, quality: one("qualities").hidden ? undefined : Number(one("quality").value) });
const place = () => document.querySelector('input[name="place"]:checked').value;
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

/** What stands beside a slider, for eyes and for screen readers. */
function onStrength() {
  const text = `${one("strength").value} %`;
  one("strength-now").textContent = text;
  one("strength").setAttribute("aria-valuetext", text);
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
  Object.assign(item, { where: server ? "on the server" : "in this browser", ticket: ticket.name, result: undefined });
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
  let after;
  if (server) {
    item.result = await restoreOnServer(restoring, item.file, { ticket: ticket.name, strength: 1, signal });
    after = before && (await decode(item.result, Infinity));
  } else after = await engine.restore(before, ticket.url, { signal, onProgress });
  signal.throwIfAborted();
  item.seen = Boolean(before);
  pictures.put(item, before, after);
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

/** What the stage says of an item. */
function tell(item) {
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
  else viewer.show(picture.before, picture.after && blend(picture.before, picture.after, strength()));
}

/** The file to save: the server's own where it has made it at this strength and in this format. */
async function saved(item) {
  const wish = saving();
  if (item.where === "on the server") {
    if (strength() === 1 && wish.format === "keep") return item.result;
    return restoreOnServer(restoring, item.file, { ticket: item.ticket, strength: strength(), ...wish });
  }
  const { before, after } = await pictures.get(item);
  return encode(blend(before, after, strength()), item.header.type, wish);
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
  one("strength").addEventListener("input", () => {
    onStrength();
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
onStrength();
listen();
