// What is known of the guest.

import { html } from '../vendor/ui.js';
import { ORDER, PRODUCT } from '../shared/files.js';
import { Tool } from '../shared/icons.js';
import { Link, Order, Product, safeUrl, str } from '../shared/kinds.js';
import { Avatar, nameOf } from './parts.js';

export function GuestPanel({ entry, desk, i18n, onClose }) {
  const { t } = i18n;
  const { context = {}, profile = {} } = entry;
  const product = object(context.product);
  const order = object(context.order);
  const facts = Object.entries(object(profile) ?? {}).map(([key, value]) => [key, plain(value)]).filter(([, value]) => value);
  const name = nameOf(entry, i18n);
  const may = entry.state !== 'away' && (entry.state !== 'serving' || entry.admin_id === desk.me);
  const nothing = !facts.length && !str(context.page_url) && !str(context.title) && !product && !order;
  return html`<aside class="guest" aria-label=${t('details')}>
    <header>
      <${Tool} class="close" icon="close" label=${t('closeDetails')} onClick=${onClose} />
      <${Avatar} name=${name} url=${entry.avatar} id=${entry.gid} online=${entry.online} />
      <h2><bdi>${name}</bdi></h2>
      <p class="quiet">${entry.external_id ? t('customer', { id: entry.external_id }) : t('anonymous')}</p>
    </header>
    ${(str(context.page_url) || str(context.title)) && html`<section>
      <h3>${t('page')}</h3>
      <p><${Link} url=${context.page_url}>${str(context.title) || shortUrl(context.page_url)}<//></p>
      ${str(context.referrer) && html`<p class="quiet">${t('from')} <${Link} url=${context.referrer}>${shortUrl(context.referrer)}<//></p>`}
    </section>`}
    ${product && str(product.title) && html`<section><h3>${t('product')}</h3><${Product} msg=${product} i18n=${i18n} />
      ${may && html`<button type="button" class="link" onClick=${() => desk.send(entry.gid, product, PRODUCT)}>${t('sendThis')}</button>`}</section>`}
    ${order && str(order.id) && html`<section><h3>${t('order')}</h3><${Order} msg=${order} i18n=${i18n} />
      ${may && html`<button type="button" class="link" onClick=${() => desk.send(entry.gid, order, ORDER)}>${t('sendThis')}</button>`}</section>`}
    ${facts.length > 0 && html`<section><h3>${t('profile')}</h3><dl>
      ${facts.map(([key, value]) => html`<div key=${key}><dt>${key}</dt><dd>${safeUrl(value) ? html`<${Link} url=${value}>${shortUrl(value)}<//>` : value}</dd></div>`)}
    </dl></section>`}
    ${nothing && html`<p class="quiet">${t('nothingKnown')}</p>`}
  </aside>`;
}

const object = (value) => (value && typeof value === 'object' && !Array.isArray(value) ? value : null);

const plain = (value) => (value === null || value === undefined ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value)).slice(0, 500);

function shortUrl(value) {
  const url = safeUrl(value);
  if (!url) return str(value);
  const { host, pathname } = new URL(url);
  return `${host}${pathname === '/' ? '' : pathname}`.slice(0, 80);
}
