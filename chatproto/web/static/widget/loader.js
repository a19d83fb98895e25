/*! chatproto widget loader: docs/widget.md */
(() => {
  'use strict';
  const script = document.currentScript || document.querySelector('script[src*="/widget.js"]');
  const early = window.chatproto;
  if (!script || (early && !Array.isArray(early))) return; // it is here already
  const { dataset } = script;
  const base = new URL('.', script.src);
  const key = `chatproto${dataset.group ? `.${dataset.group}` : ''}`;
  const WORDS = {
    en: { open: 'Open chat', close: 'Close chat', title: 'Chat', unread: (n) => `${n} unread`, wait: 'Connecting…', gone: 'The chat cannot be reached. Trying again…' },
    'zh-CN': { open: '打开客服窗口', close: '关闭客服窗口', title: '在线客服', unread: (n) => `${n} 条未读`, wait: '正在连接…', gone: '暂时无法连接客服，正在重试…' },
  };
  const STICKY = ['ready', 'unread', 'agent', 'state', 'queue']; // told to late listeners too
  const CSS = `
:host{all:initial}
*{box-sizing:border-box}
button{all:unset;box-sizing:border-box;cursor:pointer;position:fixed;z-index:2147483001;bottom:var(--bottom);right:var(--side);width:56px;height:56px;border-radius:50%;background:var(--accent);color:var(--on-accent);box-shadow:0 1px 4px #0003,0 8px 24px #0003;display:grid;place-items:center;transition:transform .15s}
button:hover{transform:scale(1.06)}
button:focus-visible{outline:3px solid var(--accent);outline-offset:3px}
svg{width:26px;height:26px;fill:none;stroke:currentColor;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
span{position:absolute;top:-4px;right:-4px;min-width:22px;height:22px;padding:0 6px;border-radius:11px;background:#d92d20;color:#fff;font:600 12px/22px system-ui,sans-serif;text-align:center}
section{position:fixed;z-index:2147483000;bottom:calc(var(--bottom) + 72px);right:var(--side);width:384px;height:min(660px,100dvh - var(--bottom) - 92px);border-radius:16px;overflow:hidden;background:#fff;color:#555;box-shadow:0 0 0 1px #00000014,0 16px 48px #00000038;transform-origin:bottom right;transition:.18s cubic-bezier(.2,.8,.3,1);transition-property:opacity,transform,visibility}
.dark{background:#16181d;color:#aaa;box-shadow:0 0 0 1px #ffffff1f,0 16px 48px #0008}
.left{right:auto;left:var(--side);transform-origin:bottom left}
.shut{visibility:hidden;opacity:0;transform:translateY(12px) scale(.97)}
p{position:absolute;inset:45% 32px auto;margin:0;text-align:center;font:15px/1.5 system-ui,sans-serif}
iframe{position:absolute;inset:0;width:100%;height:100%;border:0;opacity:0;color-scheme:normal}
.up iframe{opacity:1}
[hidden]{display:none}
@media(max-width:479.9px){section{inset:0;width:auto;height:var(--height,100dvh);border-radius:0}.over{display:none}}
@media(prefers-reduced-motion:reduce){*{transition:none!important}}`;

  const life = new AbortController(); // destroy ends it, and with it every listener
  const hear = (target, name, f) => target.addEventListener(name, f, { signal: life.signal });
  const listeners = {};
  const last = {};
  const phone = matchMedia('(max-width:479.9px)');
  let locale, words, host, panel, note, launcher, badge;
  let frame, port, up, watch, opener, user, context = {}, waiting = [];
  let used, release, opened = false, shown = dataset.launcher !== 'hidden', unread = 0;

  // What is kept: the guest's token and a few marks, and what was written but not yet sent.
  const memory = {};
  const read = (name) => {
    try {
      return JSON.parse(localStorage.getItem(name)) || {};
    } catch {
      return memory[name] || {};
    }
  };
  const write = (name, value) => {
    memory[name] = value;
    try {
      localStorage.setItem(name, JSON.stringify(value));
    } catch {} // forbidden or full
  };
  const forget = () => [key, `${key}.outbox`].forEach((name) => {
    delete memory[name];
    try {
      localStorage.removeItem(name);
    } catch {}
  });
  const tab = (value) => {
    try {
      return value === undefined ? sessionStorage[key] : (sessionStorage[key] = value);
    } catch {}
  };

  const emit = (name, detail) => {
    if (STICKY.includes(name)) last[name] = [detail];
    (listeners[name] || []).forEach((f) => call(f, detail));
  };
  const call = (f, detail) => {
    try {
      f(detail);
    } catch (error) {
      setTimeout(() => { throw error; }); // a fault of the page's: it shows in the console
    }
  };

  const post = (...words) => {
    if (up) port.postMessage(words);
  };

  // Credentials. Without any, one tab at a time: the first makes the guest, the others find its token.
  const alone = (work) => {
    const byStorage = async () => {
      const mine = Math.random();
      const lock = `${key}.lock`;
      for (;;) {
        if (!(read(lock).until > Date.now())) write(lock, { mine, until: Date.now() + 9000 });
        await new Promise((done) => setTimeout(done, 100));
        if (read(lock).mine === mine) break;
      }
      await work();
      localStorage.removeItem(lock);
    };
    (navigator.locks ? navigator.locks.request(key, work) : Promise.reject()).catch(byStorage).catch(() => {});
  };
  const logIn = async () => {
    const to = port;
    let token;
    try {
      token = typeof user === 'function' ? await user() : user;
    } catch (error) {
      return emit('error', { code: 0, message: String(error) });
    }
    const answer = () => {
      used = read(key).token;
      if (token && peers) peers.postMessage(token);
      to.postMessage(['credentials', { token, guest_token: used }]);
    };
    if (token || read(key).token) return answer();
    alone(() => new Promise((done) => {
      // Other processes see what was stored a moment later.
      release = () => setTimeout(done, 200);
      setTimeout(done, 9000);
      answer();
    }));
  };
  const peers = window.BroadcastChannel && new BroadcastChannel(key);
  if (peers) peers.onmessage = ({ data }) => { if (!user) setUser(data); }; // signed in in another tab

  // The frame.
  const where = () => ({ page_url: location.href.split('#')[0].slice(0, 2048), title: document.title.slice(0, 200), referrer: document.referrer.slice(0, 2048), ...context });
  const load = () => {
    if (frame) return;
    const mine = frame = make('iframe', { title: words.title, allow: 'microphone; clipboard-write', src: `${base}frame` }, panel);
    const fail = () => {
      if (mine !== frame) return;
      say('gone');
      unload();
      load();
    };
    watch = setTimeout(fail, 12000);
    mine.onload = () => {
      const { port1, port2 } = new MessageChannel();
      port = port1;
      port.onmessage = ({ data: [name, ...rest] }) => mine === frame && news[name]?.(...rest);
      const { group, theme, title, greeting } = dataset;
      const kept = { mark: read(key), outbox: read(`${key}.outbox`) };
      const start = { locale, group: +group || undefined, theme, title, greeting, accent, onAccent, opened, context: where(), kept };
      mine.contentWindow.postMessage({ chatproto: start }, base.origin, [port2]);
    };
  };
  const unload = () => {
    clearTimeout(watch);
    panel.classList.remove('up');
    frame?.remove();
    port?.close();
    frame = port = up = used = undefined;
  };
  const news = {
    up() {
      clearTimeout(watch);
      up = true;
      panel.classList.add('up');
      note.hidden = true;
      post('opened', opened);
      waiting.splice(0).forEach((words) => post(...words));
      if (opened && panel.contains(frame) && focused()) frame.focus();
    },
    login: logIn,
    in(token) {
      used = token;
      write(key, { ...read(key), token });
      release?.();
    },
    refused(token) { // unknown or revoked
      if (read(key).token === token) write(key, {});
      release?.();
    },
    mark: (mark) => write(key, { ...read(key), ...mark }),
    outbox(cmid, entry) {
      const all = read(`${key}.outbox`);
      if (entry) all[cmid] = entry;
      else delete all[cmid];
      write(`${key}.outbox`, all);
    },
    user(token) { // renewed by the server
      if (typeof user !== 'function') user = token;
    },
    event(name, detail) {
      if (name === 'unread') {
        unread = detail;
        label();
      }
      emit(name, detail);
    },
    close: () => commands.close(),
  };

  // What is seen.
  const make = (tag, attributes, parent) => {
    const element = tag === 'svg' || tag === 'path' ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    parent?.append(element);
    return element;
  };
  const say = (word) => {
    note.hidden = false;
    note.textContent = words[word];
  };
  const focused = () => host.shadowRoot.activeElement || document.activeElement === document.body;
  const label = () => {
    badge.hidden = !unread || opened;
    badge.textContent = unread > 99 ? '99+' : unread;
    launcher.hidden = !shown;
    launcher.classList.toggle('over', opened);
    launcher.setAttribute('aria-label', opened ? words.close : unread ? `${words.open} (${words.unread(unread)})` : words.open);
    launcher.setAttribute('aria-expanded', opened);
    panel.classList.toggle('shut', !opened);
    panel.setAttribute('aria-label', words.title);
    icon.setAttribute('d', opened ? 'M6 9l6 6 6-6' : 'M21 11.5a8.5 8.5 0 0 1-12.4 7.6L3 21l1.9-5.6A8.5 8.5 0 1 1 21 11.5z');
  };
  const fit = () => { // what the keyboard of a phone leaves
    const view = window.visualViewport;
    if (view) panel.style.setProperty('--height', phone.matches && view.scale === 1 ? `${view.height}px` : '');
  };
  const accent = /^#[0-9a-f]{6}$/i.test(dataset.accent) ? dataset.accent : '#2457d6';
  const light = (at) => (parseInt(accent.slice(at, at + 2), 16) / 255) ** 2.2;
  const onAccent = 0.2126 * light(1) + 0.7152 * light(3) + 0.0722 * light(5) > 0.2 ? '#111' : '#fff';
  let icon;

  const setUser = (token) => {
    user = token || undefined;
    post('relogin');
  };
  const send = (kind) => (msg) => {
    const words = ['send', kind, msg];
    if (up) post(...words);
    else waiting.push(words);
    load();
  };
  const open = (steal) => {
    if (opened) return;
    opener = host.shadowRoot.activeElement || document.activeElement;
    opened = true;
    tab(1);
    fit();
    label();
    if (!up) say('wait');
    load();
    if (steal) frame.focus();
    post('opened', true, where());
    emit('open');
  };
  const commands = {
    open: () => open(true),
    close() {
      if (!opened) return;
      const back = focused() && opener;
      opened = false;
      tab('');
      label();
      post('opened', false);
      if (back) (back === document.body || !back.isConnected ? launcher : back).focus();
      emit('close');
    },
    toggle: () => commands[opened ? 'close' : 'open'](),
    showLauncher() {
      shown = true;
      label();
    },
    hideLauncher() {
      shown = false;
      label();
    },
    setUser,
    setContext(value) {
      context = value || {};
      post('context', where());
    },
    sendProduct: send(3),
    sendOrder: send(4),
    setLocale(tag) {
      locale = /^zh/i.test(tag) ? 'zh-CN' : 'en';
      words = WORDS[locale];
      label();
      post('locale', locale);
    },
    reset() {
      commands.close();
      post('reset'); // it logs out and is gone
      const old = frame;
      if (up) setTimeout(() => old.remove(), 2000);
      if (up) frame = undefined;
      unload();
      forget();
      user = undefined;
      waiting = [];
      news.event('unread', 0);
      emit('reset');
    },
    destroy() {
      life.abort();
      release?.();
      peers?.close();
      unload();
      host.remove();
      if (window.chatproto === sdk) delete window.chatproto;
    },
    on(name, f) {
      (listeners[name] ||= []).push(f);
      if (last[name]) call(f, ...last[name]);
    },
  };
  const sdk = {
    push(...calls) {
      for (const [name, ...rest] of calls) {
        if (life.signal.aborted) return;
        if (Object.hasOwn(commands, name)) commands[name](...rest);
        else console.warn(`chatproto: no command "${name}"`);
      }
    },
  };

  const start = () => {
    host = make('chatproto-widget', {}, document.body);
    const root = host.attachShadow({ mode: 'open' });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    const dark = dataset.theme === 'dark' || (dataset.theme !== 'light' && matchMedia('(prefers-color-scheme:dark)').matches);
    const side = dataset.position === 'left' ? 'left' : '';
    panel = make('section', { role: 'dialog', class: `shut ${side} ${dark ? 'dark' : ''}` }, root);
    note = make('p', { role: 'status', hidden: '' }, panel);
    launcher = make('button', { class: side, 'aria-haspopup': 'dialog' }, root);
    icon = make('path', {}, make('svg', { viewBox: '0 0 24 24', 'aria-hidden': true }, launcher));
    badge = make('span', { 'aria-hidden': true }, launcher);
    host.style.cssText = `--accent:${accent};--on-accent:${onAccent};--bottom:calc(var(--chatproto-bottom,20px) + env(safe-area-inset-bottom,0px));--side:var(--chatproto-side,20px)`;
    commands.setLocale(dataset.locale || document.documentElement.lang || navigator.language);
    hear(launcher, 'click', commands.toggle);
    hear(root, 'keydown', ({ key }) => key === 'Escape' && commands.close());
    hear(window, 'storage', (event) => {
      if (event.key && event.key !== key) return;
      const { token } = read(key);
      if (!used || user || token === used) return;
      if (token) post('relogin');
      else commands.reset(); // forgotten in another tab
    });
    hear(window, 'online', () => up || !frame || (unload(), load()));
    if (window.visualViewport) hear(visualViewport, 'resize', fit);
    if (window.navigation) hear(navigation, 'navigatesuccess', () => post('context', where()));
    window.chatproto = sdk;
    emit('ready');
    sdk.push(...(early || []));
    if (life.signal.aborted) return;
    if (dataset.open === 'true' || (tab() && !phone.matches)) open();
    else if (read(key).seen || dataset.connect === 'always') (window.requestIdleCallback || setTimeout)(() => life.signal.aborted || load());
  };
  if (document.body) start();
  else hear(document, 'DOMContentLoaded', start);
})();
