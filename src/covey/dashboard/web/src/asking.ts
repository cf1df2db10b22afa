/** Questions that are asked again and again while their page is open. */

import { useEffect, useState } from "preact/hooks";
import { ask } from "./store";

export function useAnswer<T>(path: string, seconds = 3): [T | null, string] {
  const [answer, setAnswer] = useState<T | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let alive = true;
    let timer = 0;
    const again = () => {
      ask<T>(path).then(
        (found) => {
          if (!alive) return;
          setAnswer(found);
          setProblem("");
        },
        (error: Error) => alive && setProblem(error.message),
      ).finally(() => {
        if (alive) timer = window.setTimeout(again, 1_000 * seconds * (document.hidden ? 5 : 1));
      });
    };
    again();
    return () => {
      alive = false;
      clearTimeout(timer);
    };
  }, [path]);
  return [answer, problem];
}
