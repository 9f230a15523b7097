// Runs in the page in front of its own programs: presses a button as soon as there is one to press, and notes when what comes of it is there.
(() => {
  const marks = (window.benchmarkMarks = {});
  const mark = (name) => (marks[name] ??= performance.now());
  const shown = (id) => document.getElementById(id)?.textContent ?? "";
  const TAP = `registerProcessor("benchmark-tap", class extends AudioWorkletProcessor {
    process([input]) {
      const at = input[0]?.findIndex((sample) => Math.abs(sample) > 0.001) ?? -1;
      if (at >= 0) this.port.postMessage(currentTime + at / sampleRate);
      return at < 0;
    }
  })`;

  // Whatever goes to the speaker goes to the tap as well.
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to, ...others) {
    if (to instanceof AudioDestinationNode) void tapOf(to.context).then((tap) => connect.call(this, tap));
    return connect.call(this, to, ...others);
  };

  async function tapOf(context) {
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([TAP], { type: "text/javascript" })));
    const tap = new AudioWorkletNode(context, "benchmark-tap", { numberOfOutputs: 0 });
    tap.port.onmessage = ({ data }) => {
      // When that sample leaves for the device, on the page's clock.
      const { contextTime, performanceTime } = context.getOutputTimestamp();
      marks.sound ??= performanceTime + 1000 * (data - contextTime);
    };
    return tap;
  }

  new MutationObserver(() => {
    if (document.documentElement.dataset.ready === "true" && marks.ready === undefined) {
      mark("ready");
      document.getElementById("listen").click();
    }
    if (document.getElementById("listen-part")?.dataset.state === "playing") mark("playing");
    if (shown("format").startsWith("codes") && Number.parseFloat(shown("heard")) > 0) mark("codes");
  }).observe(document, { subtree: true, attributes: true, childList: true, characterData: true });
})();
