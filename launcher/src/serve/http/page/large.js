// One camera, large: over WebRTC where that works, else picture by picture.

import { bitrate, duration, fileName, fps, percent } from "./text.js";
import { LATE, MUCH, Picture, isJpeg, loss, reason, set, shownAge, shownState, since, stateName, video, viewers } from "./tile.js";
import { Whep } from "./whep.js";

const $ = id => document.getElementById(id);
/** More letters than this have a line of their own among the facts. */
const SHORT = 24;

/** The dialog. `onStep(by)` asks for another camera, `onClose()` for the wall. */
export class Large {
  #dialog = $("large");
  #video = $("video");
  #canvas = $("large-canvas");
  #picture = new Picture(this.#canvas);
  #whep = null;
  #playing = false;
  #paused = false;
  /** Why there is no WebRTC. */
  #why = "";
  #addresses = "";
  camera = null;

  constructor({ onStep, onClose, onToast }) {
    this.onToast = onToast;
    $("close").onclick = onClose;
    $("before").onclick = () => onStep(-1);
    $("after").onclick = () => onStep(1);
    $("pause").onclick = () => this.pause();
    $("snapshot").onclick = () => this.snapshot();
    $("full").onclick = () => this.fullScreen();
    this.#dialog.addEventListener("cancel", event => {
      event.preventDefault();
      onClose();
    });
    $("stage").addEventListener("dblclick", () => this.fullScreen());
  }

  get name() {
    return this.camera?.name ?? null;
  }

  /** Whether pictures have to come over the wall's connection. */
  get wantsPictures() {
    if (this.camera === null || this.#playing || this.#paused) return false;
    return isJpeg(this.camera) || this.#why !== "";
  }

  open(camera, bitmapSource) {
    if (this.camera?.name === camera.name) return;
    this.#stop();
    this.camera = camera;
    this.#addresses = "";
    $("large-name").textContent = camera.name;
    document.title = `${camera.name} – camrelay`;
    this.#canvas.setAttribute("aria-label", `Picture of ${camera.name}`);
    this.#video.setAttribute("aria-label", `Video of ${camera.name}`);
    if (bitmapSource?.jpeg) {
      const age = bitmapSource.age ?? 0;
      this.#picture.draw({ jpeg: bitmapSource.jpeg, age, placeholder: bitmapSource.placeholder }).catch(() => {});
    }
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#start();
    this.update(camera);
  }

  close() {
    if (!this.camera) return;
    this.#stop();
    this.camera = null;
    if (document.fullscreenElement) document.exitFullscreen();
    this.#dialog.close();
    document.title = "camrelay";
  }

  #start() {
    this.#why = "";
    const { name } = this.camera;
    this.#whep = new Whep(
      name,
      this.#video,
      () => {
        this.#playing = true;
        this.#video.hidden = false;
        this.#canvas.hidden = true;
        this.refresh();
      },
      why => {
        this.#whep = null;
        this.#why = why;
        this.#showPictures();
      },
    );
  }

  #showPictures() {
    this.#playing = false;
    this.#video.hidden = true;
    this.#canvas.hidden = false;
    this.refresh();
  }

  #stop() {
    this.#whep?.close();
    this.#whep = null;
    this.#playing = false;
    this.#video.hidden = true;
    this.#canvas.hidden = false;
    this.#picture.clear();
    this.#setPaused(false);
  }

  /** A picture of this camera over the wall's connection. */
  async draw(picture) {
    if (!this.#paused && !this.#playing) await this.#picture.draw(picture);
  }

  /** Takes in what the relay says of the camera. */
  update(camera) {
    const before = this.camera.state.name;
    this.camera = camera;
    const came = camera.state.name === "live" && before !== "live";
    if (came && !this.#whep && !this.#paused) this.#start();
    const stream = video(camera);
    const { hop } = camera;
    const facts = [];
    if (camera.age_ms !== undefined && camera.age_ms !== null) {
      const late = camera.age_ms > LATE;
      facts.push(["Age", camera.age_ms < 1000 ? `${Math.round(camera.age_ms)} ms` : duration(camera.age_ms), late]);
    }
    if (stream) {
      const size = stream.width ? `${stream.width} × ${stream.height}` : "";
      facts.push(["Picture", [size, stream.codec].filter(Boolean).join(", ")]);
      if (camera.state.name === "live") facts.push(["Rate", `${fps(stream.fps)}, ${bitrate(stream.bitrate)}`]);
    }
    const lost = loss(camera);
    if (lost !== null) facts.push(["Packets lost", percent(lost), lost >= MUCH]);
    if (hop) {
      facts.push(["Packets repaired", String(hop.repaired)]);
      facts.push(["Frames lost", String(hop.lost)], ["Frames late", String(hop.late)]);
      facts.push(["Round trip", `${hop.rtt_ms.toFixed(1)} ms`]);
    }
    const kinds = Object.entries(camera.viewers).filter(([, count]) => count > 0);
    const names = { rtsp: "RTSP", http: "HTTP", webrtc: "WebRTC" };
    const watching = kinds.map(([kind, count]) => `${count} ${names[kind] ?? kind}`).join(", ");
    facts.push(["Viewers", watching || String(viewers(camera))]);
    for (const [way, name] of [["rtsp", "To players"], ["webrtc", "Over WebRTC"]]) {
      const as = camera.served?.[way];
      if (as) facts.push([name, as, false, as.length > SHORT]);
    }
    this.#showFacts(facts);
    this.#showAddresses(addresses(camera, stream?.codec === "JPEG"));
    this.refresh();
  }

  #showFacts(facts) {
    const list = $("facts");
    while (list.children.length > facts.length * 2) list.lastElementChild.remove();
    while (list.children.length < facts.length * 2) {
      list.append(document.createElement("dt"), document.createElement("dd"));
    }
    facts.forEach(([name, value, bad, wide], index) => {
      set(list.children[index * 2], name);
      set(list.children[index * 2 + 1], value);
      list.children[index * 2 + 1].toggleAttribute("data-bad", bad === true);
      list.children[index * 2 + 1].toggleAttribute("data-wide", wide === true);
    });
  }

  #showAddresses(list) {
    const text = JSON.stringify(list);
    if (text === this.#addresses) return;
    this.#addresses = text;
    $("addresses").replaceChildren(
      ...list.map(([name, address]) => {
        const item = $("address").content.firstElementChild.cloneNode(true);
        const url = new URL(address, location.href).href;
        item.querySelector(".kind").textContent = name;
        // It may be broken after each slash.
        const pieces = url.split(/(?<=\/)(?=[^/])/);
        item.querySelector("code").append(...pieces.flatMap(piece => [piece, document.createElement("wbr")]));
        const button = item.querySelector("button");
        button.setAttribute("aria-label", `Copy: ${name}`);
        button.onclick = () => this.copy(url);
        return item;
      }),
    );
  }

  /** Shows state and age as they are now. */
  refresh() {
    if (!this.camera) return;
    const state = shownState(this.camera, this.#picture);
    this.#dialog.dataset.state = state;
    this.#dialog.toggleAttribute("data-drawn", this.#picture.placeholder);
    set($("large-state"), stateName(state));
    const age = this.#playing ? this.camera.age_ms ?? null : shownAge(this.camera, this.#picture);
    $("large-age").title = since(this.camera);
    set($("large-age"), age === null || (state === "live" && age <= LATE) ? "" : `${duration(age)} old`);
    $("large-age").toggleAttribute("data-late", age !== null && age > LATE);
    set($("via"), this.#playing ? "WebRTC" : this.#picture.shown ? "Picture by picture" : "");
    $("via").title = this.#why && `No WebRTC: ${this.#why}`;
    const notice = reason(this.camera, this.#playing || this.#picture.shown, this.#why);
    set($("notice"), notice);
    $("notice").hidden = notice === "";
  }

  pause() {
    if (!this.camera) return;
    this.#setPaused(!this.#paused);
    if (this.#paused) this.#video.pause();
    else this.#video.play().catch(() => {});
  }

  #setPaused(paused) {
    this.#paused = paused;
    const button = $("pause");
    button.setAttribute("aria-pressed", String(paused));
    button.setAttribute("aria-label", paused ? "Go on" : "Pause");
    button.querySelector("use").setAttribute("href", paused ? "#play" : "#hold");
    this.#dialog.toggleAttribute("data-paused", paused);
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else $("stage").requestFullscreen?.().catch(() => this.onToast("This browser has no full screen"));
  }

  /** Saves what is to be seen. */
  async snapshot() {
    if (!this.camera) return;
    const { name } = this.camera;
    const jpeg = this.#playing ? await still(this.#video) : this.#picture.jpeg;
    if (!jpeg) return this.onToast("There is no picture yet");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(jpeg);
    link.download = fileName(name);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    this.onToast(`Saved ${link.download}`);
  }

  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      this.onToast("Copied");
    } catch {
      // Only https and this machine itself may write there.
      const area = document.createElement("textarea");
      area.value = text;
      (this.#dialog.open ? this.#dialog : document.body).append(area);
      area.select();
      this.onToast(document.execCommand("copy") ? "Copied" : "Select the address to copy it");
      area.remove();
    }
  }
}

/** Where a camera is watched: what for, and the address. */
function addresses({ name, urls = {} }, isJpeg) {
  const path = encodeURIComponent(name);
  const list = [
    ["RTSP, for players", urls.rtsp],
    ["Motion JPEG", isJpeg && `/cameras/${path}/stream.mjpeg`],
    ["One picture", `/cameras/${path}/snapshot.jpg`],
    ["WebRTC (WHEP)", `/cameras/${path}/whep`],
    ["To embed in a page", `/embed/${path}`],
    ["This page", `/#${path}`],
  ];
  return list.filter(([, address]) => address);
}

/** A JPEG of what a <video> shows. */
async function still(video) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
}
