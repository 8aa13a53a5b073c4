// Paints the newest picture of each shelf. While one is decoded, newer ones replace each other; nothing queues up.

const SHELVES = ["input", "output", "hint"];
const PROTOCOL = 1;
const ASPECTS = [0.5, 2.5];

/** The header of a picture message; see HEADER in bridge/web/messages.py. */
export function parse(buffer) {
  const view = new DataView(buffer);
  if (view.getUint8(1) !== PROTOCOL) throw new Error("this page is older than the bridge: reload it");
  return {
    shelf: SHELVES[view.getUint8(0)],
    number: view.getUint32(4, true),
    seq: view.getUint32(8, true),
    version: view.getUint32(12, true),
    latency: (view.getFloat64(24, true) - view.getFloat64(16, true)) * 1000,
    jpeg: buffer.slice(view.getUint16(2, true)),
  };
}

export class Painter {
  /** `painted(picture)` is called after each picture that reached the canvas. */
  constructor(figure, painted) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.size = figure.querySelector(".size");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.painted = painted;
    this.next = null;
    this.busy = false;
    this.times = [];
  }

  take(picture) {
    this.next = picture;
    if (!this.busy) this.pump();
  }

  async pump() {
    this.busy = true;
    while (this.next) {
      const picture = this.next;
      this.next = null;
      try {
        const bitmap = await createImageBitmap(new Blob([picture.jpeg], { type: "image/jpeg" }));
        this.paint(bitmap);
        bitmap.close();
      } catch {
        // a picture that does not decode is skipped: the last one stays
      }
      this.painted(picture);
    }
    this.busy = false;
  }

  paint(bitmap) {
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
      // Beyond these shapes a picture is letterboxed, so that a banner does not push the other one away.
      const aspect = Math.min(ASPECTS[1], Math.max(ASPECTS[0], bitmap.width / bitmap.height));
      this.figure.style.setProperty("--aspect", aspect.toFixed(4));
    }
    this.context.drawImage(bitmap, 0, 0);
    this.figure.dataset.painted = "yes";
    this.times.push(performance.now());
  }

  /** Pictures painted in the last second. */
  rate() {
    const start = performance.now() - 1000;
    while (this.times.length && this.times[0] < start) this.times.shift();
    return this.times.length;
  }

  caption() {
    const { width, height } = this.canvas;
    this.size.textContent = this.figure.dataset.painted ? `${width} × ${height} · ${this.rate()} fps` : "";
  }
}

/** Fill the screen with a figure, and go back: by tap, Enter, or Escape. iPhones can't, so the page fills itself too.
 *  Returns what does it. */
export function makeTheatre(figure) {
  const canvas = figure.querySelector("canvas");
  const leave = () => {
    document.body.classList.remove("theatre");
    if (document.fullscreenElement) document.exitFullscreen();
  };
  const toggle = () => {
    if (document.body.classList.contains("theatre")) return leave();
    document.body.classList.add("theatre");
    figure.requestFullscreen?.({ navigationUI: "hide" }).catch(() => {});
  };
  canvas.addEventListener("click", toggle);
  canvas.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    toggle();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && leave());
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement) document.body.classList.remove("theatre");
  });
  return toggle;
}
