// Where the console keeps things over a reload.

/** localStorage, or a substitute where the browser forbids it. */
export function safeStorage() {
  try {
    localStorage.getItem('');
    return localStorage;
  } catch {
    const kept = new Map();
    return {
      get length() { return kept.size; },
      key: (index) => [...kept.keys()][index] ?? null,
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => kept.set(key, value),
      removeItem: (key) => kept.delete(key),
    };
  }
}
