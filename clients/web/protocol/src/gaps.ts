// What is missing in one place is named once: adjacent gaps become one.

import { SILENCE } from "./messages.ts";
import type { Gap } from "./messages.ts";

/** Two gaps that follow each other as one; it has the later one's reason, unless that is silence: what was lost is not silence. */
export function joinedGap(earlier: Gap, later: Gap): Gap {
  return { ...earlier, count: earlier.count + later.count, reason: later.reason === SILENCE ? earlier.reason : later.reason };
}

/** The first number behind a gap. */
export function afterGap(gap: Pick<Gap, "first_seq" | "count">): number {
  return gap.first_seq + gap.count;
}
