// Who serves, the place in line, what is wrong, and the end of a conversation.

import { html, useEffect, useState } from '../vendor/ui.js';
import { Icon, Tool } from '../shared/icons.js';
import { pictureUrl, str } from '../shared/kinds.js';
import { tell } from './host.js';
import { tracked } from './tracked.js';

const PATIENCE = 2_500;

/** The question takes the focus once, not at each drawing; what has been answered gives it back to the conversation. */
const focus = (button) => (button ?? document.querySelector('.log'))?.focus();

export const Header = tracked(function Header({ chat, i18n, title }) {
  const { t } = i18n;
  const [asking, setAsking] = useState(false);
  const admin = chat.admin.value;
  const state = chat.state.value;
  const going = ['queued', 'serving'].includes(state);
  const link = chat.link.value;
  const off = useLong(link === 'connecting') || link === 'closed';
  const how = off ? 'off' : chat.typing.value ? 'types' : admin ? 'here' : state === 'ended' ? 'over' : 'away';
  return html`<header>
      <${Face} admin=${admin} here=${admin && !off} />
      <div class="name">
        <h1>${admin?.name || title || t('title')}</h1>
        <p>${t(how)}</p>
      </div>
      ${going && html`<${Tool} icon="out" label=${t('end')} onClick=${() => setAsking(!asking)} />`}
      <${Tool} icon="close" label=${t('close')} onClick=${() => tell('close')} />
    </header>
    ${asking && going && html`<${Ending} chat=${chat} t=${t} done=${() => setAsking(false)} />`}
    <${Bars} chat=${chat} t=${t} off=${off} />`;
});

function Face({ admin, here }) {
  const [broken, setBroken] = useState('');
  const picture = pictureUrl(admin?.avatar);
  return html`<div class=${`face ${here ? 'here' : ''}`} aria-hidden="true">
    ${picture && picture !== broken
      ? html`<img src=${picture} alt="" onError=${() => setBroken(picture)} />`
      : html`<span>${admin ? [...str(admin.name)][0]?.toUpperCase() : html`<${Icon} name="chat" />`}</span>`}
  </div>`;
}

function Ending({ chat, t, done }) {
  return html`<div class="bar" role="group" aria-label=${t('end')}>
    <span>${t('endAsk')}</span>
    <button type="button" class="plain" onClick=${done}>${t('cancel')}</button>
    <button type="button" class="strong" ref=${focus} onClick=${() => {
      done();
      chat.end();
    }}>${t('endYes')}</button>
  </div>`;
}

const Bars = tracked(function Bars({ chat, t, off }) {
  if (chat.link.value === 'closed') {
    return html`<p class="bar bad" role="alert"><span>${t('shut')}</span>
      <button type="button" class="plain" onClick=${() => chat.relogin()}>${t('tryAgain')}</button></p>`;
  }
  const queue = chat.queue.value;
  const place = queue && t(queue.admins_online ? 'place' : 'nobody', { count: queue.position });
  return html`<div role="status">
    ${off && html`<p class="bar bad">${t('down')}</p>`}
    ${!off && place && html`<p class="bar">${place}</p>`}
  </div>`;
});

/** Whether it has been so for some time: short breaks are nobody's business. */
function useLong(now) {
  const [long, setLong] = useState(false);
  useEffect(() => {
    setLong(false);
    const timer = now && setTimeout(() => setLong(true), PATIENCE);
    return () => clearTimeout(timer);
  }, [now]);
  return now && long;
}
