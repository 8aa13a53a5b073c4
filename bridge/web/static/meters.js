// The figures at the top: how the run goes, in numbers and plain words.

const WORDS = {
  starting: "starting",
  running: "running",
  holding: "holding the last picture",
  failed: "failed",
  paused: "paused",
};
const KEPT = 240;

const id = (name) => document.getElementById(name);

/** Milliseconds as people read them. */
export function duration(ms) {
  if (ms < 10) return [ms.toFixed(1), "ms"];
  if (ms < 1000) return [ms.toFixed(0), "ms"];
  return ms < 100000 ? [(ms / 1000).toFixed(1), "s"] : [(ms / 60000).toFixed(0), "min"];
}

/** What goes on beside the show, and how far it is. */
function beside(readings) {
  const doing = readings["/engine/doing"];
  const share = readings["/engine/share"];
  return doing ? ` · ${doing}${share ? ` ${Math.round(share * 100)} %` : ""}` : "";
}

export class Meters {
  constructor() {
    this.latencies = [];
    this.figures = new Map();
    this.spark = id("spark");
    this.pen = this.spark.getContext("2d");
    this.problemUntil = 0;
    this.linked = true;
  }

  /** A picture came with this latency (ms). */
  note(latency) {
    this.latencies.push(latency);
    if (this.latencies.length > KEPT) this.latencies.shift();
  }

  /** Explain the meters in the words of the bridge's own table; remember which of them are times. */
  label(figures) {
    this.figures = new Map(figures.map((figure) => [figure.address, figure]));
    for (const meter of document.querySelectorAll("[data-reading]"))
      meter.parentElement.title = this.figures.get(meter.dataset.reading)?.doc ?? "";
  }

  show(readings) {
    for (const meter of document.querySelectorAll("[data-reading]")) this.write(meter, readings[meter.dataset.reading]);
    const state = readings["/state"] || "starting";
    if (this.linked) this.state(state, (WORDS[state] ?? state) + beside(readings));
    if (performance.now() > this.problemUntil) this.sentence(readings["/error"]);
    document.querySelector("#input .what").textContent = readings["/info/source"];
    document.querySelector("#output .what").textContent = readings["/info/model"];
    this.draw();
  }

  write(meter, value) {
    const figure = this.figures.get(meter.dataset.reading);
    if (figure?.unit === "ms") [meter.textContent, meter.dataset.unit] = duration(value);
    else meter.textContent = figure?.unit ? value.toFixed(1) : value.toLocaleString("en");
  }

  /** The link's own state goes before the worker's: figures of a lost link are old. */
  link(state, sentence) {
    this.linked = state === "open";
    document.body.dataset.link = state;
    if (!this.linked) this.state(state, sentence);
  }

  state(state, words) {
    const line = document.querySelector(".state");
    line.dataset.state = state;
    if (id("state").textContent !== words) id("state").textContent = words;
  }

  /** Something that was refused: shown for a while, in the place of the run's own last error. */
  problem(text) {
    this.problemUntil = performance.now() + 5000;
    this.sentence(text);
  }

  sentence(text) {
    const line = id("error");
    line.hidden = !text;
    if (line.textContent === text) return;
    line.textContent = text;
    line.title = text;
  }

  draw() {
    const { spark, pen, latencies } = this;
    const ratio = devicePixelRatio || 1;
    const width = Math.round(spark.clientWidth * ratio);
    const height = Math.round(spark.clientHeight * ratio);
    if (spark.width !== width || spark.height !== height) Object.assign(spark, { width, height });
    pen.clearRect(0, 0, width, height);
    if (latencies.length < 2 || !width) return;
    // Scaled by what is usual, so that one late picture does not flatten all others.
    const usual = [...latencies].sort((a, b) => a - b)[Math.floor(latencies.length * 0.95)];
    const top = usual * 1.6 || 1;
    pen.strokeStyle = pen.fillStyle = getComputedStyle(spark).color;
    pen.lineWidth = ratio;
    pen.lineJoin = "round";
    pen.beginPath();
    latencies.forEach((value, i) => {
      const x = width - ((latencies.length - 1 - i) / (KEPT - 1)) * width;
      pen.lineTo(x, height * (1 - Math.min(0.97, value / top)));
    });
    pen.stroke();
    pen.lineTo(width, height);
    pen.lineTo(width - ((latencies.length - 1) / (KEPT - 1)) * width, height);
    pen.globalAlpha = 0.15;
    pen.fill();
    pen.globalAlpha = 1;
  }
}
