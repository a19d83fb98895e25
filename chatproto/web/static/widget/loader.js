// The loader, which a shop's page includes (docs/widget.md): a bubble in a shadow root, the frame when it is needed,
// and the SDK. A classic script without imports; the build makes it small.
(() => {
  const script = document.currentScript || document.querySelector('script[src*="/widget.js"]');
  const early = window.chatproto;
  if (!script || (early && !Array.isArray(early))) return; // it is here already
  const { dataset } = script;
  const base = new URL('.', script.src);
  const key = dataset.group ? `chatproto.${dataset.group}` : 'chatproto';
  const outbox = `${key}.outbox`;
  const WORDS = {
    en: ['Chat', 'Open chat', 'Close chat', (n) => `, ${n} unread`, 'Connecting…', 'The chat cannot be reached. Trying again…'],
    'zh-CN': ['在线客服', '打开客服窗口', '关闭客服窗口', (n) => `，${n} 条未读`, '正在连接…', '暂时无法连接客服，正在重试…'],
  };
  const TITLE = 0, OPEN = 1, CLOSE = 2, UNREAD = 3, WAIT = 4, GONE = 5;
  const STICKY = ['ready', 'unread', 'agent', 'state', 'queue']; // told to late listeners, too
  const CSS = `:host{all:initial}
*{box-sizing:border-box}
button{all:unset;position:fixed;z-index:2147483001;bottom:var(--bottom);right:var(--side);width:56px;height:56px;border-radius:50%;background:var(--accent);color:var(--on-accent);box-shadow:0 6px 20px #0004;display:grid;place-items:center;cursor:pointer;transition:transform .15s}
button:hover{transform:scale(1.06)}
button:focus-visible{outline:3px solid var(--accent);outline-offset:3px}
svg{width:26px;fill:none;stroke:currentColor;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
span{position:absolute;top:-4px;right:-4px;min-width:22px;padding:0 6px;border-radius:11px;background:#d92d20;color:#fff;font:600 12px/22px system-ui,sans-serif;text-align:center}
section{position:fixed;z-index:2147483000;bottom:calc(var(--bottom) + 72px);right:var(--side);width:384px;height:min(660px,100dvh - var(--bottom) - 92px);border-radius:16px;overflow:hidden;background:Canvas;color:CanvasText;box-shadow:0 0 0 1px #8883,0 16px 48px #0004;transition:opacity .16s,transform .16s}
.left{right:auto;left:var(--side)}
.shut{visibility:hidden;opacity:0;transform:translateY(12px);transition:.16s,visibility 0s .16s}
p{position:absolute;inset:45% 32px auto;margin:0;text-align:center;font:15px/1.5 system-ui,sans-serif}
iframe{position:absolute;inset:0;width:100%;height:100%;border:0;opacity:0}
.up iframe{opacity:1}
.up p,[hidden]{display:none}
@media(max-width:479.9px){section{inset:0;width:auto;height:var(--height,100dvh);border-radius:0}.over{display:none}}
@media(prefers-reduced-motion:reduce){*{transition:none!important}}`;

  const life = new AbortController(); // destroy ends it, and with it every listener
  const hear = (target, name, f) => target?.addEventListener(name, f, { signal: life.signal });
  const listeners = {};
  const told = {};
  const phone = matchMedia('(max-width:479.9px)');
  let locale, words, host, panel, note, launcher, icon, badge;
  let frame, port, up, watch, opener, user, used, release;
  let context = {}, waiting = [], opened = false, shown = dataset.launcher !== 'hidden', unread = 0;

  // What is kept in the shop's storage; where that is forbidden, for as long as the page lives.
  const memory = {};
  const keep = (name, value, area = 'localStorage') => {
    try {
      const storage = window[area];
      if (value) storage.setItem(name, JSON.stringify(value));
      else if (value === undefined) return JSON.parse(storage.getItem(name)) || {};
      else storage.removeItem(name);
    } catch {
      if (value === undefined) return memory[name] || {};
      memory[name] = value;
    }
  };
  const mark = (change) => keep(key, { ...keep(key), ...change });

  const call = (f, detail) => {
    try {
      f(detail);
    } catch (error) {
      setTimeout(() => { throw error; }); // a fault of the page's: it shows in the console
    }
  };
  const emit = (name, detail) => {
    if (STICKY.includes(name)) told[name] = [detail];
    listeners[name]?.forEach((f) => call(f, detail));
  };
  const post = (...words) => up && port.postMessage(words);

  // Who the guest is. Where nobody knows, one tab at a time asks: the first makes the guest, the others find its token.
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const alone = async (work) => {
    try {
      await navigator.locks.request(key, work);
    } catch { // no https, or forbidden
      const lock = `${key}.lock`, mine = Math.random();
      while (keep(lock).mine !== mine) {
        if (!(keep(lock).until > Date.now())) keep(lock, { mine, until: Date.now() + 9000 });
        await pause(99);
      }
      await work();
      keep(lock, null);
    }
  };
  const logIn = async () => {
    const to = port;
    let token;
    release?.();
    try {
      token = typeof user === 'function' ? await user() : user;
    } catch (error) {
      emit('error', { code: 0, message: String(error) });
      return to.postMessage(['later']);
    }
    const answer = () => {
      used = keep(key).token;
      if (token) peers?.postMessage(token);
      to.postMessage(['credentials', token, used]);
    };
    if (token || keep(key).token) return answer();
    alone(() => {
      answer();
      // Other processes see what was stored a moment after it.
      return Promise.race([pause(9000), new Promise((done) => { release = () => pause(200).then(done); })]);
    });
  };
  const peers = window.BroadcastChannel && new BroadcastChannel(key);
  // Signed in, in another tab, or out.
  if (peers) peers.onmessage = ({ data }) => (data ? user || commands.setUser(data) : forget());

  // The frame.
  const where = () => ({
    page_url: location.href.split('#')[0].slice(0, 1024), title: document.title.slice(0, 200), referrer: document.referrer.slice(0, 1024), ...context,
  });
  const load = () => {
    if (frame) return;
    const mine = frame = make(panel, 'iframe', { title: words[TITLE], allow: 'microphone; clipboard-write', src: `${base}frame` });
    watch = setTimeout(() => {
      unload();
      note.textContent = words[GONE];
      load();
    }, 12000);
    mine.onload = () => {
      const channel = new MessageChannel();
      port = channel.port1;
      port.onmessage = ({ data: [name, ...rest] }) => mine === frame && news[name]?.(...rest);
      const { group, theme, title, greeting } = dataset;
      const chatproto = { locale, group, theme, title, greeting, accent, onAccent, context: where(), mark: keep(key), outbox: keep(outbox) };
      mine.contentWindow.postMessage({ chatproto }, base.origin, [channel.port2]);
    };
  };
  const unload = () => {
    clearTimeout(watch);
    panel.classList.remove('up');
    frame?.remove();
    port?.close();
    release?.();
    frame = port = up = used = undefined;
  };
  const news = {
    up() {
      clearTimeout(watch);
      up = true;
      panel.classList.add('up');
      const focus = opened && !!inside();
      if (focus) frame.focus();
      post('opened', opened, focus);
      waiting.splice(0).forEach((words) => post(...words));
    },
    login: logIn,
    in(token) {
      used = token;
      mark({ token });
      release?.();
    },
    refused(token) { // unknown or revoked
      if (keep(key).token === token) mark({ token: '' });
      release?.();
    },
    mark,
    outbox: (name, entry) => keep(outbox, { ...keep(outbox), [name]: entry }),
    user(token) { // renewed by the server
      if (typeof user !== 'function') user = token;
    },
    event(name, detail) {
      if (name === 'unread') unread = detail;
      label();
      emit(name, detail);
    },
    close: () => commands.close(),
  };

  // What is seen.
  const make = (parent, tag, attributes) => {
    const element = document.createElementNS(`http://www.w3.org/${/svg|path/.test(tag) ? '2000/svg' : '1999/xhtml'}`, tag);
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    return parent.appendChild(element);
  };
  const inside = () => host.shadowRoot.activeElement;
  const label = () => {
    badge.hidden = !unread || opened;
    badge.textContent = unread > 99 ? '99+' : unread;
    launcher.hidden = !shown;
    launcher.classList.toggle('over', opened);
    launcher.ariaLabel = opened ? words[CLOSE] : words[OPEN] + (unread ? words[UNREAD](unread) : '');
    launcher.ariaExpanded = opened;
    panel.classList.toggle('shut', !opened);
    panel.ariaLabel = words[TITLE];
    icon.setAttribute('d', opened ? 'M6 9l6 6 6-6' : 'M21 11.5a8.5 8.5 0 0 1-12.4 7.6L3 21l1.9-5.6A8.5 8.5 0 1 1 21 11.5z');
  };
  const show = (now) => {
    shown = now;
    label();
  };
  const fit = () => { // what the keyboard of a phone leaves
    const view = window.visualViewport;
    panel.style.setProperty('--height', view && phone.matches && view.scale === 1 ? `${view.height}px` : '');
  };
  const accent = /^#[\da-f]{6}$/i.test(dataset.accent) && dataset.accent;
  const light = (at) => (parseInt(accent.slice(at, at + 2), 16) / 255) ** 2.2;
  const onAccent = accent && 0.21 * light(1) + 0.72 * light(3) + 0.07 * light(5) > 0.2 ? '#111' : '#fff';

  const send = (kind) => (msg) => {
    const words = ['send', kind, msg];
    if (up) post(...words);
    else waiting.push(words);
    load();
  };
  const open = (focus) => {
    if (opened) return;
    opener = inside() || document.activeElement;
    opened = true;
    keep(key, 1, 'sessionStorage');
    fit();
    label();
    note.textContent = words[WAIT];
    load();
    if (focus) frame.focus();
    post('context', where());
    post('opened', true, !!focus);
    emit('open');
  };
  const forget = () => {
    commands.close();
    post('reset');
    user = context = undefined;
    waiting = [];
    [key, outbox].forEach((name) => keep(name, null));
    const old = frame;
    if (up) { // it logs out, and goes
      setTimeout(() => old.remove(), 2000);
      frame = undefined;
    }
    unload();
    news.event('unread', 0);
    emit('reset');
  };
  const commands = {
    open: () => open(true),
    close() {
      if (!opened) return;
      const back = inside() && opener;
      opened = false;
      keep(key, null, 'sessionStorage');
      label();
      post('opened', false);
      if (back) (back.isConnected && back !== document.body ? back : launcher).focus();
      emit('close');
    },
    toggle: () => commands[opened ? 'close' : 'open'](),
    showLauncher: () => show(true),
    hideLauncher: () => show(false),
    setUser(token) {
      user = token;
      post('relogin');
    },
    setContext(value) {
      context = value;
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
      peers?.postMessage('');
      forget();
    },
    destroy() {
      commands.close(); // or the next page would open it by itself
      life.abort();
      peers?.close();
      unload();
      host.remove();
      delete window.chatproto;
    },
    on(name, f) {
      (listeners[name] ||= []).push(f);
      if (told[name]) call(f, ...told[name]);
    },
  };
  const sdk = {
    push(...calls) {
      for (const [name, ...rest] of calls) {
        if (life.signal.aborted) return;
        if (Object.hasOwn(commands, name)) commands[name](...rest);
        else console.warn(`chatproto: there is no "${name}"`);
      }
    },
  };

  const start = () => {
    host = make(document.body, 'chatproto-widget');
    const root = host.attachShadow({ mode: 'open' });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    const scheme = { light: 'light', dark: 'dark' }[dataset.theme] || 'light dark';
    host.style.cssText = `color-scheme:${scheme};--accent:${accent || 'color-mix(in srgb,#286cff 92%,CanvasText)'};--on-accent:${onAccent};--bottom:calc(var(--chatproto-bottom,20px) + env(safe-area-inset-bottom,0px));--side:var(--chatproto-side,20px)`;
    const side = dataset.position === 'left' ? 'left' : '';
    panel = make(root, 'section', { role: 'dialog', class: side });
    note = make(panel, 'p', { role: 'status' });
    launcher = make(root, 'button', { class: side, 'aria-haspopup': 'dialog' });
    icon = make(make(launcher, 'svg', { viewBox: '0 0 24 24' }), 'path');
    badge = make(launcher, 'span');
    commands.setLocale(dataset.locale || document.documentElement.lang || navigator.language);
    hear(launcher, 'click', commands.toggle);
    hear(root, 'keydown', (event) => event.key === 'Escape' && commands.close());
    hear(window, 'storage', (event) => {
      const { token } = keep(key);
      if (event.key && event.key !== key || !used || user || token === used) return;
      if (token) post('relogin');
      else forget(); // in another tab
    });
    hear(window, 'online', () => {
      if (up || !frame) return;
      unload();
      load();
    });
    hear(window.visualViewport, 'resize', fit);
    hear(window.navigation, 'navigatesuccess', () => post('context', where()));
    window.chatproto = sdk;
    emit('ready');
    sdk.push(...(early || []));
    if (life.signal.aborted) return;
    if (dataset.open === 'true' || (keep(key, undefined, 'sessionStorage') === 1 && !phone.matches)) open();
    else {
      setTimeout(() => {
        if (!life.signal.aborted && (keep(key).seen || dataset.connect === 'always')) load();
      }, 500);
    }
  };
  if (document.body) start();
  else hear(document, 'DOMContentLoaded', start);
})();
