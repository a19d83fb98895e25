// The demo shop. What concerns the chat stands in the functions that call `chat`.
import { currency, find, orders, products, total } from './products.js';

const WORDS = {
  en: {
    products: 'Products', orders: 'My orders', help: 'Help', language: '中文', signIn: 'Sign in', signOut: 'Sign out Gina',
    hero: 'Things that stay', lead: 'A small demo shop. Open the chat at the lower right, ask about a lamp, and answer yourself in the console.',
    ask: 'Ask about this product', buy: 'Add to basket', bought: 'In the basket', back: 'All products', askOrder: 'Ask about this order', items: (n) => (n === 1 ? '1 item' : `${n} items`),
    mustSign: 'Sign in to see your orders. It is a demo: one click, no password.', sent: 'On its way', delivered: 'Delivered', order: 'Order',
    footer: 'Hearth & Oak is a demo shop. Nothing here is for sale.', delivery: 'Delivered in 2 to 4 days', returns: '30 days to send it back', talk: 'People answer the chat',
  },
  'zh-CN': {
    products: '全部商品', orders: '我的订单', help: '联系客服', language: 'English', signIn: '登录', signOut: '退出 Gina',
    hero: '留得住的好物', lead: '这是一家小小的演示商店。点击右下角打开客服窗口，问问吊灯，再到客服工作台自己回答。',
    ask: '咨询这件商品', buy: '加入购物车', bought: '已加入购物车', back: '全部商品', askOrder: '咨询这个订单', items: (n) => `共 ${n} 件`,
    mustSign: '登录后即可查看订单。演示商店：一键登录，无需密码。', sent: '运输中', delivered: '已签收', order: '订单',
    footer: 'Hearth & Oak 是演示商店，商品均不出售。', delivery: '2–4 天送达', returns: '30 天内可退', talk: '人工客服在线答复',
  },
};

const kept = (name, value) => (value === undefined ? sessionStorage.getItem(name) : sessionStorage.setItem(name, value));
let locale = kept('locale') || (/^zh/i.test(navigator.language) ? 'zh-CN' : 'en');
const asked = new URLSearchParams(location.search);
const page = ['product', 'orders'].find((name) => asked.has(name)) || 'list';
let signedIn = kept('signedIn') === 'yes';
const t = (name) => WORDS[locale][name];
const money = (amount) => new Intl.NumberFormat(locale, { style: 'currency', currency }).format(amount);

// Where the server has several groups, the address says which one is the demo's.
if (asked.has('group')) kept('group', asked.get('group'));
if (kept('group')) document.querySelector('script[src$="widget.js"]').dataset.group = kept('group');

// The chat: one array that calls are pushed to, before the widget is there and afterwards.
const chat = (...call) => (window.chatproto = window.chatproto || []).push(call);
const here = (path) => new URL(path, location.href).href;
const card = ({ id, title, image, price }) => ({
  id, title: title[locale], url: here(`?product=${id}`), image: here(image), price, currency,
});
const pieces = (order) => order.items.reduce((sum, [, count]) => sum + count, 0);
const orderCard = (order) => ({
  id: order.id, status: t(order.status), url: here('?orders'), image: here(find(order.items[0][0]).image),
  total: total(order), currency, items: pieces(order),
});

/** The shop's server signs who its customer is; the widget asks anew whenever it needs a token. */
async function token() {
  const answer = await fetch('token', { method: 'POST' });
  return (await answer.text()).trim();
}

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'click') element.addEventListener('click', value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const picture = (product, className) =>
  el('img', { src: product.image, alt: '', class: className, width: 480, height: 480 });

const pages = {
  list: () => [
    el('section', { class: 'hero' }, el('h1', {}, t('hero')), el('p', {}, t('lead'))),
    el('section', { class: 'grid' }, ...products.map((product) =>
      el('a', { class: 'tile', href: `?product=${product.id}` }, picture(product, ''),
        el('h2', {}, product.title[locale]), el('p', { class: 'price' }, money(product.price))))),
  ],
  product: () => {
    const product = find(asked.get('product'));
    chat('setContext', { product: card(product) });
    document.title = `${product.title[locale]} – Hearth & Oak`;
    const buy = el('button', { type: 'button', class: 'main', click: () => (buy.textContent = t('bought')) }, t('buy'));
    return [
      el('a', { class: 'back', href: './' }, `← ${t('back')}`),
      el('article', { class: 'product' }, picture(product, 'large'), el('div', {},
        el('h1', {}, product.title[locale]), el('p', { class: 'price' }, money(product.price)),
        el('p', { class: 'lead' }, product.text[locale]),
        el('div', { class: 'buttons' }, buy, el('button', { type: 'button', class: 'second', click: () => {
          chat('sendProduct', card(product));
          chat('open');
        } }, t('ask'))),
        el('ul', { class: 'facts' }, ...['delivery', 'returns', 'talk'].map((name) => el('li', {}, t(name)))))),
    ];
  },
  orders: () => [
    el('h1', { class: 'top' }, t('orders')),
    ...(signedIn ? orders.map((order) => el('article', { class: 'order' },
      el('div', { class: 'pictures' }, ...order.items.map(([id]) => picture(find(id), 'small'))),
      el('div', { class: 'grow' }, el('h2', {}, `${t('order')} ${order.id}`),
        el('p', {}, new Intl.DateTimeFormat(locale, { dateStyle: 'long' }).format(new Date(order.day)), ' · ',
          t('items')(pieces(order)), ' · ', money(total(order)))),
      el('span', { class: `status ${order.status}` }, t(order.status)),
      el('button', { type: 'button', class: 'second', click: () => {
        chat('sendOrder', orderCard(order));
        chat('open');
      } }, t('askOrder'))))
      : [el('p', { class: 'empty' }, t('mustSign')), el('button', { type: 'button', class: 'main', click: acts.sign }, t('signIn'))]),
  ],
};

const acts = {
  ask: () => chat('open'),
  language() {
    locale = locale === 'en' ? 'zh-CN' : 'en';
    kept('locale', locale);
    draw();
    chat('setLocale', locale);
  },
  sign() {
    signedIn = !signedIn;
    kept('signedIn', signedIn ? 'yes' : 'no');
    if (signedIn) chat('setUser', token);
    else chat('reset');
    draw();
  },
};

function draw() {
  document.documentElement.lang = locale;
  document.querySelectorAll('[data-t]').forEach((element) => (element.textContent = t(element.dataset.t)));
  document.querySelector('[data-act=sign]').textContent = t(signedIn ? 'signOut' : 'signIn');
  document.querySelector('main').replaceChildren(...pages[page]());
}

document.querySelectorAll('[data-act]').forEach((element) => element.addEventListener('click', () => acts[element.dataset.act]()));
chat('setLocale', locale);
if (signedIn) chat('setUser', token);
draw();
