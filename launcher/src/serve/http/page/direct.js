// A camera in a <video>, over WebRTC; a picture has it while that does not work.

import { Whep } from "./whep.js";

/** When WebRTC is tried again after it failed, in milliseconds: later each time. */
const FIRST = 5000;
const LAST = 60000;

/** Shows a camera in a <video>, and tries again where that fails. */
export class Direct {
  #name;
  #video;
  #picture;
  #state = "waiting";
  #whep = null;
  #failed = -Infinity;
  #wait = FIRST;
  /** Whether the <video> shows it. */
  playing = false;
  /** Why WebRTC does not work; "" where it does. */
  why = "";

  constructor(name, video, picture) {
    this.#name = name;
    this.#video = video;
    this.#picture = picture;
  }

  /** Whether snapshots are to come over the wall's connection, of a camera that sends no JPEGs. */
  get wantsPictures() {
    if (this.playing) return false;
    if (this.#state === "live") return this.why !== "";
    return (this.#state === "stale" || this.#state === "gone") && !this.#picture.shown;
  }

  /** Milliseconds since what the <video> shows was captured; null where nobody knows. */
  get age() {
    return this.#whep?.age ?? null;
  }

  /** Shows a picture. */
  async draw(picture) {
    if (!this.playing) await this.#picture.draw(picture);
  }

  /** Begins, where the camera is live, and goes on as long as that is `wanted`. */
  play(wanted, state) {
    this.#state = state;
    if (!wanted) {
      this.#end();
      this.#whep?.close();
      this.#whep = null;
    } else if (state === "live" && !this.#whep && performance.now() - this.#failed > this.#wait) {
      this.#whep = new Whep(
        this.#name,
        this.#video,
        () => this.#begin(),
        why => {
          this.#end();
          this.#whep = null;
          this.#wait = Math.min(this.why === "" ? FIRST : this.#wait * 2, LAST);
          this.#failed = performance.now();
          this.why = why;
        },
      );
    }
  }

  #begin() {
    this.playing = true;
    this.why = "";
    // What is under the video is of the past.
    this.#picture.clear();
    this.#video.hidden = false;
  }

  /** What the <video> showed last stays. */
  #end() {
    if (this.playing) this.#picture.keep(this.#video, this.age);
    this.playing = false;
    this.#video.hidden = true;
  }
}
