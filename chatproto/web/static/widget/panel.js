// The whole panel.

import { html, useEffect, useMemo, useRef, useState } from '../vendor/ui.js';
import { Composer } from '../shared/composer.js';
import { Tool } from '../shared/icons.js';
import { pictureUrl, str } from '../shared/kinds.js';
import { Log, Recall } from '../shared/log.js';
import { Header } from './header.js';
import { tell } from './host.js';
import { Rating } from './rating.js';
import { tracked } from './tracked.js';

const TROUBLE_SHOWN = 6_000;

const mine = ({ sender }) => sender.type === 'guest';
const who = ({ sender }) => sender?.type === 'admin' && str(sender.name);

export const Panel = tracked(function Panel({ chat, i18n, title, greeting, draft: before }) {
  const { t } = i18n;
  const locale = i18n.locale.value;
  const [draft, setDraft] = useDraft(before);
  const [trouble, setTrouble] = useTrouble();
  const [over, setOver] = useState(false);
  const thread = chat.thread.value;
  const messages = thread.messages.value;
  const notes = chat.notes.value;
  const uploads = chat.uploads.list.value;
  const entries = chat.outbox.entries.value;
  const shown = useMemo(() => withNotes(messages, notes, t), [messages, notes, locale]);
  const pending = useMemo(() => [...entries, ...uploads], [entries, uploads]);
  const empty = chat.known.value && !shown.length && !pending.length;

  async function takeBack({ seq }) {
    if (!(await chat.recall(seq))) setTrouble(t('tooLate'));
  }
  const actions = (message) => message.seq && mine(message) && !message.recalled
    && html`<${Recall} sent=${message.created_at} class="small" label=${t('recall')} onClick=${() => takeBack(message)} />`;
  const files = (list) => list.forEach((file) => chat.uploads.add('', file));
  const drag = (event) => {
    if (!event.dataTransfer.types.includes('Files')) return;
    setOver(event.type === 'dragover');
    const taken = event.type === 'drop' && event.defaultPrevented; // by the composer
    event.preventDefault();
    if (event.type === 'drop' && !taken) files([...event.dataTransfer.files]);
  };

  return html`<div class="panel" onDragOver=${drag} onDragLeave=${drag} onDrop=${drag}>
    <${Header} chat=${chat} i18n=${i18n} title=${title} />
    ${trouble && html`<p class="bar bad" role="alert">${trouble}</p>`}
    <${Log} key=${thread} i18n=${i18n} messages=${shown} pending=${pending} mine=${mine} who=${who} readSeq=${chat.adminRead.value}
      older=${thread.older.value && chat.known.value} loading=${thread.loading.value} onOlder=${() => thread.loadOlder()}
      actions=${actions} outbox=${chat.outbox}
      ending=${html`${empty && html`<${Hello} greeting=${greeting} t=${t} />`}
        ${chat.typing.value && html`<span class="typing" aria-hidden="true"><i /><i /><i /></span>`}
        <${Rating} chat=${chat} t=${t} />`} />
    <${Offer} chat=${chat} i18n=${i18n} />
    <${Composer} i18n=${i18n} draft=${draft} onDraft=${setDraft} disabled=${chat.link.value === 'closed'}
      onSend=${(text) => {
        setDraft('');
        chat.send(text);
      }}
      onFiles=${files} onVoice=${(blob, duration_ms) => chat.uploads.add('', blob, { voice: true, duration_ms, name: t('kind2') })}
      onTyping=${(now) => chat.tellTyping(now)} onTrouble=${setTrouble} />
    ${over && html`<p class="drop">${t('drop')}</p>`}
  </div>`;
});

function Hello({ greeting, t }) {
  return html`<div class="hello"><h2>${greeting || t('hello')}</h2><p>${t('helloMore')}</p></div>`;
}

/** The product of the page, to be sent with one tap. */
const Offer = tracked(function Offer({ chat, i18n }) {
  const product = chat.offer.value;
  if (!product) return null;
  const { t } = i18n;
  const picture = pictureUrl(product.image);
  return html`<section class="offer" aria-label=${t('looking')}>
    ${picture && html`<img src=${picture} alt="" width="44" height="44" />`}
    <div><span>${t('looking')}</span><b>${str(product.title)}</b></div>
    <button type="button" class="strong" onClick=${() => chat.send(product, 3)}>${t('send')}</button>
    <${Tool} class="small" icon="close" label=${t('hide')} onClick=${() => (chat.product.value = null)} />
  </section>`;
});

/** What happened stands after the message that was the last one then. */
function withNotes(messages, notes, t) {
  const rest = [...notes];
  const lines = [];
  const upTo = (seq) => {
    while (rest.length && rest[0].after < seq) {
      const { at, word, name } = rest.shift();
      lines.push({ note: t(word, { name }), at, key: `${word} ${at}` });
    }
  };
  for (const message of messages) {
    upTo(message.seq);
    lines.push(message);
  }
  upTo(Infinity);
  return lines;
}

/** What is half written outlives a change of page. */
function useDraft(before) {
  const [draft, setDraft] = useState(before);
  const timer = useRef(0);
  return [draft, (text) => {
    setDraft(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => tell('mark', { draft: text }), 300);
  }];
}

function useTrouble() {
  const [text, setText] = useState('');
  useEffect(() => {
    const timer = setTimeout(() => setText(''), TROUBLE_SHOWN);
    return () => clearTimeout(timer);
  }, [text]);
  return [text, setText];
}
