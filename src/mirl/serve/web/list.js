/** The list of photographs beside the stage; rows are made once and changed in place, so that focus stays. */

const THUMB = 112; // twice what is shown, for fine screens

/**
 * @typedef {import("./queue.js").Item} Item
 * @typedef {Record<"show"|"cancel"|"again"|"remove"|"download", (item: Item) => void>} Acts
 */

export class List {
  /** @param {Acts} acts what the buttons of a row do */
  constructor(acts) {
    this.acts = acts;
    this.root = document.getElementById("queue");
    this.rows = new Map();
  }

  /** Show an item as it now is. */
  update(item) {
    if (!this.rows.has(item)) this.rows.set(item, this.make(item));
    const { row, state, progress, buttons } = this.rows.get(item), { activeElement } = document;
    for (const name of ["waiting", "working", "done", "failed", "cancelled"]) row.classList.toggle(name, item.state === name);
    state.textContent = describe(item);
    if (item.progress === null) progress.removeAttribute("value");
    else progress.value = item.progress;
    const busy = item.state === "waiting" || item.state === "working";
    buttons.cancel.hidden = !busy;
    buttons.download.hidden = item.state !== "done";
    buttons.again.hidden = busy;
    const lost = row.contains(activeElement) && activeElement.hidden; // focus goes on to what takes its place
    if (lost) (item.state === "done" ? buttons.download : busy ? buttons.cancel : buttons.again).focus();
  }

  /** Mark the item that is on the stage. */
  mark(shown) {
    this.rows.forEach(({ row, pick }, item) => {
      row.classList.toggle("shown", item === shown);
      pick.setAttribute("aria-pressed", String(item === shown));
    });
  }

  /** Take an item out; focus goes to its neighbour. */
  remove(item) {
    const { row } = this.rows.get(item), focus = row.contains(document.activeElement);
    const near = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    this.rows.delete(item);
    if (focus) (near?.querySelector("button") ?? document.getElementById("add")).focus();
  }

  /** Draw the small picture of an item. */
  async picture(item, pixels) {
    const canvas = this.rows.get(item)?.thumb, side = Math.min(pixels.width, pixels.height);
    if (!canvas) return;
    const left = (pixels.width - side) >> 1, top = (pixels.height - side) >> 1;
    const small = await createImageBitmap(pixels, left, top, side, side,
      { resizeWidth: THUMB, resizeHeight: THUMB, resizeQuality: "medium" });
    canvas.getContext("2d").drawImage(small, 0, 0);
    small.close();
  }

  make(item) {
    const row = document.createElement("li");
    const pick = button(row, "pick", "", () => this.acts.show(item));
    pick.setAttribute("aria-pressed", "false");
    const thumb = pick.appendChild(document.createElement("canvas"));
    Object.assign(thumb, { width: THUMB, height: THUMB });
    const words = pick.appendChild(document.createElement("span"));
    span(words, "name").textContent = item.name;
    const state = span(words, "state");
    const track = row.appendChild(document.createElement("div"));
    track.className = "track";
    const progress = track.appendChild(document.createElement("progress"));
    progress.max = 1;
    progress.setAttribute("aria-label", `Progress of ${item.name}`);
    const acts = row.appendChild(document.createElement("div"));
    acts.className = "acts";
    const buttons = {};
    for (const [name, word] of Object.entries({ download: "Download", again: "Again", cancel: "Cancel", remove: "Remove" })) {
      buttons[name] = button(acts, name, word, () => this.acts[name](item));
      buttons[name].setAttribute("aria-label", `${word}: ${item.name}`);
    }
    this.root.append(row);
    return { row, pick, thumb, state, progress, buttons };
  }
}

/** What a row and the screen reader say. */
export function describe({ state, message, progress, seconds, where, ticket }) {
  if (state === "waiting") return "Waiting";
  if (state === "working") return progress ? `Restoring, ${Math.floor(100 * progress)} %` : "Restoring …";
  if (state === "done") return `Restored ${where} with ${ticket} in ${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return state === "failed" ? message : "Cancelled";
}

/** How much haze was seen in an item, or none. */
export function describeHaze(item) {
  if (item?.state !== "done") return "Haze seen: known once restored";
  if (item.haze === null) return "Haze seen: not judged by this network";
  return `Haze seen: ${item.haze ? `${Math.max(1, Math.round(100 * item.haze))} %` : "none, the tone stays"}`;
}

function button(parent, name, word, act) {
  const made = parent.appendChild(document.createElement("button"));
  Object.assign(made, { type: "button", className: name, textContent: word });
  made.addEventListener("click", act);
  return made;
}

function span(parent, name) {
  const made = parent.appendChild(document.createElement("span"));
  made.className = name;
  return made;
}
