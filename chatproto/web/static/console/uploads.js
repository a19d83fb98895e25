// Files on their way to the server; what arrives is sent as a message.

import { signal } from '../vendor/ui.js';
import { ChatError } from '../shared/connection.js';
import { messageOf, upload } from '../shared/files.js';
import { newCmid } from '../shared/outbox.js';

export class Uploads {
  /**
   * @param {() => string} token of the connection
   * @param {(to: number, msg: object, file_type: number) => void} send
   */
  constructor(token, send) {
    this.token = token;
    this.send = send;
    this.list = signal([]); // {cmid, to, name, at, state: 'uploading' | 'failed', progress, code, cancel, again}
  }

  get underWay() {
    return this.list.peek().some(({ state }) => state === 'uploading');
  }

  /** Upload a file and send it as the message that the server makes of it. */
  async start(to, file, { voice = false, duration_ms, name = file.name ?? '' } = {}) {
    const cmid = newCmid();
    const sending = upload(file, { token: this.token(), name, progress: (progress) => this.#change(cmid, { progress }) });
    const again = () => {
      this.drop(cmid);
      void this.start(to, file, { voice, duration_ms, name });
    };
    const cancel = () => {
      this.drop(cmid);
      sending.cancel();
    };
    this.list.value = [...this.list.peek(), { cmid, to, name, at: Date.now(), state: 'uploading', progress: 0, cancel, again }];
    try {
      const [file_type, msg] = messageOf(await sending.done, { voice, duration_ms, name });
      this.drop(cmid);
      this.send(to, msg, file_type);
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      this.#change(cmid, { state: 'failed', code: error.code });
    }
  }

  drop(cmid) {
    this.list.value = this.list.peek().filter((one) => one.cmid !== cmid);
  }

  #change(cmid, fields) {
    this.list.value = this.list.peek().map((one) => (one.cmid === cmid ? { ...one, ...fields } : one));
  }
}
