// The guest's conversation: what the server says, as signals, and what the guest does.

import { batch, computed, effect, signal } from '../vendor/ui.js';
import { Connection } from '../shared/connection.js';
import { PRODUCT } from '../shared/files.js';
import { Outbox } from '../shared/outbox.js';
import { Thread } from '../shared/thread.js';
import { Uploads } from '../shared/uploads.js';
import { emit, tell } from './host.js';
import { hostStorage } from './storage.js';

const LOGIN = { api_key: 21000, call_type: 1 };
const LOGOUT = 21020;
const END = 22060;
const HISTORY = 22100;
const READ = 22200;
const SEND = 22300;
const RECALL = 22310;
const TYPING = 22330;
const CONTEXT = 22600;
const RATE = 22650;
const QUEUE_CHANGED = 22098;
const STANDING_CHANGED = 22099;
const MARKS_MOVED = 22299;
const ADMIN_TYPES = 22397;
const OWN_MESSAGE = 22398;
const ADMIN_MESSAGE = 22399;

const MALFORMED = -9998;
const GUEST_TOKEN_BAD = -21002;

const TYPING_SHOWN = 6_000;
const ASK_AGAIN = 5_000;
const RENEW_AFTER = 1_000;
const RENEW_AGAIN = 60_000;
const ENDED = ['ended_by_guest', 'ended_by_admin', 'timeout'];

export class Conversation {
  state = signal('new');
  admin = signal(null); // {aix, name, avatar}
  queue = signal(null); // {position, waiting, admins_online}
  unread = signal(0);
  adminRead = signal(0);
  typing = signal(false);
  rating = signal(null); // null, 'ask', 'thanks'
  notes = signal([]); // {after: seq, at, word, name}: what happened while the panel was there
  product = signal(null); // of the page, until it is hidden
  opened = signal(false);
  known = signal(false); // the conversation is here
  #begin;
  #begun = new Promise((resolve) => (this.#begin = resolve));

  #visible = signal(document.visibilityState === 'visible');
  #tried = '';
  #credentials = {};
  #told = null;
  #gid;
  #typingTimer = 0;
  #reading = false;
  #renewed = -Infinity;
  #rating;

  /** @param {object} start what the loader says: group, context, and what is kept in the shop's storage */
  constructor({ group, context, mark, outbox }) {
    this.group = Number(group) || undefined;
    this.context = context;
    this.#gid = mark.gid;
    this.#rating = mark.rate;
    this.thread = signal(this.#newThread());
    this.outbox = new Outbox('', (entry) => this.#deliver(entry), (_, data) => this.#delivered(data), hostStorage, outbox);
    this.uploads = new Uploads(() => this.#token(), (_, msg, file_type) => this.send(msg, file_type));
    this.#offerOf(context);
    this.connection = signal(this.#connect());
    this.link = computed(() => this.connection.value.state.value);
    this.offer = computed(() => this.#offered()); // the product, where it is to be sent with one tap
    document.addEventListener('visibilitychange', () => (this.#visible.value = document.visibilityState === 'visible'));
    effect(() => this.#tellMessages(this.thread.value, this.thread.value.messages.value));
    effect(() => {
      const read = this.opened.value && this.#visible.value && this.link.value === 'ready' && this.unread.value;
      if (read) this.#read();
    });
    // Revoked: the customer's token was over, and the shop may have another by now. Once a minute, as it may mean what it
    // says; of an anonymous guest it always does.
    effect(() => {
      if (this.link.value !== 'closed' || this.connection.value.closedBy !== 'revoked' || !this.#credentials.token) return;
      if (performance.now() - this.#renewed < RENEW_AGAIN) return;
      this.#renewed = performance.now();
      setTimeout(() => this.relogin(), RENEW_AFTER);
    });
    for (const name of ['state', 'admin', 'queue', 'unread']) {
      effect(() => {
        const value = this[name].value;
        if (this.known.value) emit(name === 'admin' ? 'agent' : name, value);
      });
    }
  }

  // Who the guest is.

  #connect() {
    return new Connection({
      command: LOGIN,
      login: () => this.#logIn(),
      loggedIn: (data) => this.#loggedIn(data),
      push: (api_key, data) => this.#pushed(api_key, data),
      refused: (code) => this.#refused(code),
      token: (token) => {
        this.#credentials.token = token;
        tell('user', token);
      },
      lost: () => this.thread.value.catchUp(),
    });
  }

  async #logIn() {
    tell('login');
    const told = await new Promise((resolve) => (this.#told = resolve));
    if (!told) {
      setTimeout(() => this.link.value === 'connecting' && this.connection.value.logIn(), ASK_AGAIN);
      return null;
    }
    const { token, guest_token } = (this.#credentials = told);
    this.#tried = guest_token;
    return {
      ...(token && { token }),
      ...(guest_token && { guest_token }),
      ...(this.group && { group_id: this.group }),
      context: this.context,
    };
  }

  /** The loader's answer: the shop's token and the guest's own, or nothing for now. */
  credentials(token, guest_token) {
    this.#told?.({ token, guest_token });
  }

  later() {
    this.#told?.(null);
  }

  /** With whatever the shop's page says now: it may have another token, or another tab has. */
  relogin() {
    if (this.link.value === 'closed') this.connection.value = this.#connect();
    else this.connection.value.reconnect();
  }

  #loggedIn(data) {
    const moved = this.#gid !== undefined && this.#gid !== data.gid;
    this.#credentials.guest_token = data.guest_token;
    tell('in', data.guest_token);
    batch(() => {
      // Somebody else: what waits was not written by them. An anonymous guest who signed in is the same person.
      if (moved && !this.#tried) this.outbox.clear();
      if (moved) {
        this.thread.value = this.#newThread();
        this.notes.value = [];
      }
      this.#gid = data.gid;
      this.thread.value.heard ??= data.last_seq;
      this.#stand(data);
      this.unread.value = data.unread;
      this.adminRead.value = data.admin_read_seq;
      this.thread.value.start(data.recs, data.last_seq);
      this.known.value = true;
      this.#begin();
      if (this.#rating && data.state === 'ended') this.rating.value = 'ask';
    });
    tell('mark', { gid: data.gid, seen: data.last_seq > 0 });
    this.outbox.flush();
  }

  #refused(code) {
    if (code === GUEST_TOKEN_BAD) {
      tell('refused', this.#tried);
      return true;
    }
    tell('refused');
    emit('error', { code, message: 'log-in refused' });
    // A context that the server does not take is a fault of the page's, and no reason not to talk.
    const again = code === MALFORMED && this.context !== undefined;
    this.context = undefined;
    return again;
  }

  /** Only who has been logged in has one. */
  async #token() {
    await this.#begun;
    return this.#credentials.token || this.#credentials.guest_token;
  }

  async reset() {
    this.outbox.clear();
    await this.connection.value.close(LOGOUT);
  }

  // What the server says.

  #newThread() {
    return new Thread((parameters) => this.connection.value.request(HISTORY, parameters));
  }

  #pushed(api_key, data) {
    batch(() => {
      if ('unread' in data) this.unread.value = data.unread;
      if ('admin_read_seq' in data) this.adminRead.value = data.admin_read_seq;
      if (api_key === ADMIN_MESSAGE || api_key === OWN_MESSAGE) {
        this.thread.value.merge([data.message_info]);
        if (api_key === ADMIN_MESSAGE) this.#types(false);
      } else if (api_key === STANDING_CHANGED) {
        this.#standingChanged(data);
      } else if (api_key === QUEUE_CHANGED) {
        this.queue.value = data.queue;
      } else if (api_key === ADMIN_TYPES) {
        this.#types(data.typing);
      }
    });
    if (api_key === MARKS_MOVED) this.thread.value.seen(Math.max(data.read_seq, data.admin_read_seq));
  }

  #stand({ state, admin, queue }) {
    this.state.value = state;
    if (admin !== undefined) this.admin.value = admin;
    this.queue.value = queue;
  }

  #standingChanged(data) {
    const before = this.admin.value;
    this.#stand(data);
    if (data.reason === 'admin_lost' && before) this.#note('left', before.name);
    if (data.admin && data.admin.aix !== before?.aix) this.#note('joined', data.admin.name);
    if (ENDED.includes(data.reason)) {
      this.#note('ended');
      this.#types(false);
      if (this.thread.value.messages.value.some(({ sender }) => sender.type === 'admin')) this.#rate('ask');
    } else if (this.rating.value) {
      this.#rate(null);
    }
  }

  #note(word, name = '') {
    const after = this.thread.value.messages.value.at(-1)?.seq ?? 0;
    this.notes.value = [...this.notes.value, { after, at: Date.now(), word, name }];
  }

  #types(now) {
    clearTimeout(this.#typingTimer);
    this.typing.value = now;
    if (now) this.#typingTimer = setTimeout(() => (this.typing.value = false), TYPING_SHOWN);
  }

  /** Events for the shop's page, in order and once; what came while there was no connection, too. */
  #tellMessages(thread, messages) {
    if (thread.heard === undefined) return;
    for (const message of messages) {
      if (message.seq <= thread.heard || message.seq > thread.whole) continue;
      thread.heard = message.seq;
      if (message.sender.type === 'admin' && !message.recalled) emit('message', message);
    }
  }

  async #read() {
    if (this.#reading) return;
    this.#reading = true;
    try {
      this.unread.value = (await this.connection.value.request(READ)).unread;
    } catch (error) {
      if (error.code === undefined) throw error; // else the next log-in or message says how many there are
    } finally {
      this.#reading = false;
    }
  }

  // What the guest does.

  /** Send a text, or what the shop's page hands over. */
  send(msg, file_type = 0) {
    this.outbox.add('', msg, file_type);
  }

  #deliver({ msg, file_type, cmid }) {
    return this.connection.value.request(SEND, { msg, file_type, cmid });
  }

  #delivered({ message_info, state, queue, dup }) {
    batch(() => {
      this.thread.value.merge([message_info]);
      if (!dup) this.#stand({ state, queue });
    });
    tell('mark', { seen: true });
    emit('sent', message_info);
  }

  tellTyping(typing) {
    this.connection.value.tell(TYPING, { typing });
  }

  /** @returns {Promise<boolean>} whether it is gone */
  async recall(seq) {
    try {
      this.thread.value.merge([(await this.connection.value.request(RECALL, { seq })).message_info]);
      return true;
    } catch (error) {
      if (error.code === undefined) throw error;
      return false;
    }
  }

  async end() {
    await this.connection.value.request(END).catch(() => {});
  }

  setContext(context) {
    if (JSON.stringify(context) === JSON.stringify(this.context)) return;
    this.context = context;
    this.#offerOf(context);
    this.connection.value.request(CONTEXT, { context }).catch(({ code, message }) => {
      if (code) emit('error', { code, message }); // else the next log-in brings it
    });
  }

  #offerOf({ product }) {
    this.product.value = product?.title ? product : null;
  }

  /** While the conversation goes on, and is without it. */
  #offered() {
    const product = this.product.value;
    const sent = ({ sender, file_type, msg }) => file_type === PRODUCT && sender?.type !== 'admin' && msg?.id === product.id;
    return product && this.known.value && this.state.value !== 'ended'
      && ![...this.thread.value.messages.value, ...this.outbox.entries.value].some(sent) && product;
  }

  #rate(how) {
    this.rating.value = how;
    this.#rating = how === 'ask';
    tell('mark', { rate: this.#rating });
  }

  /** score: 1 to 5, or nothing where the guest does not want to. */
  async rate(score, text) {
    if (!score) return this.#rate(null);
    try {
      await this.connection.value.request(RATE, { score, ...(text && { text }) });
      this.#rate('thanks');
    } catch ({ passing }) {
      if (!passing) this.#rate(null); // such as one that is rated already
    }
  }
}
