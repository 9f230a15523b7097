// The page: its two parts, what the address asks for, and what is remembered.

import { element, show } from "./elements.ts";
import { ListenPart } from "./listen.ts";
import { TalkPart } from "./talk.ts";
import { whatIsMissing } from "./words.ts";

const TOKEN = "streamcodec-token";

/** What this browser keeps for the page; null where it is told to keep nothing. */
function storage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

function rememberToken(): void {
  const token = element("token", HTMLInputElement);
  const remember = element("remember", HTMLInputElement);
  const kept = storage();
  remember.disabled = kept === null;
  const known = kept?.getItem(TOKEN) ?? null;
  if (known !== null) {
    token.value = known;
    remember.checked = true;
  }
  token.onchange = remember.onchange = () => {
    if (remember.checked && token.value !== "") kept?.setItem(TOKEN, token.value);
    else kept?.removeItem(TOKEN);
  };
}

const named = new URLSearchParams(location.search).get("stream");
if (named !== null) {
  element("listen-stream", HTMLInputElement).value = named;
  element("talk-stream", HTMLInputElement).value = named;
}
const missing = whatIsMissing();
show(element("missing", HTMLElement), missing);
if (missing === null) {
  rememberToken();
  new TalkPart();
  new ListenPart();
  for (const id of ["talk", "listen"]) element(id, HTMLButtonElement).disabled = false;
}
document.documentElement.dataset["ready"] = "true";
