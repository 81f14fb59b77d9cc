// One camera on the wall.

import { Direct } from "./direct.js";
import { bitrate, duration, fps, moment, percent, size } from "./text.js";

/** Older than this, in milliseconds, a picture is late, and says so in red. */
export const LATE = 1000;

/** More lost than this, a share of 1, is shown in red. */
export const MUCH = 0.01;

/** Less is not worth a word on a tile. */
const SOME = 0.0005;

/** Of JPEGs that are made here. */
const QUALITY = 0.92;

const STATES = { live: "Live", stale: "No picture", gone: "Gone", refused: "Refused", waiting: "Waiting" };

/** What a state is called. */
export function stateName(state) {
  return STATES[state] ?? state;
}

/** What is said while the first picture is on its way. */
export const CONNECTING = "Connecting …";

/** Why there is no picture, as a sentence; "" where there is one. `failed` is why WebRTC does not work. */
export function reason(camera, hasPicture, failed = "") {
  const { name, why } = camera.state;
  if (name === "refused") return `Refused: ${why}`;
  if (hasPicture) return "";
  if (name === "live") return failed ? `It cannot be shown: ${failed}` : CONNECTING;
  if (name === "waiting") return "Waiting for its first picture";
  if (name === "gone") return "The camera left";
  return "No picture comes";
}

/** Since when a camera is as it is; "" while it is live. */
export function since(camera) {
  return camera.state.since ? `since ${moment(camera.state.since)}` : "";
}

/** How much of a camera is lost on its way to the relay, a share of 1; null where nobody knows. */
export function loss(camera) {
  return camera.hop?.loss ?? null;
}

/** The stream with the pictures. */
export function video(camera) {
  return camera.streams.find(stream => stream.width) ?? camera.streams[0];
}

/** Whether its pictures are JPEGs. */
export function isJpeg(camera) {
  return video(camera)?.codec === "JPEG";
}

/** Everybody who watches. */
export function viewers(camera) {
  return Object.values(camera.viewers).reduce((sum, count) => sum + count, 0);
}

/** What a <video> shows, on a canvas of its own. */
function still(video) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas;
}

/** A JPEG of what a <video> shows. */
export async function saved(video) {
  return still(video).convertToBlob({ type: "image/jpeg", quality: QUALITY });
}

/** Draws JPEGs on a canvas, and knows how old the newest is. */
export class Picture {
  #canvas;
  #context;
  #captured = null;
  #cleared = 0;
  /** What is shown, or about to be; null where it is no JPEG. */
  jpeg = null;
  /** Whether there is something to see. */
  shown = false;
  placeholder = false;

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("bitmaprenderer");
  }

  /** Shows it; settles when it is shown, or cannot be. */
  async draw(picture) {
    this.jpeg = picture.jpeg;
    this.placeholder = picture.placeholder;
    const cleared = this.#cleared;
    const bitmap = await createImageBitmap(picture.jpeg);
    if (cleared !== this.#cleared) return;
    this.#put(bitmap);
    if (!picture.placeholder) this.#age(picture.age);
  }

  /** Shows what another one shows. */
  async copy(other) {
    const { age } = other;
    if (other.jpeg) return this.draw({ jpeg: other.jpeg, age: age ?? 0, placeholder: other.placeholder });
    if (!other.shown) return;
    const cleared = this.#cleared;
    const bitmap = await createImageBitmap(other.#canvas);
    if (cleared !== this.#cleared || this.jpeg) return;
    this.#put(bitmap);
    this.#age(age);
  }

  /** Shows what a <video> shows now, of that age, when that is about to end. */
  keep(video, age) {
    if (video.videoWidth === 0) return;
    this.clear();
    this.#put(still(video).transferToImageBitmap());
    this.#age(age);
  }

  #put(bitmap) {
    if (this.#canvas.width !== bitmap.width || this.#canvas.height !== bitmap.height) {
      this.#canvas.width = bitmap.width;
      this.#canvas.height = bitmap.height;
    }
    this.#context.transferFromImageBitmap(bitmap);
    this.shown = true;
  }

  #age(age) {
    this.#captured = age === null ? null : performance.now() - age;
  }

  /** Pixels in a line, and lines. */
  get size() {
    return [this.#canvas.width, this.#canvas.height];
  }

  /** What is to be seen, as a JPEG; null before there is anything. */
  async saved() {
    if (this.jpeg || !this.shown) return this.jpeg;
    return new Promise(done => this.#canvas.toBlob(done, "image/jpeg", QUALITY));
  }

  /** Milliseconds since what is shown was captured; null before there is anything. */
  get age() {
    return this.#captured === null ? null : performance.now() - this.#captured;
  }

  /** Shows nothing, also of what is being drawn: another camera's is to come. */
  clear() {
    this.#cleared += 1;
    this.#captured = null;
    this.jpeg = null;
    this.shown = false;
    this.placeholder = false;
    this.#context.transferFromImageBitmap(null);
  }
}

/** A tile, made from the template of the page. */
export class Tile {
  camera;
  picture;
  #parts = {};
  #direct;

  constructor(name) {
    this.element = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    this.link = this.element.querySelector("a");
    this.link.href = `#${encodeURIComponent(name)}`;
    for (const part of ["name", "why", "badge", "age", "rate", "format", "loss", "viewers"]) {
      this.#parts[part] = this.element.querySelector(`.${part}`);
    }
    this.#parts.name.textContent = name;
    this.picture = new Picture(this.element.querySelector("canvas"));
    this.#direct = new Direct(name, this.element.querySelector("video"), this.picture);
  }

  /** Whether its pictures are to come over the wall's connection. */
  get wantsPictures() {
    return isJpeg(this.camera) || this.#direct.wantsPictures;
  }

  /** Plays the camera while that is `wanted`, where it sends no JPEGs. */
  play(wanted) {
    this.#direct.play(wanted && !isJpeg(this.camera), this.camera.state.name);
  }

  /** A picture of this camera over the wall's connection. */
  async draw(picture) {
    await this.#direct.draw(picture);
  }

  /** Takes in what the relay says of the camera. */
  update(camera) {
    this.camera = camera;
    const stream = video(camera);
    const live = camera.state.name === "live";
    this.#parts.rate.textContent = live && stream ? `${fps(stream.fps)} · ${bitrate(stream.bitrate)}` : since(camera);
    set(this.#parts.format, stream?.width ? `${size(stream)} ${stream.codec}` : stream?.codec ?? "");
    const lost = loss(camera);
    set(this.#parts.loss, live && lost >= SOME ? `${percent(lost)} lost` : "");
    this.#parts.loss.toggleAttribute("data-bad", lost >= MUCH);
    const watching = viewers(camera);
    this.#parts.viewers.lastElementChild.textContent = watching;
    this.#parts.viewers.title = `${watching} ${watching === 1 ? "viewer" : "viewers"}`;
    this.refresh();
  }

  /** Shows state and age as they are now. */
  refresh() {
    const age = shownAge(this.camera, this.picture, this.#direct);
    const state = shownState(this.camera, this.picture);
    this.element.dataset.state = state;
    this.element.toggleAttribute("data-drawn", this.picture.placeholder);
    set(this.#parts.badge, stateName(state));
    const why = reason(this.camera, this.picture.shown || this.#direct.playing, this.#direct.why);
    set(this.#parts.why, why);
    this.#parts.why.toggleAttribute("data-waiting", why === CONNECTING);
    set(this.#parts.age, age === null ? "" : duration(age));
    this.#parts.age.toggleAttribute("data-late", age !== null && age > LATE);
    const label = `${this.camera.name}: ${stateName(state)}`;
    if (this.link.getAttribute("aria-label") !== label) this.link.setAttribute("aria-label", label);
  }
}

/** The state of a camera, which its picture may know before the relay's next word. */
export function shownState(camera, picture) {
  const { name } = camera.state;
  return name === "live" && picture.placeholder ? "stale" : name;
}

/** How old the picture is that is shown, in milliseconds; null before there is any. */
export function shownAge(camera, picture, direct) {
  const { name } = camera.state;
  if (name === "refused" || name === "waiting") return null;
  const newest = camera.age_ms ?? null;
  if (!direct.playing) return picture.age ?? newest;
  // What the relay sends in place of a picture is new, and that picture is not.
  return name === "live" ? direct.age ?? newest : Math.max(direct.age ?? 0, newest ?? 0);
}

/** Sets a text, where it is another one. */
export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
