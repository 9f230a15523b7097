// The page: its two parts, what the address asks for, and what is remembered.

import { element, show } from "./elements.ts";
import { ListenPart } from "./listen.ts";
import { TalkPart } from "./talk.ts";
import { whatIsMissing } from "./words.ts";

const TOKEN = "streamcodec-token";

function rememberToken(): void {
  const token = element("token", HTMLInputElement);
  const remember = element("remember", HTMLInputElement);
  const kept = localStorage.getItem(TOKEN);
  if (kept !== null) {
    token.value = kept;
    remember.checked = true;
  }
  const keep = () => {
    if (remember.checked && token.value !== "") localStorage.setItem(TOKEN, token.value);
    else localStorage.removeItem(TOKEN);
  };
  token.onchange = remember.onchange = keep;
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
