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
