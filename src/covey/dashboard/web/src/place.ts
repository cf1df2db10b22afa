/** Where the page stands: all of it is in the address, so that a link leads back here. */

import { useEffect, useState } from "preact/hooks";

export interface Place {
  page: string;
  rest: string;
  params: URLSearchParams;
}

export function place(): Place {
  const [, page = "", rest = "", query = ""] = location.hash.match(/^#\/([^/?]*)\/?([^?]*)\??(.*)$/) ?? [];
  return { page, rest: decodeURIComponent(rest), params: new URLSearchParams(query) };
}

export function usePlace(): Place {
  const [, redraw] = useState(0);
  useEffect(() => {
    const moved = () => redraw((n) => n + 1);
    window.addEventListener("hashchange", moved);
    return () => window.removeEventListener("hashchange", moved);
  }, []);
  return place();
}

/** A choice on this page, kept in the address; the usual one is left out of it. */
export function useParam(name: string, usual = ""): [string, (value: string) => void] {
  const { page, rest, params } = usePlace();
  const set = (value: string) => {
    const changed = place().params;
    if (value === usual) changed.delete(name);
    else changed.set(name, value);
    const query = changed.toString();
    const path = rest ? `${page}/${encodeURIComponent(rest)}` : page;
    history.replaceState(null, "", `#/${path}${query ? `?${query}` : ""}`);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  };
  return [params.get(name) ?? usual, set];
}
