// The one connection that carries the pictures and the state of every camera.

import { relayClock } from "./clock.js";

/** Bytes before the JPEG of a picture message; docs/http.md says what they are. */
const HEADER = 24;
const PLACEHOLDER = 1;

/** How long to wait before connecting again, in milliseconds: longer each time. */
const WAITS = [250, 500, 1000, 2000, 4000];

/** Cameras that the relay shows at a time. */
const MOST = 64;

/**
 * Calls `onStatus(cameras)` each second, `onPicture(camera, picture)` for every picture, and
 * `onLink(up)` when the connection comes and goes. A picture has `jpeg` (a Blob), `age` (in
 * milliseconds, when it came) and `placeholder`. The next one of a camera is sent once
 * the promise that `onPicture` returns is settled: a slow page gets fewer pictures, not old ones.
 */
export class Wall {
  #socket = null;
  #names = new Map();
  #show = "[]";
  #failures = 0;
  #on;

  constructor(on) {
    this.#on = on;
    this.#connect();
  }

  /** Says which pictures are wanted: a list of {camera, fps, width}; without a width, in their own. */
  show(list) {
    const show = JSON.stringify(list.slice(0, MOST));
    if (show === this.#show) return;
    this.#show = show;
    this.#sendShow();
  }

  #connect() {
    const url = new URL("/api/v1/wall", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#failures = 0;
      relayClock.forget();
      this.#sendShow();
      this.#on.onLink(true);
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#news(JSON.parse(data));
      else this.#picture(socket, data);
    };
    socket.onclose = () => {
      this.#on.onLink(false);
      const wait = WAITS[Math.min(this.#failures, WAITS.length - 1)];
      this.#failures += 1;
      setTimeout(() => this.#connect(), wait);
    };
    this.#socket = socket;
  }

  #sendShow() {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(`{"show":${this.#show}}`);
  }

  #news({ shown, cameras, clock }) {
    if (clock !== undefined) relayClock.tell(clock);
    if (shown) this.#names = new Map(Object.entries(shown).map(([name, number]) => [number, name]));
    if (cameras) this.#on.onStatus(cameras);
  }

  async #picture(socket, data) {
    const header = new DataView(data, 0, HEADER);
    const number = header.getUint16(1);
    const camera = this.#names.get(number);
    try {
      await this.#on.onPicture(camera, {
        jpeg: new Blob([new Uint8Array(data, HEADER)], { type: "image/jpeg" }),
        placeholder: (header.getUint8(3) & PLACEHOLDER) !== 0,
        age: header.getUint32(12),
      });
    } finally {
      if (socket.readyState === WebSocket.OPEN) socket.send(`{"seen":${number}}`);
    }
  }
}
