// What the server wrote into the page.

/** An option of the server's, as text. */
export const option = (name) => document.querySelector(`meta[name=chatproto-${name}]`).content;

/** Milliseconds for which a message may be recalled; where it is never, no message is young enough. */
export const RECALL_WITHIN = option('recall-within') * 1000 || -Infinity;
