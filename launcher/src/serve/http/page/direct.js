// A camera that sends no JPEGs: over WebRTC, and where that does not work as snapshots.

import { Whep } from "./whep.js";

/** When WebRTC is tried again after it failed, in milliseconds. */
const AGAIN = 5000;

/** Shows such a camera in a <video>, and tries again where that fails; a picture has it meanwhile. */
export class Direct {
  #name;
  #video;
  #picture;
  #whep = null;
  #failed = -Infinity;
  /** Whether the <video> shows it. */
  playing = false;
  /** Why WebRTC does not work; "" where it does. */
  why = "";

  constructor(name, video, picture) {
    this.#name = name;
    this.#video = video;
    this.#picture = picture;
  }

  /** Whether snapshots are to come over the wall's connection. */
  get wantsPictures() {
    return this.why !== "" && !this.playing;
  }

  /** Shows a snapshot. */
  async draw(picture) {
    if (!this.playing) await this.#picture.draw(picture);
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
    // How old it is says nothing any more.
    this.#picture.clear();
    this.#video.hidden = false;
  }

  #end() {
    this.playing = false;
    this.#video.hidden = true;
  }
}
