// The desk on the screen: bar, list, conversation, guest.

import { html, useEffect, useState } from '../vendor/ui.js';
import { Tool } from '../shared/icons.js';
import { Chat } from './chat.js';
import { GuestPanel } from './guest.js';
import { List } from './list.js';
import { Settings } from './dialogs.js';
import { Avatar, Toasts, explain } from './parts.js';

/** The chat of the address, so that a reload and the browser's own back button work. */
const chatOfAddress = () => Number(/^#\/(\d+)$/.exec(location.hash)?.[1]) || null;

export function Room({ desk, i18n }) {
  const { t } = i18n;
  const [settings, setSettings] = useState(false);
  const [details, setDetails] = useState(false);
  const selected = desk.selected.value;

  useEffect(() => {
    const follow = () => desk.select(chatOfAddress());
    follow();
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, [desk]);
  useEffect(() => setDetails(false), [selected]);
  // Messages outlive the page; a file on its way does not.
  useEffect(() => {
    const ask = (event) => desk.uploads.list.peek().some(({ state }) => state !== 'failed') && event.preventDefault();
    addEventListener('beforeunload', ask);
    return () => removeEventListener('beforeunload', ask);
  }, [desk]);

  function open(gid) {
    if (gid === null) {
      if (history.state?.fromList) history.back();
      else location.replace('#/');
    } else if (desk.selected.peek() === null) {
      history.pushState({ fromList: true }, '', `#/${gid}`);
    } else {
      history.replaceState(history.state, '', `#/${gid}`);
    }
    if (gid !== null) desk.select(gid);
  }

  const entry = selected === null ? null : desk.guests.value.get(selected);
  return html`<div class=${`room ${selected === null ? '' : 'chatting'} ${details ? 'with-details' : ''}`}>
    <header class="bar">
      <h1><span class="mark" aria-hidden="true"></span>${t('title')}</h1>
      <${Status} desk=${desk} i18n=${i18n} />
      <${Tool} icon="settings" label=${t('settings')} onClick=${() => setSettings(true)} />
    </header>
    <${Banner} desk=${desk} i18n=${i18n} />
    <${List} desk=${desk} i18n=${i18n} onOpen=${open} />
    ${entry
      ? html`<${Chat} key=${selected} gid=${selected} desk=${desk} i18n=${i18n} onBack=${() => open(null)} onDetails=${() => setDetails(!details)} />
          <${GuestPanel} key=${`guest ${selected}`} entry=${entry} desk=${desk} i18n=${i18n} onClose=${() => setDetails(false)} />`
      : html`<main class="nothing"><p class="quiet">${desk.loaded.value ? t('pickOne') : t('connecting')}</p></main>`}
    ${settings && html`<${Settings} desk=${desk} i18n=${i18n} onClose=${() => setSettings(false)} />`}
    <${Toasts} />
  </div>`;
}

/** Receiving guests or not. */
function Status({ desk, i18n }) {
  const { t } = i18n;
  const me = desk.admins.value[desk.me];
  if (!me) return html`<span class="me"></span>`;
  const paused = me.status === 2;
  const change = () => desk.suspend(!paused).catch((error) => explain(error, i18n));
  return html`<div class="me">
    <button type="button" role="switch" class="switch" aria-checked=${paused ? 'false' : 'true'} title=${t(paused ? 'resume' : 'pause')} onClick=${change}>
      <i aria-hidden="true"></i><span>${t(paused ? 'paused' : 'receiving')}</span>
    </button>
    <${Avatar} name=${me.name} url=${me.avatar} id=${me.aix} />
    <span class="me-name">${me.name}</span>
  </div>`;
}

/** Shown when the connection is gone for more than a moment. */
function Banner({ desk, i18n }) {
  const state = desk.connection.state.value;
  const [shown, setShown] = useState(false);
  useEffect(() => {
    if (state === 'ready') return setShown(false);
    const timer = setTimeout(() => setShown(true), 1_200);
    return () => clearTimeout(timer);
  }, [state]);
  return html`<div class="banner-place" role="status">${shown && html`<p class="banner">
    ${i18n.t(desk.loaded.value ? 'lost' : 'connecting')}
    <button type="button" class="link" onClick=${() => desk.connection.reconnect()}>${i18n.t('retry')}</button>
  </p>`}</div>`;
}
