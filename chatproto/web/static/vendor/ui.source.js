// What our pages use of libraries. The build step (setup.py) bundles it into ui.js beside this file.
import htm from 'htm';
import { h } from 'preact';

export { Component, Fragment, h, render } from 'preact';
export { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
export { batch, computed, effect, signal, untracked } from '@preact/signals';

export const html = htm.bind(h);
