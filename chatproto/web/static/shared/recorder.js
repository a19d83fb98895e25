// Recording a voice message. Only on https or localhost: elsewhere a page has no microphone.

const MOST = 120_000;
const TYPES = ['audio/webm;codecs=opus', 'audio/mp4', 'audio/ogg;codecs=opus'];

export const canRecord = () =>
  Boolean(navigator.mediaDevices?.getUserMedia) && typeof MediaRecorder === 'function';

/** Ask for the microphone and start; `full` is called at the longest. Rejects with the browser's own error where it is refused. */
export async function record(full) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(stream, { mimeType: TYPES.find((one) => MediaRecorder.isTypeSupported(one)) });
  const parts = [];
  const began = performance.now();
  recorder.ondataavailable = ({ data }) => data.size && parts.push(data);
  const ended = new Promise((resolve) => (recorder.onstop = resolve));
  const timer = setTimeout(full, MOST);
  recorder.start(500);

  async function stop() {
    clearTimeout(timer);
    const duration_ms = performance.now() - began;
    if (recorder.state !== 'inactive') recorder.stop();
    await ended;
    stream.getTracks().forEach((track) => track.stop());
    // The parameters of the type (";codecs=opus") are of no use to who stores it.
    return { blob: new Blob(parts, { type: recorder.mimeType.split(';')[0] }), duration_ms };
  }

  return { began, stop };
}
