// The page's elements by their ids, and small changes to them.

/** The element of this id and kind. Throws where the page has none: then page and program do not go together. */
export function element<E extends Element>(id: string, kind: new () => E): E {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} with the id ${id}`);
  return found;
}

/** Set a text, only where it changes: screen readers speak what changes. */
export function say(target: Element, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

/** Show a text, or hide its element where there is none. */
export function show(target: HTMLElement, text: string | null): void {
  target.hidden = text === null;
  if (text !== null) say(target, text);
}

export const seconds = (value: number): string => `${value.toFixed(1)} s`;
/** Milliseconds, or seconds where there are many of them. */
export const milliseconds = (value: number): string => (value < 999.5 ? `${Math.round(value)} ms` : seconds(value / 1000));
export const rate = (kbps: number): string => `${kbps < 10 ? kbps.toFixed(1) : Math.round(kbps)} kbps`;

export function size(bytes: number): string {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}
