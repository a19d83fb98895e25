// The messages of a conversation on the screen: days, groups, read marks, what is being sent, older ones on scrolling up.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from '../vendor/ui.js';
import { ahead } from './connection.js';
import { midnight } from './i18n.js';
import { Icon, Tool } from './icons.js';
import { Body } from './kinds.js';
import { RECALL_WITHIN } from './page.js';

const GROUP = 180_000;
const NEAR = 60;
const FIRST = 100;
const MORE = 100;
const DAY = 86_400_000;

/**
 * @param {object[]} messages message_info, by seq; also {note, at, key}: a line between them
 * @param {object[]} pending of the outbox and of uploads, where they failed also with why: a word
 * @param {(message: object) => boolean} mine
 * @param {number} readSeq how far the other side has read
 * @param {boolean} older there are older ones; onOlder fetches them; loading: that is under way
 * @param {(seq: number) => void} onSeen everything up to here was in view, of somebody who is there; a page without it
 *   does not ask whether it has the focus, which a frame has only after a click
 * @param {(message: object) => unknown} who a name to show above a group of messages, or nothing
 * @param {(message: object) => unknown} actions buttons beside a message
 * @param {unknown} ending what stands below the last message, such as that somebody is typing
 */
export function Log({ i18n, messages: all, pending, mine, readSeq, older, loading, onOlder, onSeen, who, actions, outbox, ending }) {
  const box = useRef(null);
  const inner = useRef(null);
  const view = useRef({ bottom: true, height: 0, seen: 0 });
  const drawn = useRef(new Map());
  const [below, setBelow] = useState(0);
  const [, tick] = useState(0);
  // Of a long conversation only the end is drawn, until somebody scrolls up.
  const [from, setFrom] = useState(() => (all.length > FIRST + MORE ? all.at(-FIRST).seq : null));
  const messages = useMemo(() => (from === null ? all : all.slice(all.findIndex(({ seq }) => seq === from))), [all, from]);
  const rows = useMemo(() => arrange(messages, pending, mine), [messages, pending]);
  const last = messages.findLast(({ seq }) => seq !== undefined);
  const lastRead = useMemo(() => messages.findLast((one) => one.seq <= readSeq && mine(one))?.seq, [messages, readSeq]);

  const toBottom = () => {
    box.current.scrollTop = box.current.scrollHeight;
    view.current.bottom = true;
  };
  const look = () => {
    if (!view.current.bottom || !last || document.visibilityState !== 'visible' || (onSeen && !document.hasFocus())) return;
    setBelow(0);
    view.current.seen = last.seq;
    onSeen?.(last.seq);
  };

  // After each change: stay where the reader was. Older ones came above: keep the distance to the end.
  useLayoutEffect(() => {
    const now = view.current;
    const element = box.current;
    const first = rows.find((row) => row.message?.seq)?.key;
    const own = pending.at(-1)?.cmid;
    if (own !== now.own && own) now.bottom = true;
    now.own = own;
    if (now.bottom) toBottom();
    else if (first !== now.first && now.first !== undefined) element.scrollTop += element.scrollHeight - now.height;
    now.first = first;
    now.height = element.scrollHeight;
  }, [rows, ending, loading]);

  useEffect(() => {
    if (view.current.bottom) look();
    else setBelow(messages.filter((one) => one.seq > view.current.seen && !mine(one)).length);
  }, [rows]);

  useEffect(() => {
    const watch = new ResizeObserver(() => {
      if (view.current.bottom) toBottom();
      view.current.height = box.current.scrollHeight;
    });
    watch.observe(inner.current);
    watch.observe(box.current);
    const timer = setInterval(() => tick(midnight()), 60_000); // today is yesterday tomorrow
    return () => {
      watch.disconnect();
      clearInterval(timer);
    };
  }, []);
  useEffect(() => {
    const life = new AbortController();
    addEventListener('focus', look, life);
    document.addEventListener('visibilitychange', look, life);
    return () => life.abort();
  });
  function more() {
    if (box.current.scrollTop >= 200) return;
    if (from !== null) setFrom(all[all.findIndex(({ seq }) => seq === from) - MORE]?.seq ?? null);
    else if (older && !loading) onOlder?.();
  }

  // A short conversation does not scroll: fetch until it does.
  useEffect(more, [older, loading, rows]);

  function scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = box.current;
    view.current.bottom = scrollHeight - scrollTop - clientHeight < NEAR;
    if (view.current.bottom) look();
    more();
  }

  const words = i18n.locale.value + midnight();

  /** A row that has not changed is the same node again, at which Preact does not look: there may be thousands. */
  function draw(row) {
    const read = row.message?.seq !== undefined && row.message.seq === lastRead;
    const before = drawn.current.get(row.key);
    if (before && before.read === read && before.words === words && alike(before.row, row)) return before.node;
    const node = html`<${Row} key=${row.key} row=${row} words=${words} i18n=${i18n} who=${who} actions=${actions} read=${read} outbox=${outbox} />`;
    drawn.current.set(row.key, { row, read, words, node });
    return node;
  }

  return html`<div class="log-box">
    <div class="log" ref=${box} role="log" tabindex="0" aria-label=${i18n.t('conversation')} aria-busy=${loading ? 'true' : 'false'} onScroll=${scrolled}>
      <div class="log-inner" ref=${inner}>
        <p class="log-older quiet" aria-hidden="true">${loading && older ? i18n.t('loadingOlder') : ''}</p>
        ${rows.map(draw)}
        ${ending}
      </div>
    </div>
    ${below > 0 && html`<button type="button" class="below" onClick=${() => { toBottom(); look(); }}>
      ${i18n.t('newMessages', { count: below })}<${Icon} name="down" />
    </button>`}
  </div>`;
}

/** The button that takes a message back, as long as that may be done. sent: by the server's clock. */
export function Recall({ sent, ...rest }) {
  const left = sent + RECALL_WITHIN + ahead.value - Date.now();
  const [, draw] = useState();
  useEffect(() => {
    const timer = left > 0 && setTimeout(draw, Math.min(left, DAY), left);
    return () => clearTimeout(timer);
  });
  return left > 0 && html`<${Tool} icon="redo" ...${rest} />`;
}

/** Rows with a key each: one message stays one element from the first try until it is acknowledged. */
function arrange(messages, pending, mine) {
  const rows = [];
  let day = 0;
  let before = null;
  const known = new Set();
  for (const message of messages) {
    if (message.cmid && mine(message)) known.add(message.cmid);
  }
  const all = [...messages, ...pending.filter(({ cmid }) => !known.has(cmid))];
  for (const message of all) {
    const at = message.created_at ?? message.at;
    if (midnight(at) !== day) {
      day = midnight(at);
      rows.push({ key: `day ${day}`, day });
      before = null;
    }
    if (message.note) {
      rows.push({ key: message.key, note: message.note, at });
      before = null;
      continue;
    }
    const own = message.seq === undefined || mine(message);
    const by = message.seq === undefined ? 'me' : `${message.sender.type} ${message.sender.id}`;
    const follows = before !== null && before.own === own && (own || before.by === by) && at - before.at < GROUP;
    if (before && follows) before.row.more = true;
    const key = message.cmid ? `${own ? 'me' : by} ${message.cmid}` : `seq ${message.seq}`;
    const row = { key, message, at, own, follows, more: false };
    rows.push(row);
    before = { row, own, by, at };
  }
  return rows;
}

const alike = (a, b) => ['message', 'follows', 'more', 'day', 'note'].every((key) => a[key] === b[key]);

function Row({ row, i18n, who, actions, read, outbox }) {
  if (row.day) return html`<h3 class="day"><time datetime=${new Date(row.day).toISOString()}>${i18n.day(row.day)}</time></h3>`;
  if (row.note) return html`<p class="note">${row.note}</p>`;
  const { message, own, follows, more, at } = row;
  const name = !follows && who?.(message);
  return html`<div class=${`row ${own ? 'mine' : 'theirs'} ${follows ? 'follows' : ''}`}>
    ${name && html`<p class="who">${name}</p>`}
    <div class="line">
      <div class=${`bubble kind${message.recalled ? 0 : message.file_type} ${message.state === 'failed' ? 'failed' : ''}`}>
        ${message.msg === undefined
          ? html`<${Uploading} entry=${message} i18n=${i18n} />`
          : html`<${Body} message=${message} i18n=${i18n} />`}
      </div>
      ${actions?.(message)}
    </div>
    <${Status} message=${message} own=${own} more=${more} read=${read} at=${at} i18n=${i18n} outbox=${outbox} />
  </div>`;
}

function Status({ message, own, more, read, at, i18n, outbox }) {
  const { t } = i18n;
  if (message.state === 'failed') {
    const { cmid, again = () => outbox.retry(cmid), cancel = () => outbox.discard(cmid) } = message;
    return html`<p class="status bad" role="alert">${t(message.why ?? 'notSent')}
      <button type="button" class="link" onClick=${again}>${t('tryAgain')}</button>
      <button type="button" class="link" onClick=${cancel}>${t('remove')}</button></p>`;
  }
  if (message.seq === undefined) return html`<p class="status">${message.msg === undefined ? '' : t('sending')}</p>`;
  if (more && !read) return null;
  return html`<p class="status"><time datetime=${new Date(at).toISOString()} title=${i18n.full(at)}>${i18n.time(at)}</time>
    ${own && read && html`<span class="seen"><${Icon} name="checks" />${t('read')}</span>`}</p>`;
}

function Uploading({ entry, i18n }) {
  const label = i18n.t('uploading', { name: entry.name });
  return html`<div class="uploading">
    <p class="text">${label}</p>
    ${entry.state !== 'failed' && html`<progress max="1" value=${entry.progress ?? 0} aria-label=${label}></progress>
      <button type="button" class="link" onClick=${entry.cancel}>${i18n.t('cancel')}</button>`}
  </div>`;
}
