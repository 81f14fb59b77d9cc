// One camera over WebRTC, asked for by WHEP.

/** How long the first picture may take before another way is the better one. */
const PATIENCE = 6000;

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
      video.requestVideoFrameCallback(() => {
        if (this.#closed) return;
        clearTimeout(this.#patience);
        onPlaying();
      });
    };
    this.#peer.onconnectionstatechange = () => {
      const state = this.#peer.connectionState;
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

  /** Ends it. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#patience);
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
    this.close();
    this.#onFailed(why);
  }
}
