// One camera, large: over WebRTC where that works, else picture by picture.

import { Direct } from "./direct.js";
import { bitrate, duration, fileName, fps, percent, size } from "./text.js";
import { CONNECTING, LATE, MUCH, Picture, isJpeg, loss, reason, saved, set, shownAge, shownState, since, stateName, video, viewers } from "./tile.js";

const $ = id => document.getElementById(id);
/** More letters than this have a line of their own among the facts. */
const SHORT = 24;

/** The dialog. `onStep(by)` asks for another camera, `onClose()` for the wall, `onPause()` for what is wanted now. */
export class Large {
  #dialog = $("large");
  #video = $("video");
  #canvas = $("large-canvas");
  #picture = new Picture(this.#canvas);
  #direct = null;
  #paused = false;
  #addresses = "";
  camera = null;

  constructor({ onStep, onClose, onPause, onToast }) {
    this.onPause = onPause;
    this.onToast = onToast;
    $("close").onclick = onClose;
    $("before").onclick = () => onStep(-1);
    $("after").onclick = () => onStep(1);
    $("pause").onclick = () => this.pause();
    $("snapshot").onclick = () => this.snapshot();
    $("full").onclick = () => this.fullScreen();
    $("more").onclick = () => this.togglePanel();
    this.#dialog.addEventListener("cancel", event => {
      event.preventDefault();
      if (this.#isFilled) this.#fill(false);
      else onClose();
    });
    this.#dialog.addEventListener("close", () => {
      if (this.camera) onClose();
    });
    this.#video.addEventListener("webkitendfullscreen", () => {
      if (!this.#paused) this.#video.play().catch(() => {});
    });
    $("stage").addEventListener("dblclick", () => this.fullScreen());
  }

  get name() {
    return this.camera?.name ?? null;
  }

  /** Whether pictures have to come over the wall's connection. */
  get wantsPictures() {
    if (this.camera === null || this.#direct.playing || this.#paused) return false;
    return isJpeg(this.camera) || this.#direct.wantsPictures;
  }

  /** Shows a camera, at first as that picture does. */
  open(camera, picture) {
    if (this.camera?.name === camera.name) return;
    this.#stop();
    this.camera = camera;
    this.#addresses = "";
    $("large-name").textContent = camera.name;
    document.title = `${camera.name} – camrelay`;
    this.#canvas.setAttribute("aria-label", `Picture of ${camera.name}`);
    this.#video.setAttribute("aria-label", `Video of ${camera.name}`);
    this.#direct = new Direct(camera.name, this.#video, this.#picture);
    this.#picture.copy(picture).catch(() => {});
    if (!this.#dialog.open) this.#dialog.showModal();
    this.update(camera);
  }

  close() {
    if (!this.camera) return;
    this.#stop();
    this.camera = null;
    this.#fill(false);
    if (document.fullscreenElement) document.exitFullscreen();
    this.#dialog.close();
    document.title = "camrelay";
  }

  /** Plays it while it is to be `seen`; once it is paused, only what it has already. */
  play(seen) {
    if (!this.camera) return;
    this.#direct.play(seen && (!this.#paused || this.#direct.playing), this.camera.state.name);
    this.refresh();
  }

  #stop() {
    this.#direct?.play(false, "");
    this.#direct = null;
    this.#picture.clear();
    this.#setPaused(false);
  }

  /** A picture of this camera over the wall's connection. */
  async draw(picture) {
    if (!this.#paused) await this.#direct.draw(picture);
  }

  /** Takes in what the relay says of the camera. */
  update(camera) {
    this.camera = camera;
    const stream = video(camera);
    this.#showFacts([
      ["Picture", this.#pictureFacts(camera, stream)],
      ["From the camera to the relay", wayFacts(camera)],
      ["Who watches, and what", viewerFacts(camera)],
    ]);
    this.#showAddresses(addresses(camera, stream?.codec === "JPEG"));
    this.refresh();
  }

  #pictureFacts(camera, stream) {
    const facts = [];
    const age = shownAge(camera, this.#picture, this.#direct);
    if (age !== null) {
      const isOfRelay = this.#direct.playing && this.#direct.age === null;
      facts.push([isOfRelay ? "Age at the relay" : "Age", age < 1000 ? `${Math.round(age)} ms` : duration(age), age > LATE]);
    }
    if (!stream) return facts;
    facts.push(["Size", [stream.width && size(stream), stream.codec].filter(Boolean).join(", ")]);
    if (camera.state.name === "live") facts.push(["Rate", `${fps(stream.fps)}, ${bitrate(stream.bitrate)}`]);
    return facts;
  }

  /** Shows groups of facts, each a name, a value, whether it is bad and whether it has a line of its own. */
  #showFacts(groups) {
    const list = $("facts");
    fit(list, groups.length, () => {
      const section = document.createElement("section");
      section.append(document.createElement("h3"), document.createElement("dl"));
      return section;
    });
    groups.forEach(([title, facts], index) => {
      const [heading, values] = list.children[index].children;
      list.children[index].hidden = facts.length === 0;
      set(heading, title);
      fit(values, facts.length * 2, at => document.createElement(at % 2 === 0 ? "dt" : "dd"));
      facts.forEach(([name, value, bad, wide], at) => {
        set(values.children[at * 2], name);
        set(values.children[at * 2 + 1], value);
        values.children[at * 2 + 1].toggleAttribute("data-bad", bad === true);
        values.children[at * 2 + 1].toggleAttribute("data-wide", wide === true);
      });
    });
  }

  #showAddresses(list) {
    const text = JSON.stringify(list);
    if (text === this.#addresses) return;
    this.#addresses = text;
    $("addresses").replaceChildren(
      ...list.map(([name, address, way]) => {
        const item = $("address").content.firstElementChild.cloneNode(true);
        const url = new URL(address, location.href).href;
        item.querySelector(".kind").textContent = name;
        const link = item.querySelector("a");
        if (way !== "none") link.href = url;
        // It may be broken after each slash.
        const pieces = url.split(/(?<=\/)(?=[^/])/);
        link.append(...pieces.flatMap(piece => [piece, document.createElement("wbr")]));
        const button = item.querySelector("button");
        button.setAttribute("aria-label", `Copy: ${name}`);
        button.onclick = () => this.copy(link);
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
    const { playing, why } = this.#direct;
    this.#canvas.hidden = playing;
    const age = shownAge(this.camera, this.#picture, this.#direct);
    $("large-age").title = since(this.camera);
    set($("large-age"), age === null || (state === "live" && age <= LATE) ? "" : `${duration(age)} old`);
    $("large-age").toggleAttribute("data-late", age !== null && age > LATE);
    set($("via"), playing ? "WebRTC" : this.#picture.shown ? "Picture by picture" : "");
    $("via").title = why && `No WebRTC: ${why}`;
    const notice = reason(this.camera, playing || this.#picture.shown, why);
    set($("notice"), notice);
    $("notice").hidden = notice === "";
    $("notice").toggleAttribute("data-waiting", notice === CONNECTING);
    this.#fitSheet(playing ? [this.#video.videoWidth, this.#video.videoHeight] : this.#picture.size);
  }

  /** What lies on the picture is to be where that is, whatever its shape. */
  #fitSheet([width, height]) {
    const stream = video(this.camera);
    const known = stream?.width ? stream.width / stream.height : 16 / 9;
    const isDrawn = this.#direct.playing || this.#picture.shown;
    const ratio = String(isDrawn && width && height ? width / height : known);
    const { style } = $("stage");
    if (style.getPropertyValue("--ratio") !== ratio) style.setProperty("--ratio", ratio);
  }

  /** Shows the panel with figures and addresses, or leaves all the room to the picture. */
  togglePanel() {
    const isAlone = this.#dialog.toggleAttribute("data-alone");
    $("more").setAttribute("aria-expanded", String(!isAlone));
  }

  pause() {
    if (!this.camera) return;
    this.#setPaused(!this.#paused);
    if (this.#paused) this.#video.pause();
    else this.#video.play().catch(() => {});
    this.onPause();
  }

  #setPaused(paused) {
    this.#paused = paused;
    const button = $("pause");
    button.setAttribute("aria-pressed", String(paused));
    button.setAttribute("aria-label", paused ? "Go on" : "Pause");
    button.querySelector("use").setAttribute("href", paused ? "#play" : "#hold");
    this.#dialog.toggleAttribute("data-paused", paused);
  }

  /** Fills the screen, or where the browser does not let it the window. */
  async fullScreen() {
    if (document.fullscreenElement) return document.exitFullscreen();
    if (this.#isFilled) return this.#fill(false);
    try {
      await $("stage").requestFullscreen();
    } catch {
      this.#fillAsVideo();
    }
  }

  /** An iPhone has full screen for videos only. */
  #fillAsVideo() {
    try {
      if (!this.#direct.playing) throw new Error("it shows pictures");
      this.#video.webkitEnterFullscreen();
    } catch {
      this.#fill(true);
    }
  }

  get #isFilled() {
    return this.#dialog.hasAttribute("data-filled");
  }

  #fill(isFilled) {
    this.#dialog.toggleAttribute("data-filled", isFilled);
    $("full").setAttribute("aria-pressed", String(isFilled));
  }

  /** Saves what is to be seen. */
  async snapshot() {
    if (!this.camera) return;
    const { name } = this.camera;
    const { playing } = this.#direct;
    const isThere = !playing && this.#picture.jpeg;
    const jpeg = isThere || (await (playing ? saved(this.#video) : this.#picture.saved()));
    if (!jpeg) return this.onToast("There is no picture yet");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(jpeg);
    link.download = fileName(name);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    this.onToast(`Saved ${link.download}`);
  }

  /** Puts the text of an element into the clipboard; where that is not to be, selects it. */
  async copy(element) {
    const text = element.textContent;
    try {
      await navigator.clipboard.writeText(text);
      return this.onToast("Copied");
    } catch {
      // Only https and this machine itself may write there.
    }
    const focused = document.activeElement;
    const area = document.createElement("textarea");
    area.value = text;
    (this.#dialog.open ? this.#dialog : document.body).append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    if (!isCopied) getSelection().selectAllChildren(element);
    this.onToast(isCopied ? "Copied" : "Not copied: it is selected now, for the keys of your system");
  }
}

/** Makes an element have so many children. */
function fit(element, count, make) {
  while (element.children.length > count) element.lastElementChild.remove();
  while (element.children.length < count) element.append(make(element.children.length));
}

/** What becomes of its pictures on the way to the relay. */
function wayFacts(camera) {
  const { hop } = camera;
  const lost = loss(camera);
  const facts = lost === null ? [] : [["Packets lost", percent(lost), lost >= MUCH]];
  if (!hop) return facts;
  facts.push(["Frames repaired", String(hop.repaired)]);
  facts.push(["Frames lost", String(hop.lost)], ["Frames late", String(hop.late)]);
  facts.push(["Round trip", `${hop.rtt_ms.toFixed(1)} ms`]);
  return facts;
}

/** Who watches, and as what its pictures are sent. */
function viewerFacts(camera) {
  const kinds = Object.entries(camera.viewers).filter(([, count]) => count > 0);
  const names = { rtsp: "RTSP", http: "HTTP", webrtc: "WebRTC" };
  const watching = kinds.map(([kind, count]) => `${count} ${names[kind] ?? kind}`).join(", ");
  const facts = [["Viewers", watching || String(viewers(camera))]];
  for (const [way, name] of [["rtsp", "To players"], ["webrtc", "Over WebRTC"]]) {
    const as = camera.served?.[way]?.replace(/(\d)x(\d)/g, "$1 × $2");
    if (as) facts.push([name, as, false, as.length > SHORT]);
  }
  return facts;
}

/** Where a camera is watched: what for, and the address. */
function addresses({ name, urls = {} }, isJpeg) {
  const path = encodeURIComponent(name);
  const list = [
    ["RTSP, for players", urls.rtsp],
    ["Motion JPEG", isJpeg && `/cameras/${path}/stream.mjpeg`],
    ["One picture", `/cameras/${path}/snapshot.jpg`],
    // There is nothing to open in a browser.
    ["WebRTC (WHEP)", `/cameras/${path}/whep`, "none"],
    ["To embed in a page", `/embed/${path}`],
    ["This page", `/#${path}`],
  ];
  return list.filter(([, address]) => address);
}
