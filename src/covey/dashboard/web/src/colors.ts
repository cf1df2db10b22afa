/**
 * A function has the same colour in every run and on every machine: its name decides.
 * The hues are those of Okabe and Ito, which colour-blind people can tell apart, each in
 * three shades.
 */

const HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8f7ee6", "#a0a832"];
const SHADES = [0, 0.22, -0.18];

const known = new Map<string, string>();

function hash(text: string): number {
  let value = 2166136261;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ text.charCodeAt(i), 16777619);
  }
  return value >>> 0;
}

export function colorOf(label: string): string {
  let color = known.get(label);
  if (color === undefined) {
    const value = hash(label);
    color = shade(HUES[value % HUES.length], SHADES[(value >>> 8) % SHADES.length]);
    known.set(label, color);
  }
  return color;
}

function shade(color: string, by: number): string {
  const parts = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const moved = parts.map((part) => Math.round(by > 0 ? part + (255 - part) * by : part * (1 + by)));
  return `#${moved.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** A colour of the theme, for canvases. */
export function themeColor(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
