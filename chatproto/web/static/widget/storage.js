// The shop's storage, through the loader: a frame of another site has none of its own that lasts.

import { tell } from './host.js';

const keep = (...entry) => tell('outbox', ...entry);

/** What Outbox needs of a Storage. What is kept in it already, the loader says at the start. */
export const hostStorage = { setItem: keep, removeItem: keep };
