// What is said between this frame and the loader in the shop's page. Each message is [name, ...arguments].

let port;

/**
 * Wait for the loader: it hands over a MessagePort, once, with what the page wants.
 * Only pages in `frame-ancestors` can hold this frame, so the parent is the shop.
 * @param {(start: object) => Promise<Record<string, Function>>} begin returns what answers to each name.
 */
export function meet(begin) {
  addEventListener('message', async (event) => {
    const start = event.data?.chatproto;
    if (port || event.source !== parent || !start || !event.ports[0]) return;
    port = event.ports[0];
    // What JSON has, and nothing else: with `constructor: undefined`, say, an object passes for an element of ours.
    const answers = await begin(JSON.parse(JSON.stringify(start)));
    port.onmessage = ({ data: [name, ...rest] }) => answers[name]?.(...rest);
    tell('up');
  });
}

export function tell(name, ...rest) {
  port?.postMessage([name, ...rest]);
}

/** An event of the SDK. */
export const emit = (name, detail) => tell('event', name, detail);
