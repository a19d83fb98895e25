// Components that follow signals. The library does this for all components of a page; for the few of the panel this is
// enough, and the packed panel goes without the library's own (setup.py): it has to be small.

import { effect, useEffect, useRef, useState } from '../vendor/ui.js';

/** A component that is drawn again when a signal that it has read changes. */
export const tracked = (View) => function Tracked(props) {
  const [, draw] = useState(0);
  const stop = useRef(null);
  let drawn;
  let now = true;
  stop.current?.();
  stop.current = effect(() => {
    if (now) drawn = View(props);
    else draw((times) => times + 1);
    now = false;
  });
  useEffect(() => () => stop.current(), []);
  return drawn;
};
