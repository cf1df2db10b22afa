/** Numbers for people. */

export function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** 1234567 as "1.23 M": for tiles, where room is short. */
export function short(value: number): string {
  if (value < 10_000) return count(value);
  for (const [limit, factor, unit] of [
    [1e6, 1e3, "k"],
    [1e9, 1e6, "M"],
    [1e12, 1e9, "G"],
  ] as const) {
    if (value < limit) return `${digits(value / factor)} ${unit}`;
  }
  return value.toExponential(2);
}

export function bytes(value: number): string {
  for (const [limit, factor, unit] of [
    [1024, 1, "B"],
    [1024 ** 2, 1024, "KiB"],
    [1024 ** 3, 1024 ** 2, "MiB"],
    [1024 ** 4, 1024 ** 3, "GiB"],
  ] as const) {
    if (value < limit) return `${digits(value / factor)} ${unit}`;
  }
  return `${digits(value / 1024 ** 4)} TiB`;
}

export function seconds(value: number): string {
  if (!(value > 0)) return "0 s";
  if (value < 1e-3) return `${digits(value * 1e6)} µs`;
  if (value < 1) return `${digits(value * 1e3)} ms`;
  if (value < 60) return `${digits(value)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`;
  const minutes = Math.round(value / 60);
  return `${Math.floor(minutes / 60)}h ${pad(minutes % 60)}m`;
}

export function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

function digits(value: number): string {
  if (value >= 99.95) return value.toFixed(0);
  return String(Number(value.toFixed(value >= 9.995 ? 1 : 2)));
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

/** The time of day at which the scheduler's clock stood at `at`. */
export function timeOfDay(at: number, now: number, wall: number): string {
  const date = new Date((wall - (now - at)) * 1000);
  return date.toLocaleTimeString("en-GB");
}
