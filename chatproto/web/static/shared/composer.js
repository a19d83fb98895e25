// Where a message is written: text, files (chosen, pasted, dropped) and voice.

import { html, useEffect, useLayoutEffect, useRef, useState } from '../vendor/ui.js';
import { Tool } from './icons.js';
import { option } from './page.js';
import { canRecord, record } from './recorder.js';

const MOST = Number(option('max-text'));
const TYPING_EVERY = 3_000;
const TYPING_ENDS = 5_000;

/** Whether a key press belongs to an input method that is composing: its Enter chooses a word and sends nothing. */
export const composing = (event) => event.isComposing || event.keyCode === 229;

/** Go on at the field; on a phone, where that would bring up the keyboard over what is to be read, at the messages. */
export const goOn = (how) => document.querySelector(matchMedia('(pointer: coarse)').matches ? '.log' : '.composer textarea')?.focus(how);

/** Says of a field that it is full: it takes no more without a word. */
export const Full = ({ t, text, most }) => text.length >= most && html`<p class="status bad" role="alert">${t('tooLong', { count: most })}</p>`;

/**
 * @param {string} draft the text, kept by the page
 * @param {(text: string) => void} onDraft
 * @param {(text: string) => void} onSend
 * @param {(files: File[]) => void} onFiles
 * @param {(blob: Blob, duration_ms: number) => void} onVoice
 * @param {(typing: boolean) => void} onTyping at most every 3 s, and when it ends
 * @param {(text: string) => void} onTrouble something for people to read
 * @param children more buttons
 */
export function Composer({
  i18n, draft, onDraft, onSend, onFiles, onVoice, onTyping, onTrouble, disabled, children,
}) {
  const { t } = i18n;
  const area = useRef(null);
  const chooser = useRef(null);
  const typing = useRef({ told: 0, timer: 0 });
  const [recording, setRecording] = useState(null);

  useLayoutEffect(() => {
    const { style } = area.current ?? {};
    if (!style || CSS.supports('field-sizing', 'content')) return;
    style.height = 'auto';
    style.height = `${area.current.scrollHeight}px`;
  }, [draft, recording]);
  useLayoutEffect(() => recording && goOn, [recording]);
  useEffect(() => () => stopTyping(), []);

  function type(text) {
    onDraft(text);
    const told = typing.current;
    if (!text) return stopTyping();
    clearTimeout(told.timer);
    told.timer = setTimeout(stopTyping, TYPING_ENDS);
    if (Date.now() - told.told < TYPING_EVERY) return;
    told.told = Date.now();
    onTyping(true);
  }

  function stopTyping() {
    const told = typing.current;
    clearTimeout(told.timer);
    if (told.told) onTyping(false);
    told.told = 0;
  }

  function send() {
    const text = draft.trim();
    if (!text || disabled) return;
    // What was sent ends the typing by itself.
    clearTimeout(typing.current.timer);
    typing.current.told = 0;
    onSend(text);
    area.current?.focus();
  }

  function press(event) {
    if (event.key !== 'Enter' || event.shiftKey || composing(event)) return;
    event.preventDefault();
    send();
  }

  function take(event, { files }) {
    const list = [...files];
    if (!list.length) return;
    event.preventDefault();
    onFiles(list);
  }

  async function startRecording() {
    try {
      setRecording(await record(() => endRecording.current(true)));
    } catch {
      onTrouble(t('noMicrophone'));
    }
  }

  const endRecording = useRef(null);
  endRecording.current = async (keep) => {
    if (!recording) return;
    setRecording(null);
    const { blob, duration_ms } = await recording.stop();
    if (keep && blob.size) onVoice(blob, duration_ms);
  };
  useEffect(() => () => void endRecording.current(false), []);

  if (recording) {
    return html`<div class="composer recording">
      <${Tool} icon="trash" label=${t('recordingCancel')} onClick=${() => endRecording.current(false)} />
      <${Elapsed} since=${recording.began} i18n=${i18n} />
      <${Tool} class="primary" icon="send" label=${t('recordingEnd')} onClick=${() => endRecording.current(true)} />
    </div>`;
  }
  return html`<div class="composer" onDrop=${(event) => take(event, event.dataTransfer)} onDragOver=${(event) => event.preventDefault()}>
    <${Full} t=${t} text=${draft} most=${MOST} />
    <input ref=${chooser} type="file" multiple hidden tabindex="-1" onChange=${(event) => {
      take(event, event.target);
      event.target.value = '';
    }} />
    <${Tool} disabled=${disabled} icon="attach" label=${t('attach')} onClick=${() => chooser.current.click()} />
    ${children}
    <textarea ref=${area} rows="1" maxlength=${MOST} value=${draft} disabled=${disabled} aria-label=${t('messageLabel')}
      placeholder=${t('write')} enterkeyhint="send" onInput=${(event) => type(event.target.value)} onKeyDown=${press}
      onPaste=${(event) => take(event, event.clipboardData)}></textarea>
    ${!draft.trim() && canRecord()
      ? html`<${Tool} key="voice" disabled=${disabled} icon="mic" label=${t('voice')} onClick=${startRecording} />`
      : html`<${Tool} class="primary" key="send" disabled=${disabled || !draft.trim()} icon="send" label=${t('send')} onClick=${send} />`}
  </div>`;
}

function Elapsed({ since, i18n }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((count) => count + 1), 500);
    return () => clearInterval(timer);
  }, []);
  const time = i18n.duration(performance.now() - since);
  return html`<p class="elapsed" role="timer"><span class="dot" aria-hidden="true"></span>${i18n.t('recording', { time })}</p>`;
}
