// A camera that sends no JPEGs, which comes over WebRTC.

import { Whep } from "./whep.js";

/** When WebRTC is tried again after it failed, in milliseconds. */
const AGAIN = 5000;

/** Shows such a camera in a <video>, and tries again where that fails. */
export class Direct {
  #name;
  #video;
  #whep = null;
  #failed = -Infinity;
  /** Whether the <video> shows it. */
  playing = false;
  /** Why WebRTC does not work; "" where it does. */
  why = "";

  constructor(name, video) {
    this.#name = name;
    this.#video = video;
  }

  /** Begins, where there is something `live` to show, and goes on as long as that is `wanted`. */
  play(wanted, live) {
    if (!wanted) {
      this.#whep?.close();
      this.#whep = null;
      this.#end();
    } else if (live && !this.#whep && performance.now() - this.#failed > AGAIN) {
      this.#whep = new Whep(
        this.#name,
        this.#video,
        () => this.#begin(),
        why => {
          this.#whep = null;
          this.#failed = performance.now();
          this.why = why;
          this.#end();
        },
      );
    }
  }

  #begin() {
    this.playing = true;
    this.why = "";
    this.#video.hidden = false;
  }

  #end() {
    this.playing = false;
    this.#video.hidden = true;
  }
}
