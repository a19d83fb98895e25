// One conversation: head, messages, composer.

import { html, useEffect, useLayoutEffect, useMemo, useState } from '../vendor/ui.js';
import { Composer, composing } from '../shared/composer.js';
import { ORDER, PRODUCT } from '../shared/files.js';
import { Icon, Tool } from '../shared/icons.js';
import { Log, Recall } from '../shared/log.js';
import { CardForm, EndQuestion, Transfer } from './dialogs.js';
import { Avatar, explain, nameOf, say } from './parts.js';

export function Chat({ gid, desk, i18n, onBack, onDetails }) {
  const { t } = i18n;
  const [dialog, setDialog] = useState(null);
  const [over, setOver] = useState(0);
  const entry = desk.guests.value.get(gid);
  const thread = desk.thread(gid);
  const messages = thread.messages.value;
  const notes = desk.notes.value.get(gid);
  const outbox = desk.outbox.entries.value;
  const uploads = desk.uploads.list.value;
  const name = nameOf(entry, i18n);
  const mineNow = entry.state === 'serving' && entry.admin_id === desk.me;
  const others = entry.state === 'away' || (entry.state === 'serving' && !mineNow);
  const locale = i18n.locale.value;

  const older = thread.older.value;
  const shown = useMemo(() => withNotes(messages, notes, older, desk.admins.peek(), i18n), [messages, notes, older, locale]);
  const pending = useMemo(
    () => [
      ...outbox.map((one) => (one.state === 'failed' ? { ...one, why: why(one.code, i18n) } : one)),
      ...uploads,
    ].filter(({ to }) => to === gid),
    [outbox, uploads, gid],
  );
  const mine = useMemo(() => ({ sender }) => sender?.type === 'admin' && sender.id === desk.me, [desk]);
  const who = useMemo(() => ({ sender }) => sender?.type === 'admin' && sender.id !== desk.me && sender.name, [desk]);
  const actions = useMemo(() => (message) => {
    if (!mine(message) || message.recalled || message.seq === undefined) return null;
    return html`<${Recall} sent=${message.created_at} class="recall" label=${t('recall')} onClick=${() => recall(message.seq)} />`;
  }, [desk, gid, locale]);

  function recall(seq) {
    desk.recall(gid, seq).catch((error) => (error.code === -32314 ? say(t('tooLate')) : explain(error, i18n)));
  }
  const act = (promise) => promise.catch((error) => explain(error, i18n));
  const close = () => setDialog(null);

  // Who opened a chat means to write; on a phone that would bring up the keyboard over what is to be read.
  useEffect(() => {
    if (matchMedia('(pointer: fine)').matches) document.querySelector('.chat textarea')?.focus();
  }, []);
  // Before anybody can press a key that belongs to what is shown.
  useLayoutEffect(() => {
    const press = (event) => {
      if (event.key === 'Escape' && !event.defaultPrevented && !composing(event) && !document.querySelector('dialog[open]')) onBack();
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  });

  const files = (list) => list.forEach((file) => desk.sendFile(gid, file));
  const drop = {
    onDragEnter: () => setOver((count) => count + 1),
    onDragLeave: () => setOver((count) => Math.max(0, count - 1)),
    onDragOver: (event) => event.preventDefault(),
    onDrop: (event) => {
      setOver(0);
      if (event.defaultPrevented) return;
      event.preventDefault();
      if (!others) files([...(event.dataTransfer?.files ?? [])]);
    },
  };

  return html`<main class="chat" ...${drop}>
    <header class="chat-head">
      <${Tool} class="back" icon="back" label=${t('back')} onClick=${onBack} />
      <${Avatar} name=${name} url=${entry.avatar} id=${gid} online=${entry.online} />
      <div class="chat-title">
        <h2><bdi>${name}</bdi></h2>
        <p class="quiet">${t(entry.online ? 'onLine' : 'offLine')}</p>
      </div>
      ${mineNow && html`
        <button type="button" class="button small" aria-label=${t('transfer')} onClick=${() => setDialog('transfer')}><${Icon} name="people" /><span>${t('transfer')}</span></button>
        <button type="button" class="button small" aria-label=${t('end')} onClick=${() => setDialog('end')}><${Icon} name="check" /><span>${t('end')}</span></button>`}
      <${Tool} class="info" icon="info" label=${t('details')} onClick=${onDetails} />
    </header>
    <${Log} i18n=${i18n} messages=${shown} pending=${pending} mine=${mine} readSeq=${entry.guest_read_seq}
      older=${older && desk.ready} loading=${thread.loading.value} onOlder=${() => thread.loadOlder()}
      onSeen=${(seq) => desk.seen(gid, seq)} who=${who} actions=${actions}
      outbox=${desk.outbox}
      ending=${desk.typing.value.has(gid) && html`<p class="typing" role="status"><span class="unseen">${t('typing', { name })}</span><i></i><i></i><i></i></p>`} />
    <footer class="chat-foot">
      ${entry.state === 'queued' && html`<div class="hint"><p>${t('waitsHere')}</p>
        <button type="button" class="button strong small" onClick=${() => act(desk.take(gid))}>${t('take')}</button></div>`}
      ${entry.state === 'ended' && html`<div class="hint"><p>${t('endedHere')}</p></div>`}
      ${others && html`<div class="hint"><p>${otherServes(entry, desk, i18n)}</p></div>`}
      <${Writing} gid=${gid} desk=${desk} i18n=${i18n} disabled=${others} onFiles=${files} onCard=${setDialog} />
    </footer>
    ${over > 0 && !others && html`<div class="drop" aria-hidden="true"><p>${t('file')}</p></div>`}
    ${dialog === 'transfer' && html`<${Transfer} desk=${desk} entry=${entry} i18n=${i18n} onClose=${close} onDone=${() => {
      close();
      onBack();
    }} />`}
    ${dialog === 'end' && html`<${EndQuestion} name=${name} i18n=${i18n} onClose=${close} onEnd=${() => {
      close();
      act(desk.end(gid));
    }} />`}
    ${(dialog === 'product' || dialog === 'order') && html`<${CardForm} kind=${dialog === 'product' ? PRODUCT : ORDER} i18n=${i18n} onClose=${close}
      onSend=${(kind, card) => {
        close();
        desk.send(gid, card, kind);
      }} />`}
  </main>`;
}

/** A part of its own, so that a key press draws nothing else. */
function Writing({ gid, desk, i18n, disabled, onFiles, onCard }) {
  const { t } = i18n;
  const cards = [['product', 'tag', 'productCard'], ['order', 'box', 'orderCard']];
  return html`<${Composer} i18n=${i18n} draft=${desk.drafts.now.value} disabled=${disabled} onDraft=${(text) => desk.drafts.write(gid, text)}
    onSend=${(text) => {
      desk.send(gid, text);
      desk.drafts.write(gid, '');
    }}
    onFiles=${onFiles} onTyping=${(typing) => desk.tellTyping(gid, typing)} onTrouble=${say}
    onVoice=${(blob, duration_ms) => desk.sendFile(gid, blob, { voice: true, duration_ms, name: t('kind2') })}>
    ${cards.map(([kind, icon, word]) => html`<button type="button" class="tool card-tool" key=${kind} disabled=${disabled} aria-label=${t(word)}
      title=${t(word)} onClick=${() => onCard(kind)}><${Icon} name=${icon} /></button>`)}
  <//>`;
}

function otherServes(entry, desk, i18n) {
  const name = desk.admins.value[entry.admin_id]?.name;
  return name ? i18n.t('otherServes', { name }) : i18n.t('somebodyServes');
}

/** The word that says why a message was not sent. */
function why(code, i18n) {
  const key = `e${code}`;
  return i18n.t(key) === key ? 'notSent' : key;
}

/** Messages and what else happened, in the order of time; what happened before the oldest message here comes with older ones. */
function withNotes(messages, notes, older, admins, i18n) {
  const from = older ? (messages[0]?.created_at ?? Infinity) : 0;
  const here = notes?.filter(({ at }) => at >= from) ?? [];
  if (!here.length) return messages;
  const lines = here.map(({ key, at, from_aix, note }) => {
    const name = admins[from_aix]?.name ?? String(from_aix);
    const words = i18n.t(note ? 'fromColleagueNote' : 'fromColleague', { name, note });
    return { key, created_at: at, at, note: note ? html`<span class="handed">${words}</span>` : words };
  });
  const all = [...messages];
  for (const line of lines) {
    const at = all.findIndex((one) => one.created_at > line.at);
    all.splice(at < 0 ? all.length : at, 0, line);
  }
  return all;
}
