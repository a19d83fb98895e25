// What an agent's desk knows: colleagues, guests, conversations, what is being sent. The pages show it, and change it
// only through its methods.

import { batch, computed, signal } from '../vendor/ui.js';
import { ChatError, Connection } from '../shared/connection.js';
import { Outbox } from '../shared/outbox.js';
import { Thread } from '../shared/thread.js';
import { Uploads } from '../shared/uploads.js';
import { Drafts } from './drafts.js';
import { claims, isOld } from './session.js';
import { safeStorage } from './storage.js';

const TYPING_SHOWN = 6_000;
const LOOK_AT_TOKEN = 60_000;

export class Desk {
  #marked = new Map();
  #typingEnds = new Map();
  #threads = new Map();

  /**
   * @param {string} token
   * @param {object} on
   * @param {(by: 'refused'|'revoked'|'left', code?: number) => void} on.closed
   * @param {(token: string) => void} on.token one that the server has taken, or a new one
   * @param {(what: 'message'|'guest'|'queue', entry: object, message?: object) => void} on.news
   */
  constructor(token, on) {
    this.token = token;
    this.on = on;
    this.me = Number(claims(token).admin_id);
    this.admins = signal({});
    this.guests = signal(new Map());
    this.more = signal(false); // ended ones that are not in the list
    this.queue = signal({ waiting: 0, longest_wait_ms: 0, at: Date.now() });
    this.selected = signal(null);
    this.typing = signal(new Set());
    this.uploads = new Uploads(async () => this.token, (gid, msg, file_type) => this.send(gid, msg, file_type));
    this.notes = signal(new Map()); // gid → lines between the messages
    this.drafts = new Drafts(this.me);
    this.loaded = signal(false);

    const all = (state, order) => computed(() => [...this.guests.value.values()].filter(state).sort(order));
    const newest = (a, b) => b.last_time - a.last_time || b.gid - a.gid;
    this.mine = all((one) => one.state === 'serving' && one.admin_id === this.me, newest);
    this.waiting = all((one) => one.state === 'queued', (a, b) => a.queued_at - b.queued_at || a.gid - b.gid);
    this.ended = all((one) => one.state === 'ended', newest);
    this.unread = computed(() => this.mine.value.reduce((sum, { unread }) => sum + unread, 0));

    let refusedBy = 0;
    this.outbox = new Outbox(
      `chatproto.out.admin.${this.me}.`,
      ({ to, msg, file_type, cmid }) => this.connection.request(32300, { gid: to, msg, file_type, cmid }),
      ({ to }, { message_info }) => this.#keep(to, message_info),
      safeStorage(),
    );
    this.connection = new Connection({
      command: { api_key: 31000, call_type: 3 },
      login: async () => ({ token: this.token, v: 2 }),
      loggedIn: (data) => this.#loggedIn(data),
      push: (api_key, data) => this.#pushed(api_key, data),
      refused: (code) => void (refusedBy = code),
      token: (fresh) => {
        this.token = fresh;
        this.on.token(fresh);
      },
      lost: () => this.refresh(),
    });
    this.connection.state.subscribe((state) => {
      if (state === 'closed') this.#closed(refusedBy);
    });
    this.timer = setInterval(() => isOld(this.token) && this.refresh(), LOOK_AT_TOKEN);
  }

  #closed(code) {
    clearInterval(this.timer);
    this.drafts.stop();
    this.on.closed(this.connection.closedBy, code);
  }

  get ready() {
    return this.connection.state.value === 'ready';
  }

  async leave() {
    this.outbox.clear();
    await this.connection.close(31020);
  }

  // What comes in.

  #loggedIn(data) {
    if (!this.loaded.peek()) this.on.token(this.token);
    this.#list(data);
    this.loaded.value = true;
    this.outbox.flush();
    const open = this.selected.peek();
    if (open !== null) this.#open(open);
  }

  /** The lists as the server has them now. */
  async refresh() {
    try {
      this.#list(await this.connection.request(32000));
    } catch (error) {
      if (!(error instanceof ChatError)) throw error; // else the next log-in brings them
    }
  }

  #list({ admin_list, guest_list, guests_more }) {
    const listed = new Map(Object.values(guest_list).map((entry) => [entry.gid, entry]));
    for (const [gid, entry] of this.guests.peek()) {
      if (listed.has(gid)) continue;
      if (entry.state === 'ended') listed.set(gid, entry);
      else if (gid === this.selected.peek()) listed.set(gid, { ...entry, state: 'away', admin_id: null });
    }
    batch(() => {
      this.admins.value = admin_list;
      this.guests.value = listed;
      this.more.value = guests_more;
      for (const { gid, handover } of listed.values()) {
        if (handover) this.#noteHandover(gid, handover);
      }
    });
    for (const [gid, thread] of this.#threads) {
      const entry = listed.get(gid);
      if (entry) thread.seen(entry.last_seq);
    }
  }

  #pushed(api_key, data) {
    const { gid } = data;
    if (api_key === 32399) {
      this.#stopTyping(gid);
      if (!this.guests.peek().has(gid)) return void this.refresh();
      this.#keep(gid, data.message_info, { unread: data.unread });
      if (!data.message_info.recalls) this.on.news('message', this.guests.peek().get(gid), data.message_info);
    } else if (api_key === 32398) {
      this.#keep(gid, data.message_info);
    } else if (api_key === 32401) {
      const known = this.guests.peek().get(gid);
      this.#change(gid, data.guest_info);
      this.#threads.get(gid)?.start(data.recs, data.guest_info.last_seq);
      if (data.data.from_aix !== null) this.#noteHandover(gid, data.data);
      if (known?.state !== 'serving' || known.admin_id !== this.me) this.on.news('guest', this.guests.peek().get(gid));
    } else if (api_key === 32402) {
      this.#change(gid, data.guest_info);
    } else if (api_key === 32099) {
      const known = this.guests.peek().get(gid);
      this.#change(gid, data);
      this.#threads.get(gid)?.seen(data.last_seq);
      if (data.state === 'queued' && known?.state !== 'queued') this.on.news('queue', data);
    } else if (api_key === 32098) {
      this.queue.value = { ...data, at: Date.now() };
    } else if (api_key === 32299) {
      const { guest_read_seq, read_seq, unread } = data;
      this.#change(gid, { guest_read_seq, read_seq, unread });
    } else if (api_key === 33099) {
      this.admins.value = { ...this.admins.peek(), [data.aix]: data };
    } else if (api_key === 32397) {
      if (data.typing) this.#startTyping(gid);
      else this.#stopTyping(gid);
    }
  }

  /** A message of a conversation, from wherever it comes. */
  #keep(gid, message, fields = {}) {
    this.#threads.get(gid)?.merge([message]);
    const entry = this.guests.peek().get(gid);
    if (!entry) return;
    const change = { ...fields };
    if (message.seq > entry.last_seq) change.last_seq = message.seq;
    if (message.recalls) {
      if (message.recalls === entry.last_message?.seq) change.last_message = { ...entry.last_message, msg: '', file_type: 0, recalled: true };
    } else if (message.seq > (entry.last_message?.seq ?? 0)) {
      change.last_message = message;
      change.last_time = message.created_at;
    }
    this.#change(gid, change);
  }

  #change(gid, fields) {
    const guests = new Map(this.guests.peek());
    guests.set(gid, { ...guests.get(gid), ...fields });
    this.guests.value = guests;
  }

  #noteHandover(gid, { from_aix, note, at }) {
    const notes = new Map(this.notes.peek());
    const line = { key: `handover ${at}`, at, from_aix, note: note ?? '' };
    notes.set(gid, [...(notes.get(gid) ?? []).filter(({ key }) => key !== line.key), line]);
    this.notes.value = notes;
  }

  #startTyping(gid) {
    clearTimeout(this.#typingEnds.get(gid));
    this.#typingEnds.set(gid, setTimeout(() => this.#stopTyping(gid), TYPING_SHOWN));
    if (!this.typing.peek().has(gid)) this.typing.value = new Set([...this.typing.peek(), gid]);
  }

  #stopTyping(gid) {
    clearTimeout(this.#typingEnds.get(gid));
    if (this.typing.peek().has(gid)) this.typing.value = new Set([...this.typing.peek()].filter((one) => one !== gid));
  }

  // What the agent does.

  select(gid) {
    batch(() => {
      this.selected.value = gid;
      this.drafts.open(gid);
    });
    if (gid !== null && this.ready) this.#open(gid);
  }

  #open(gid) {
    const thread = this.thread(gid);
    if (thread.whole === null) void thread.loadOlder();
    else thread.seen(this.guests.peek().get(gid)?.last_seq ?? 0);
  }

  thread(gid) {
    if (!this.#threads.has(gid)) {
      this.#threads.set(gid, new Thread((parameters) => this.connection.request(32100, { gid, group_id: this.#group(gid), ...parameters })));
    }
    return this.#threads.get(gid);
  }

  #group(gid) {
    return this.guests.peek().get(gid)?.group_id ?? this.admins.peek()[this.me]?.group_id;
  }

  send(gid, msg, file_type = 0) {
    this.outbox.add(gid, msg, file_type);
  }

  /** Everything up to seq was in view. */
  seen(gid, seq) {
    const entry = this.guests.peek().get(gid);
    if (!entry || !this.ready || entry.read_seq >= seq || (this.#marked.get(gid) ?? 0) >= seq) return;
    if (entry.state === 'serving' ? entry.admin_id !== this.me : entry.state !== 'ended') return;
    this.#marked.set(gid, seq);
    this.connection.request(32200, { gid, group_id: entry.group_id, seq }).then(
      ({ read_seq, unread }) => this.#change(gid, { read_seq, unread }),
      (error) => error.passing && this.#marked.delete(gid),
    );
  }

  tellTyping(gid, typing) {
    const entry = this.guests.peek().get(gid);
    if (entry?.state === 'serving' && entry.admin_id === this.me) this.connection.tell(32330, { gid, typing });
  }

  /** Take a guest, or the longest waiting one. Returns the gid. */
  async take(gid) {
    const data = await this.connection.request(32020, gid ? { gid } : {});
    this.#change(data.gid, data.guest_info);
    this.#threads.get(data.gid)?.start(data.recs, data.guest_info.last_seq);
    return data.gid;
  }

  async end(gid) {
    await this.connection.request(32060, { gid });
  }

  async transfer(gid, aix, note) {
    const data = await this.connection.request(32400, { gid, aix, ...(note && { note }) });
    this.#change(gid, data.guest_info);
  }

  async recall(gid, seq) {
    const { message_info } = await this.connection.request(32310, { gid, seq });
    this.#keep(gid, message_info);
  }

  async suspend(status) {
    await this.connection.request(32500, { status: status ? 1 : 0 });
    const mine = this.admins.peek()[this.me];
    if (mine) this.admins.value = { ...this.admins.peek(), [this.me]: { ...mine, status: status ? 2 : 1 } };
  }

  /** Another page of ended ones. */
  async moreEnded() {
    const page = Math.floor(this.ended.peek().length / 100) + 1;
    const data = await this.connection.request(32000, { state: 'ended', page_index: page });
    const guests = new Map(this.guests.peek());
    for (const entry of Object.values(data.guest_list)) guests.set(entry.gid, { ...guests.get(entry.gid), ...entry });
    batch(() => {
      this.guests.value = guests;
      this.more.value = data.guests_more;
    });
  }

  sendFile(gid, file, how) {
    this.uploads.add(gid, file, how);
  }
}
