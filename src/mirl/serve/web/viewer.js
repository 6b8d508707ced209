/** The stage: one photograph, before left of the divider and after right of it, to zoom and to move. */

const MOST_ZOOM = 16, STEP = 1.25, KEY_PIXELS = 60;
const one = (name) => document.getElementById(name);

export class Viewer {
  constructor() {
    this.stage = one("stage");
    this.picture = one("picture");
    this.layers = [one("before"), one("after")];
    this.divider = one("divider");
    this.range = one("divide");
    Object.assign(this, { width: 0, height: 0, scale: 1, x: 0, y: 0, fitted: true, both: false });
    this.range.addEventListener("input", () => this.place());
    one("zoom-in").addEventListener("click", () => this.zoom(this.scale * STEP));
    one("zoom-out").addEventListener("click", () => this.zoom(this.scale / STEP));
    one("zoom-one").addEventListener("click", () => this.zoom(this.onePixel));
    one("zoom-fit").addEventListener("click", () => this.fit());
    this.stage.addEventListener("keydown", (event) => this.onKey(event));
    this.stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.stage.addEventListener("dblclick", (event) => this.onDouble(event));
    this.followPointers();
    new ResizeObserver(() => (this.fitted ? this.fit() : this.place())).observe(this.stage);
  }

  /** One pixel of the photograph on one of the screen. */
  get onePixel() {
    return 1 / devicePixelRatio;
  }

  /**
   * Show a photograph; with `null`, none. The view stays for one of the same size.
   * @param {ImageData|null} before
   * @param {ImageData|null} after
   */
  show(before, after) {
    const any = before ?? after, { width, height } = any ?? { width: 0, height: 0 };
    const same = width === this.width && height === this.height;
    Object.assign(this, { width, height, both: Boolean(before && after) });
    [before, after].forEach((pixels, index) => {
      const canvas = this.layers[index];
      canvas.hidden = !pixels;
      if (!pixels) return Object.assign(canvas, { width: 0, height: 0 });
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      canvas.getContext("2d", { colorSpace: "srgb" }).putImageData(pixels, 0, 0);
    });
    this.picture.hidden = !any;
    for (const name of ["divider", "tag-before", "tag-after"]) one(name).hidden = !this.both;
    this.range.disabled = !this.both;
    for (const button of one("zoom").querySelectorAll("button")) button.disabled = !any;
    if (same && !this.fitted) this.place();
    else this.fit();
  }

  /** Say something over the photograph, "" for nothing. */
  say(text, bad = false) {
    const veil = one("veil");
    veil.hidden = !text;
    veil.textContent = text;
    veil.classList.toggle("bad", bad);
  }

  fit() {
    const { clientWidth: w, clientHeight: h } = this.stage;
    this.fitted = true;
    if (this.width && w) this.scale = Math.min(w / this.width, h / this.height, 2);
    this.x = (w - this.width * this.scale) / 2;
    this.y = (h - this.height * this.scale) / 2;
    this.place();
  }

  /** Zoom so that the point (x, y) of the stage, by default its middle, stays. */
  zoom(wanted, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    if (!this.width) return;
    const least = Math.min(this.stage.clientWidth / this.width, this.stage.clientHeight / this.height, this.onePixel) / 2;
    const scale = Math.min(Math.max(wanted, least), MOST_ZOOM), ratio = scale / this.scale;
    this.fitted = false;
    this.x = x - (x - this.x) * ratio;
    this.y = y - (y - this.y) * ratio;
    this.scale = scale;
    this.place();
  }

  move(dx, dy) {
    this.fitted = false;
    this.x += dx;
    this.y += dy;
    this.place();
  }

  /** Put all where it belongs; what is smaller than the stage stays in its middle, what is larger covers it. */
  place() {
    const { clientWidth: w, clientHeight: h } = this.stage, { scale } = this;
    const keep = (at, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at)));
    this.x = keep(this.x, this.width * scale, w);
    this.y = keep(this.y, this.height * scale, h);
    this.picture.style.transform = `translate(${this.x}px, ${this.y}px) scale(${scale})`;
    this.picture.classList.toggle("large", scale >= 2 * this.onePixel);
    one("zoom-now").textContent = this.width ? `${Math.round(100 * scale * devicePixelRatio)} %` : "";
    const [left, right] = this.span(), at = left + ((right - left) * Number(this.range.value)) / 100;
    const top = Math.max(0, this.y), bottom = Math.min(h, this.y + this.height * scale);
    Object.assign(this.divider.style, { left: `${at}px`, top: `${top}px`, height: `${bottom - top}px` });
    this.stage.classList.toggle("fitted", this.fitted);
    this.layers[1].style.clipPath = this.both ? `inset(0 0 0 ${Math.max(0, (at - this.x) / scale)}px)` : "none";
  }

  /** Left and right end of what is seen of the photograph. */
  span() {
    return [Math.max(0, this.x), Math.min(this.stage.clientWidth, this.x + this.width * this.scale)];
  }

  onKey(event) {
    const keys = {
      ArrowLeft: () => this.move(KEY_PIXELS, 0), ArrowRight: () => this.move(-KEY_PIXELS, 0),
      ArrowUp: () => this.move(0, KEY_PIXELS), ArrowDown: () => this.move(0, -KEY_PIXELS),
      "+": () => this.zoom(this.scale * STEP), "=": () => this.zoom(this.scale * STEP),
      "-": () => this.zoom(this.scale / STEP), 0: () => this.fit(), 1: () => this.zoom(this.onePixel),
    };
    if (event.target !== this.stage || event.ctrlKey || event.metaKey || event.altKey || !this.width || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  onWheel(event) {
    if (!this.width || !(event.ctrlKey || event.metaKey)) return; // the page scrolls
    event.preventDefault();
    this.zoom(this.scale * Math.exp(-event.deltaY / 200), ...this.at(event));
  }

  onDouble(event) {
    if (!this.width || event.target.closest("button")) return;
    if (this.fitted) this.zoom(this.onePixel, ...this.at(event));
    else this.fit();
  }

  at({ clientX, clientY }) {
    const box = this.stage.getBoundingClientRect();
    return [clientX - box.left, clientY - box.top];
  }

  /** Drag the divider or the photograph; two fingers zoom. */
  followPointers() {
    const fingers = new Map();
    let dividing = false;
    this.stage.addEventListener("pointerdown", (event) => {
      if (!this.width || event.button > 0) return;
      dividing = fingers.size === 0 && this.divider.contains(event.target);
      fingers.set(event.pointerId, this.at(event));
      this.stage.setPointerCapture(event.pointerId);
      this.stage.classList.toggle("moving", !dividing);
    });
    this.stage.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId), now = this.at(event);
      if (!last) return;
      fingers.set(event.pointerId, now);
      if (dividing) this.divideAt(now[0]);
      else if (fingers.size === 1) this.move(now[0] - last[0], now[1] - last[1]);
      else this.pinch(fingers, event.pointerId, last, now);
    });
    for (const name of ["pointerup", "pointercancel"])
      this.stage.addEventListener(name, (event) => {
        fingers.delete(event.pointerId);
        this.stage.classList.toggle("moving", fingers.size > 0 && !dividing);
      });
  }

  pinch(fingers, moved, last, now) {
    const other = [...fingers].find(([id]) => id !== moved)[1];
    const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    const middle = (index) => (now[index] + other[index]) / 2;
    this.move((now[0] - last[0]) / 2, (now[1] - last[1]) / 2);
    this.zoom((this.scale * apart(now)) / Math.max(apart(last), 1), middle(0), middle(1));
  }

  divideAt(x) {
    const [left, right] = this.span();
    this.range.value = String((100 * (x - left)) / Math.max(right - left, 1));
    this.place();
  }
}
