// A page that is opened by a link of ours does not load anew: its title and the focus follow here.
"use strict";

new MutationObserver(() => {
  const heading = document.querySelector("main h1");
  const title = heading ? `${heading.textContent} – vaegen_ray` : "vaegen_ray";
  if (document.title === title) return;
  const first = document.title === "vaegen_ray";
  document.title = title;
  if (!first) document.getElementById("main").focus();
}).observe(document.documentElement, { childList: true, subtree: true });

const alivePath = new URL("../alive", document.currentScript.src);  // behind the prefix of a proxy, too

// Nothing on a page whose server has ended changes any more, and it would go on saying that a sweep runs.
setInterval(async () => {
  const alive = await fetch(alivePath, { cache: "no-store" }).then(answer => answer.ok, () => false);
  const note = document.getElementById("gone");
  if (!note || note.hidden === alive) return;
  const since = new Date().toLocaleTimeString();
  note.textContent = alive ? "" : `The server of this page does not answer since ${since}; what stands here is from before. `
    + "The page of --dashboard ends with its sweep; vaegen dashboard shows the results again.";
  note.hidden = alive;
}, 5000);
