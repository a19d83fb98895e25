// Questions to the agent: to whom to transfer, whether to end, what a card says, how to be notified.

import { html, useRef, useState } from '../vendor/ui.js';
import { ORDER } from '../shared/files.js';
import { safeUrl } from '../shared/kinds.js';
import { canNotify, want, wanted } from './news.js';
import { Avatar, Dialog, LanguageChoice, explain, nameOf, say } from './parts.js';

export function Transfer({ desk, entry, i18n, onClose, onDone }) {
  const { t } = i18n;
  const form = useRef(null);
  const [to, setTo] = useState(null);
  const [busy, setBusy] = useState(false);
  const colleagues = Object.values(desk.admins.value)
    .filter(({ aix, status }) => aix !== desk.me && status !== 0)
    .sort((a, b) => a.status - b.status || a.guest_count / a.capacity - b.guest_count / b.capacity);
  const why = (one) => (one.status === 2 ? t('suspendedShort') : one.guest_count >= one.capacity ? t('full') : '');

  async function submit(event) {
    event.preventDefault();
    if (to === null || busy) return;
    setBusy(true);
    try {
      await desk.transfer(entry.gid, to, new FormData(form.current).get('note').trim());
      say(t('transferred', { name: desk.admins.peek()[to]?.name ?? '' }));
      onDone();
    } catch (error) {
      setBusy(false);
      explain(error, i18n);
    }
  }

  return html`<${Dialog} title=${t('transferTo', { name: nameOf(entry, i18n) })} i18n=${i18n} onClose=${onClose}>
    <form ref=${form} onSubmit=${submit}>
      <fieldset class="choices"><legend>${t('toWhom')}</legend>
        ${colleagues.map((one) => html`<label key=${one.aix} class="choice">
          <input type="radio" name="to" value=${one.aix} checked=${to === one.aix} disabled=${Boolean(why(one))} onChange=${() => setTo(one.aix)} />
          <${Avatar} name=${one.name} url=${one.avatar} id=${one.aix} />
          <span class="choice-name">${one.name}</span>
          <span class="quiet">${why(one) || t('load', { count: one.guest_count, most: one.capacity })}</span>
        </label>`)}
        ${!colleagues.length && html`<p class="quiet">${t('nobodyThere')}</p>`}
      </fieldset>
      <label>${t('note')}<textarea name="note" rows="3" maxlength="500"></textarea><span class="quiet">${t('noteHint')}</span></label>
      <div class="dialog-end">
        <button type="button" class="button" onClick=${onClose}>${t('cancel')}</button>
        <button class="button strong" disabled=${to === null}>${t('transfer')}</button>
      </div>
    </form>
  <//>`;
}

export function EndQuestion({ name, i18n, onClose, onEnd }) {
  const { t } = i18n;
  return html`<${Dialog} title=${t('endQuestion', { name })} i18n=${i18n} onClose=${onClose}>
    <p class="quiet">${t('endHint')}</p>
    <div class="dialog-end">
      <button type="button" class="button" onClick=${onClose}>${t('cancel')}</button>
      <button type="button" class="button strong" autofocus onClick=${onEnd}>${t('end')}</button>
    </div>
  <//>`;
}

const FIELDS = {
  3: [['id', 'number', true], ['title', 'productTitle', true], ['price', 'price'], ['currency', 'currency'], ['url', 'link'], ['image', 'image']],
  4: [['id', 'number', true], ['title', 'productTitle'], ['status', 'status'], ['total', 'total'], ['currency', 'currency'], ['url', 'link'], ['image', 'image']],
};
const ADDRESSES = new Set(['url', 'image']);

/** A card for a product or an order, typed in. */
export function CardForm({ kind, i18n, onClose, onSend }) {
  const { t } = i18n;
  const form = useRef(null);

  function submit(event) {
    event.preventDefault();
    const card = {};
    for (const [field] of FIELDS[kind]) {
      const value = new FormData(form.current).get(field).trim();
      if (value && (!ADDRESSES.has(field) || safeUrl(value))) card[field] = field === 'currency' ? value.toUpperCase() : value;
    }
    onSend(kind, card);
  }

  return html`<${Dialog} title=${t(kind === ORDER ? 'orderCard' : 'productCard')} i18n=${i18n} onClose=${onClose}>
    <form ref=${form} onSubmit=${submit} class="card-form">
      ${FIELDS[kind].map(([field, word, required]) => html`<label key=${field} class=${ADDRESSES.has(field) || field === 'title' ? 'wide' : ''}>
        <span>${t(word)} ${!required && html`<span class="quiet">${t('optional')}</span>`}</span>
        <input name=${field} required=${required} type=${ADDRESSES.has(field) ? 'url' : 'text'} inputmode=${field === 'price' || field === 'total' ? 'decimal' : undefined}
          maxlength=${field === 'currency' ? 3 : ADDRESSES.has(field) ? 2048 : 200} pattern=${ADDRESSES.has(field) ? 'https?://.+' : field === 'currency' ? '[A-Za-z]{3}' : undefined} />
      </label>`)}
      <div class="dialog-end">
        <button type="button" class="button" onClick=${onClose}>${t('cancel')}</button>
        <button class="button strong">${t('send')}</button>
      </div>
    </form>
  <//>`;
}

const SWITCHES = [['title', 'titleSwitch'], ['sound', 'soundSwitch'], ['desktop', 'desktopSwitch']];

export function Settings({ desk, i18n, onClose }) {
  const { t } = i18n;
  const change = async (what, box) => {
    if (await want(what, box.checked)) return;
    box.checked = false;
    say(t('desktopRefused'));
  };
  return html`<${Dialog} title=${t('settings')} i18n=${i18n} onClose=${onClose}>
    <fieldset class="choices"><legend>${t('notifications')}</legend>
      ${SWITCHES.map(([what, word]) => html`<label key=${what} class="choice">
        <input type="checkbox" checked=${wanted.value[what]} disabled=${what === 'desktop' && !canNotify()} onChange=${(event) => change(what, event.target)} />
        <span class="choice-name">${t(word)}</span>
      </label>`)}
    </fieldset>
    <fieldset class="choices"><legend>${t('language')}</legend><${LanguageChoice} i18n=${i18n} /></fieldset>
    <div class="dialog-end">
      <button type="button" class="button" onClick=${() => desk.leave()}>${t('signOut')}</button>
    </div>
  <//>`;
}
