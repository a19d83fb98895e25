// Small things that several parts of the console use.

import { computed, html, signal, useLayoutEffect, useRef, useState } from '../vendor/ui.js';
import { midnight } from '../shared/i18n.js';
import { Icon, Tool } from '../shared/icons.js';
import { pictureUrl } from '../shared/kinds.js';

const NAMES = { 'zh-CN': '中文', en: 'English' };

export function LanguageChoice({ i18n }) {
  return html`<label class="language"><span class="unseen">${i18n.t('language')}</span><${Icon} name="globe" />
    <select value=${i18n.locale.value} onChange=${(event) => i18n.choose(event.target.value)}>
      ${Object.entries(NAMES).map(([locale, name]) => html`<option value=${locale} lang=${locale} selected=${locale === i18n.locale.value}>${name}</option>`)}
    </select>
  </label>`;
}

/** What somebody is called. */
export const nameOf = (entry, i18n) => entry?.name || i18n.t('guestNumber', { id: String(entry?.gid ?? '') });

/** A picture, or the first letter on a colour of its own; a dot where somebody is on line. */
export function Avatar({ name, url, id = 0, online = false }) {
  const [broken, setBroken] = useState(false);
  const shown = pictureUrl(url);
  return html`<span class=${`avatar tone${Math.abs(Number(id)) % 6}`} aria-hidden="true">
    ${shown && !broken ? html`<img src=${shown} alt="" width="40" height="40" onError=${() => setBroken(true)} />` : firstLetter(name)}
    ${online && html`<i class="online"></i>`}
  </span>`;
}

const firstLetter = (name) => ([...String(name).trim()][0] ?? '?').toUpperCase();

/** A dialog of its own over the page; Escape closes it, and the focus goes back. */
export function Dialog({ title, onClose, children, label, i18n }) {
  const dialog = useRef(null);
  useLayoutEffect(() => {
    const shown = dialog.current;
    shown.showModal();
    dialogs.value += 1;
    return () => {
      dialogs.value -= 1;
      shown.close(); // while it is in the page, as only then the browser gives the focus back
    };
  }, []);
  // Browsers tell of a closed dialog with the next frame, when it may have been opened anew.
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${dialog} class="dialog" aria-label=${label ?? title} onCancel=${cancel}
    onClose=${({ target }) => target.isConnected && onClose()} onClick=${(event) => event.target === dialog.current && onClose()}>
    <div class="dialog-inner">
      <header><h2>${title}</h2>
        <${Tool} icon="close" label=${i18n.t('close')} onClick=${onClose} />
      </header>
      ${children}
    </div>
    <${Toasts} inDialog />
  </dialog>`;
}

const toast = signal(null);
const dialogs = signal(0);
let timer = 0;

/** A line that shows for a while; in the dialog while there is one, as nobody sees or hears what lies beneath. */
export function Toasts({ inDialog = false }) {
  const here = inDialog === dialogs.value > 0;
  return html`<div class="toasts" role="status">${here && toast.value && html`<p class="toast">${toast.value}</p>`}</div>`;
}

export function say(text) {
  clearTimeout(timer);
  toast.value = text;
  timer = setTimeout(() => (toast.value = null), 5_000);
}

/** What went wrong, in words. */
export function explain(error, i18n) {
  if (error.code === undefined) throw error;
  const key = `e${error.code}`;
  const own = i18n.t(key);
  say(own !== key ? own : i18n.t('failed'));
}

/** The time, for what counts up on the screen; and the day, for what says when something was. */
export const now = signal(Date.now());
export const today = computed(() => midnight(now.value));
setInterval(() => (now.value = Date.now()), 5_000);
