// The WebSocket: typed messages both ways, opened again by itself, moves sent at most once per display frame.

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 2000;
const SEND_MS = 16;

export class Link {
  /** `hear(message)` gets every JSON message, `see(buffer)` every picture, `turn(state, sentence)` each change of the link. */
  constructor(hear, see, turn) {
    this.hear = hear;
    this.see = see;
    this.turn = turn;
    this.retry = FIRST_RETRY_MS;
    this.moves = new Map();
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/ws`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      this.retry = FIRST_RETRY_MS;
      this.turn("open", "");
    };
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.hear(JSON.parse(data)) : this.see(data));
    this.socket.onclose = () => this.lost();
  }

  async lost() {
    this.turn("lost", "connection lost, trying again");
    await new Promise((done) => setTimeout(done, this.retry));
    this.retry = Math.min(this.retry * 1.6, LAST_RETRY_MS);
    // A browser does not say why a WebSocket failed; a plain request does.
    try {
      const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(3000) });
      if (answer.status === 403) this.turn("refused", "open the address that livelatent printed");
    } catch {
      // not back yet
    }
    this.open();
  }

  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /** Move one parameter soon: of several moves within a display frame, the last counts. */
  move(name, value, seconds) {
    if (this.moves.size === 0) setTimeout(() => this.flush(), SEND_MS);
    this.moves.set(name, { value, seconds });
  }

  /** Send what was moved. While the link is down it waits here, and goes out when the bridge is back. */
  flush() {
    for (const [name, { value, seconds }] of this.moves) {
      if (!this.send({ type: "set", values: { [name]: value }, seconds })) return;
      this.moves.delete(name);
    }
  }

  /** Values on their way to the bridge. */
  waiting() {
    return Object.fromEntries([...this.moves].map(([name, { value }]) => [name, value]));
  }
}
