// What a message looks like, by file_type. Everything in it was written by somebody else: texts are text, addresses are
// opened only when they are http or https, pictures are loaded only from where the page may, and any other shape is
// shown as the text it is.

import { html, useEffect, useRef, useState } from '../vendor/ui.js';
import { FILE, IMAGE, ORDER, PRODUCT, VIDEO, VOICE } from './files.js';
import { Icon } from './icons.js';
import { option } from './page.js';

const hosts = option('image-hosts').split(' ');
const LINK = /\bhttps?:\/\/[^\s<>"'，。；！？（）【】「」]*[^\s<>"'，。；！？（）【】「」.,;:!?)\]]/gi;

/** A string or number as text; anything else is none. */
export const str = (value) => (['string', 'number'].includes(typeof value) ? String(value) : '');

/** An http or https address, or null. */
export function safeUrl(value) {
  if (typeof value !== 'string' || !/^https?:\/\//i.test(value)) return null;
  try {
    return new URL(value).href;
  } catch {
    return null;
  }
}

/** An address on this server or one of these, or null. */
function urlFrom(value, origins) {
  const url = safeUrl(value);
  return url && [location.origin, ...origins].includes(new URL(url).origin) ? url : null;
}

/** An address from which this page may show a picture (its policy says so), or null. */
export const pictureUrl = (value) => urlFrom(value, hosts);

const ownUrl = (value) => urlFrom(value, []);

const plain = (msg) => (typeof msg === 'string' ? msg : JSON.stringify(msg));

/** The content of a message. */
export function Body({ message, i18n }) {
  const { msg, file_type, recalled } = message;
  if (recalled) return html`<p class="text recalled">${i18n.t('recalled')}</p>`;
  const fields = typeof msg === 'string' ? { url: msg } : msg;
  const Shown = SHAPES[file_type]?.(fields);
  return Shown ? html`<${Shown} msg=${fields} i18n=${i18n} />` : html`<${Text} text=${plain(msg)} />`;
}

const withUrl = (Shown) => (msg) => safeUrl(msg?.url) && Shown;

const SHAPES = {
  [IMAGE]: withUrl(Picture),
  [VOICE]: withUrl(Voice),
  [VIDEO]: withUrl(Video),
  [FILE]: withUrl(Document),
  [PRODUCT]: (msg) => str(msg?.title) && Product,
  [ORDER]: (msg) => str(msg?.id) && Order,
};

/** One line for a list or a notification. */
export function summary(message, t) {
  if (!message) return '';
  if (message.recalled) return t('recalled');
  const { msg, file_type } = message;
  if (file_type === PRODUCT && str(msg?.title)) return `${t('kind3')} ${str(msg.title)}`;
  if (file_type === FILE && str(msg?.name)) return `${t('kind6')} ${str(msg.name)}`;
  if (file_type === ORDER && str(msg?.id)) return `${t('kind4')} ${str(msg.id)}`;
  return file_type ? t(`kind${file_type}`) : plain(msg);
}

export function Text({ text }) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    parts.push(text.slice(end, match.index), html`<${Link} url=${match[0]}>${match[0]}<//>`);
    end = match.index + match[0].length;
  }
  return html`<p class="text">${parts}${text.slice(end)}</p>`;
}

/** A link out of the chat; what is no safe address is no link. */
export function Link({ url, children, ...rest }) {
  const safe = safeUrl(url);
  if (!safe) return html`<span ...${rest}>${children}</span>`;
  return html`<a href=${safe} target="_blank" rel="noopener noreferrer nofollow" ...${rest}>${children}</a>`;
}

function Picture({ msg, i18n }) {
  const [broken, setBroken] = useState(false);
  const shown = pictureUrl(msg.thumb) ?? pictureUrl(msg.url);
  if (!shown || broken) return html`<${Out} icon="image" url=${msg.url} name=${i18n.t('kind1')} />`;
  const [width, height] = fit(msg.width, msg.height);
  return html`<${Link} url=${msg.url} class="picture" aria-label=${i18n.t('openImage')}>
    <img src=${shown} width=${width} height=${height} alt=${i18n.t('kind1')} loading="lazy" decoding="async"
      onError=${() => setBroken(true)} />
  <//>`;
}

/** The size at which a picture is shown, known before it is loaded, so that nothing jumps. */
function fit(width, height, most = 260) {
  if (!(width > 0 && height > 0)) return [200, 150];
  const scale = Math.min(1, most / width, most / height);
  return [Math.max(40, Math.round(width * scale)), Math.max(40, Math.round(height * scale))];
}

let playing = null;

function Voice({ msg, i18n }) {
  const url = ownUrl(msg.url);
  const audio = useRef(null);
  const [state, setState] = useState({ on: false, at: 0, of: Number(msg.duration_ms) || 0 });
  useEffect(() => () => audio.current?.pause(), []);
  const change = (fields) => setState((old) => ({ ...old, ...fields }));

  function toggle() {
    let player = audio.current;
    if (!player) {
      player = audio.current = new Audio(url);
      player.ontimeupdate = () => change({ at: player.currentTime * 1000 });
      player.onplay = () => change({ on: true });
      player.onpause = () => change({ on: false });
      player.onended = () => change({ on: false, at: 0 });
      player.onerror = () => change({ on: false, broken: true });
      // What was recorded by a browser often does not say how long it is: then it is Infinity.
      player.ondurationchange = () => Number.isFinite(player.duration) && change({ of: player.duration * 1000 });
    }
    if (state.on) return player.pause();
    playing?.pause();
    playing = player;
    player.play().catch(() => change({ on: false, broken: true }));
  }

  if (!url || state.broken) return html`<${Out} icon="mic" url=${msg.url} name=${i18n.t('kind2')} />`;
  return html`<div class="voice">
    <button type="button" class="round" aria-label=${i18n.t(state.on ? 'pause' : 'play')} onClick=${toggle}>
      <${Icon} name=${state.on ? 'pause' : 'play'} />
    </button>
    <progress max=${state.of || 1} value=${Math.min(state.at, state.of)} aria-label=${i18n.t('kind2')}></progress>
    <span class="quiet">${i18n.duration(state.at || state.of)}</span>
  </div>`;
}

function Video({ msg, i18n }) {
  const url = ownUrl(msg.url);
  if (!url) return html`<${Out} icon="video" url=${msg.url} name=${i18n.t('kind5')} />`;
  return html`<video class="video" src=${url} poster=${pictureUrl(msg.poster) ?? undefined} width="260" height="180"
    controls playsinline preload="metadata" aria-label=${i18n.t('kind5')}></video>`;
}

function Document({ msg, i18n }) {
  return html`<${Out} icon="file" url=${msg.url} name=${str(msg.name) || i18n.t('kind6')} note=${i18n.size(msg.size)} />`;
}

/** A card that leads to somewhere else. */
function Out({ icon, url, name, note }) {
  return html`<${Link} url=${url} class="card">
    <span class="card-icon"><${Icon} name=${icon} /></span>
    <span class="card-words"><span class="card-title">${name}</span>${note && html`<span class="quiet">${note}</span>`}</span>
  <//>`;
}

export function Product({ msg, i18n }) {
  return html`<${Link} url=${msg.url} class="card">
    <${CardImage} url=${msg.image} icon="tag" />
    <span class="card-words">
      <span class="card-title">${str(msg.title)}</span>
      ${str(msg.price) && html`<span class="card-price">${i18n.money(msg.price, msg.currency) || str(msg.price)}</span>`}
    </span>
  <//>`;
}

export function Order({ msg, i18n }) {
  const count = Array.isArray(msg.items) ? msg.items.length : Number(msg.items) || 0;
  const total = str(msg.total) && (i18n.money(msg.total, msg.currency) || str(msg.total));
  return html`<${Link} url=${msg.url} class="card">
    <${CardImage} url=${msg.image} icon="box" />
    <span class="card-words">
      <span class="card-title">${str(msg.title) || i18n.t('orderOf', { id: str(msg.id) })}</span>
      <span class="quiet">${[str(msg.title) && str(msg.id), str(msg.status), count > 0 && i18n.t('items', { count })].filter(Boolean).join(' · ')}</span>
      ${total && html`<span class="card-price">${total}</span>`}
    </span>
  <//>`;
}

function CardImage({ url, icon }) {
  const [broken, setBroken] = useState(false);
  const shown = pictureUrl(url);
  if (!shown || broken) return html`<span class="card-icon"><${Icon} name=${icon} /></span>`;
  return html`<img class="card-image" src=${shown} alt="" width="56" height="56" loading="lazy" onError=${() => setBroken(true)} />`;
}
