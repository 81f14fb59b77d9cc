// One camera over WebRTC, asked for by WHEP.

import { relayClock } from "./clock.js";

/** How long the first picture may take before another way is the better one. */
const PATIENCE = 6000;
/** How long nothing may come, once the browser noticed: by then the relay lets go of the viewer. */
const SILENCE = 4000;

/**
 * Plays a camera in a <video>. `onPlaying` is called once, with the first picture;
 * `onFailed` once, with a sentence, when it does not work or stops working.
 */
export class Whep {
  #video;
  #peer = null;
  #session = null;
  #closed = false;
  #onFailed;
  #patience;
  #silence;
  #rtp = null;

  constructor(camera, video, onPlaying, onFailed) {
    this.#video = video;
    this.#onFailed = onFailed;
    this.#patience = setTimeout(() => this.#fail("no picture came"), PATIENCE);
    this.#offer(camera, onPlaying).catch(error => this.#fail(error.message));
  }

  async #offer(camera, onPlaying) {
    const video = this.#video;
    this.#peer = new RTCPeerConnection();
    this.#peer.addTransceiver("video", { direction: "recvonly" });
    this.#peer.ontrack = ({ track, receiver }) => {
      // The newest picture, rather than smooth ones.
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
      video.srcObject = new MediaStream([track]);
      video.play().catch(() => {});
      const show = (_, { rtpTimestamp }) => {
        if (this.#closed) return;
        this.#rtp = rtpTimestamp ?? null;
        video.requestVideoFrameCallback(show);
      };
      video.requestVideoFrameCallback((...frame) => {
        show(...frame);
        if (this.#closed) return;
        clearTimeout(this.#patience);
        onPlaying();
      });
    };
    this.#peer.onconnectionstatechange = () => {
      const state = this.#peer.connectionState;
      clearTimeout(this.#silence);
      if (state === "disconnected") {
        this.#silence = setTimeout(() => this.#fail("nothing comes any more"), SILENCE);
      }
      if (state === "failed" || state === "closed") this.#fail("the connection was lost");
    };
    const offer = await this.#peer.createOffer();
    await this.#peer.setLocalDescription(offer);
    const response = await fetch(`/cameras/${encodeURIComponent(camera)}/whep`, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: this.#peer.localDescription.sdp,
    });
    const body = await response.text();
    if (!response.ok) throw new Error(body.trim() || `the relay says ${response.status}`);
    this.#session = response.headers.get("Location");
    if (this.#closed) {
      this.#end();
      return;
    }
    await this.#peer.setRemoteDescription({ type: "answer", sdp: body });
  }

  /** Milliseconds since what is shown was captured; null where nobody knows. */
  get age() {
    return relayClock.since(this.#rtp);
  }

  /** Ends it. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#patience);
    clearTimeout(this.#silence);
    this.#video.srcObject = null;
    this.#end();
  }

  /** The relay is told before the connection says so by itself. */
  #end() {
    const close = () => this.#peer?.close();
    if (!this.#session) return close();
    fetch(this.#session, { method: "DELETE", keepalive: true }).then(close, close);
    this.#session = null;
  }

  #fail(why) {
    if (this.#closed) return;
    // What is shown last may be kept.
    this.#onFailed(why);
    this.close();
  }
}
