// Says when what is on the page can no longer be brought up to date.
"use strict";

const unreached = document.getElementById("unreached");

document.addEventListener("htmx:error", () => { unreached.hidden = false; });
document.addEventListener("htmx:after:request", (event) => {
  unreached.hidden = event.detail.ctx.response.status < 500;
});
