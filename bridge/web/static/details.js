// The meters in full: how latencies spread, where a frame's time goes, the card's memory, what was lost.

import { el } from "./el.js";
import { duration } from "./meters.js";

const spell = (ms) => duration(ms).join(" ");

export class Details {
  constructor(root) {
    this.bars = el("div", { className: "bars", role: "img" });
    this.axis = el("div", { className: "axis", "aria-hidden": "true" });
    this.stages = el("div", { className: "stages" });
    this.memory = el("div", { className: "memory", hidden: true });
    this.lost = el("dl", { className: "lost" });
    root.append(
      el("div", { className: "head" }, el("h2", { textContent: "meters" })),
      el("h3", { textContent: "latency of the last 512 frames" }), this.bars, this.axis,
      el("h3", { textContent: "where the time goes, median" }), this.stages,
      this.memory,
      el("h3", { textContent: "lost, refused, mended" }), this.lost);
  }

  show({ stages, edges, latencies, memory, lost }) {
    this.histogram(edges, latencies);
    this.parts(stages);
    const [used, total] = memory;
    this.memory.hidden = !total;
    if (total) this.memory.replaceChildren(el("h3", { textContent: "graphics memory" }), bar("the worker", used / total, `${used.toFixed(1)} of ${total.toFixed(0)} GiB`));
    const rows = Object.entries(lost).flatMap(([name, count]) => [el("dt", { textContent: name }), el("dd", { textContent: count.toLocaleString("en") })]);
    this.lost.replaceChildren(...(rows.length ? rows : [el("dt", { textContent: "nothing" })]));
  }

  histogram(edges, counts) {
    // Only where there is something, with a bin of air on either side.
    const used = counts.flatMap((count, i) => (count ? [i] : []));
    const first = Math.max(0, (used[0] ?? 0) - 1);
    const last = Math.min(counts.length - 1, (used.at(-1) ?? 12) + 1);
    const most = Math.max(1, ...counts);
    const bars = [];
    for (let i = first; i <= last; i++) {
      const node = el("i", { title: `up to ${spell(edges[i])}: ${counts[i]}` });
      node.style.setProperty("--part", counts[i] / most);
      bars.push(node);
    }
    this.bars.replaceChildren(...bars);
    this.bars.setAttribute("aria-label", `Latencies from ${spell(edges[first])} to ${spell(edges[last])}`);
    this.axis.replaceChildren(el("span", { textContent: spell(edges[first]) }), el("span", { textContent: spell(edges[last]) }));
  }

  parts(stages) {
    const longest = Math.max(0.001, ...Object.values(stages).map(([median]) => median));
    this.stages.replaceChildren(...Object.entries(stages).map(([name, [median, late]]) => bar(name, median / longest, spell(median), `99 %: ${spell(late)}`)));
  }
}

function bar(name, part, text, title = "") {
  const fill = el("i");
  fill.style.setProperty("--part", Math.min(1, part));
  return el("div", { className: "bar", title }, el("span", { textContent: name }), el("span", { className: "rail" }, fill), el("b", { textContent: text }));
}
