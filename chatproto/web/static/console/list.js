// The list of chats: mine, the queue, ended ones.

import { Component, html, useEffect, useLayoutEffect, useRef, useState } from '../vendor/ui.js';
import { ahead } from '../shared/connection.js';
import { Icon } from '../shared/icons.js';
import { summary } from '../shared/kinds.js';
import { Avatar, explain, nameOf, now, today } from './parts.js';

const TABS = ['mine', 'queue', 'ended'];

export function List({ desk, i18n, onOpen }) {
  const { t } = i18n;
  const [tab, setTab] = useState('mine');
  const [filter, setFilter] = useState('');
  const rows = useRef(null);
  const near = useRef(null);
  const lists = { mine: desk.mine.value, queue: desk.waiting.value, ended: desk.ended.value };
  const selected = desk.selected.value;
  const queue = desk.queue.value;
  const waiting = Math.max(queue.waiting, lists.queue.length);
  const wanted = filter.trim().toLowerCase();
  const shown = wanted ? lists[tab].filter((entry) => nameOf(entry, i18n).toLowerCase().includes(wanted)) : lists[tab];
  const counts = { mine: lists.mine.length, queue: waiting, ended: 0 };
  if (selected !== null) near.current = selected;
  const first = shown.some(({ gid }) => gid === near.current) ? near.current : shown[0]?.gid;

  // A chat that changes its list is followed there, so that it does not vanish from under the reader.
  const state = desk.guests.value.get(selected)?.state;
  useEffect(() => {
    if (state) setTab(state === 'serving' ? 'mine' : state === 'queued' ? 'queue' : state === 'ended' ? 'ended' : tab);
  }, [selected, state]);

  // Alt and an arrow go to the next chat from anywhere: from what is shown, and so before anybody can press them.
  useLayoutEffect(() => {
    const press = (event) => {
      if (!event.altKey || !['ArrowUp', 'ArrowDown'].includes(event.key) || !shown.length || document.querySelector('dialog[open]')) return;
      event.preventDefault();
      const at = shown.findIndex(({ gid }) => gid === selected);
      const next = at < 0 ? 0 : (at + (event.key === 'ArrowDown' ? 1 : -1) + shown.length) % shown.length;
      onOpen(shown[next].gid);
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  });

  async function take(gid) {
    try {
      onOpen(await desk.take(gid));
    } catch (error) {
      explain(error, i18n);
    }
  }

  function move(event) {
    if (event.altKey || !['ArrowUp', 'ArrowDown', 'Home', 'End'].includes(event.key)) return;
    const buttons = [...rows.current.querySelectorAll('.chat-row')];
    const at = buttons.indexOf(document.activeElement);
    if (at < 0) return;
    event.preventDefault();
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
    buttons[Math.max(0, Math.min(to, buttons.length - 1))].focus();
  }

  function moveTab(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length];
    setTab(next);
    event.currentTarget.querySelector(`#tab-${next}`).focus();
  }

  const time = now.value - ahead.value;
  const longest = lists.queue.length ? time - lists.queue[0].queued_at : queue.longest_wait_ms + now.value - queue.at;
  return html`<nav class="list" aria-label=${t('chats')}>
    <div class="tabs" role="tablist" aria-label=${t('chats')} onKeyDown=${moveTab}>
      ${TABS.map((one) => html`<button type="button" role="tab" id=${`tab-${one}`} key=${one} aria-selected=${one === tab ? 'true' : 'false'}
        aria-controls="chats" tabindex=${one === tab ? 0 : -1} onClick=${() => setTab(one)}>
        ${t(one)}${counts[one] > 0 && html`<span class=${`count ${one === 'queue' ? 'warm' : ''}`}>${i18n.number(counts[one])}</span>`}
      </button>`)}
    </div>
    <div class="list-tools">
      <label class="filter"><span class="unseen">${t('filter')}</span><${Icon} name="search" />
        <input type="search" value=${filter} placeholder=${t('filter')} onInput=${(event) => setFilter(event.target.value)} />
      </label>
      ${waiting > 0 && html`<div class="queue-line">
        <p>${t('waiting', { count: waiting })} <span class="quiet">${t('longest', { time: i18n.wait(longest) })}</span></p>
        <button type="button" class="button strong small" onClick=${() => take()}>${t('takeNext')}</button>
      </div>`}
    </div>
    <div id="chats" class="rows" role="tabpanel" aria-labelledby=${`tab-${tab}`} ref=${rows} onKeyDown=${move}>
      ${shown.length > 0 && html`<ul>${shown.map((entry) => html`<${ChatRow} key=${entry.gid} entry=${entry} i18n=${i18n} locale=${i18n.locale.value} me=${desk.me}
        selected=${entry.gid === selected} reachable=${entry.gid === first} typing=${desk.typing.value.has(entry.gid)}
        draft=${desk.drafts.all.value.get(entry.gid)} onOpen=${onOpen} onTake=${take} at=${entry.state === 'queued' ? time : 0} day=${today.value} />`)}</ul>`}
      ${shown.length === 0 && desk.loaded.value && html`<p class="empty quiet">${t(wanted ? 'noMatch' : { mine: 'noMine', queue: 'noQueue', ended: 'noEnded' }[tab])}</p>`}
      ${tab === 'ended' && desk.more.value && !wanted && html`<button type="button" class="button wide" onClick=${() => desk.moreEnded().catch((error) => explain(error, i18n))}>${t('more')}</button>`}
    </div>
  </nav>`;
}

/** Drawn again only when its own guest changes: there may be hundreds. */
class ChatRow extends Component {
  shouldComponentUpdate(next) {
    const now = this.props;
    return ['entry', 'locale', 'selected', 'reachable', 'typing', 'draft', 'at', 'day'].some((key) => now[key] !== next[key]);
  }

  render({ entry, i18n, me, selected, reachable, typing, draft, onOpen, onTake, at }) {
    const { t } = i18n;
    const name = nameOf(entry, i18n);
    const { last_message: last, unread, state } = entry;
    const text = summary(last, t);
    const own = last?.sender.type === 'admin' && last.sender.id === me;
    const line = typing ? t('typing', { name }) : draft && !selected ? t('draftOf', { text: draft }) : own ? t('you', { text }) : text;
    return html`<li>
      <button type="button" class=${`chat-row ${selected ? 'selected' : ''} ${unread ? 'unread' : ''}`} tabindex=${reachable ? 0 : -1}
        aria-current=${selected ? 'true' : undefined} onClick=${() => onOpen(entry.gid)}>
        <${Avatar} name=${name} url=${entry.avatar} id=${entry.gid} online=${entry.online} />
        <span class="row-words">
          <span class="row-name"><bdi>${name}</bdi><span class="unseen">, ${t(entry.online ? 'onLine' : 'offLine')}</span></span>
          <span class=${`row-text ${typing ? 'now' : ''}`}>${line.slice(0, 120)}</span>
        </span>
        <span class="row-side">
          <time datetime=${new Date(entry.last_time).toISOString()} title=${i18n.full(entry.last_time)}>${i18n.short(entry.last_time)}</time>
          ${unread > 0 && state !== 'queued' && html`<span class="badge" aria-label=${t('unread', { count: unread })}>${unread > 99 ? '99+' : unread}</span>`}
          ${state === 'queued' && html`<span class="waits">${i18n.wait(at - entry.queued_at)}</span>`}
        </span>
      </button>
      ${state === 'queued' && html`<button type="button" class="button small take" aria-label=${t('takeGuest', { name })} onClick=${() => onTake(entry.gid)}>${t('take')}</button>`}
    </li>`;
  }
}
